"""Nodes: made, booted, cloned and ended, on a host that has room for them.

Imports: containers, guest, manifests, serial, storage, verdict, vm, wire.
"""
