"""Disks: overlays, partition tables, ext4, and what is put on them.

Imports: nothing.
"""
