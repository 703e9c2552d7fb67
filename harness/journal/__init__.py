"""What a run records as it goes, and how that is read and gathered afterwards.

Imports: nothing.
"""
