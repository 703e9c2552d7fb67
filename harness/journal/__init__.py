"""What a run writes down as it goes, for whoever asks afterwards, and how that is read again.

Imports: nothing.
"""
