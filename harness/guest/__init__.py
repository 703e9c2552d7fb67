"""What is asked of a running node and what it leaves: kubelet, SSH, screen, logs, frames.

Imports: storage, verdict.
"""
