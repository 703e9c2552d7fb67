"""Container images: their names, the store on a disk, and the registry that serves them.

Imports: storage.
"""
