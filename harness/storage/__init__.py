"""Disks: overlays, partition tables, file systems, and the files that are put on them.

Imports: nothing.
"""
