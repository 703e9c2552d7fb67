"""What is asked of a running node and what it leaves: kubelet, SSH, screen, logs.

Imports: manifests, serial, storage, verdict.
"""
