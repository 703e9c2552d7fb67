"""Container images: their names, the store on a disk, the registry that serves them.

Imports: storage.
"""
