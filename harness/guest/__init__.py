"""What a running node is asked, and what it leaves: kubelet, SSH, screen, logs.

Imports: manifests, serial, storage, verdict.
"""
