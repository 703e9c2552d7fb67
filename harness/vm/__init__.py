"""QEMU: the machine as a value, its firmware, its accelerator, its process and its protocol.

Imports: serial, storage, verdict.
"""
