"""What was heard of a node, the one wait on it, and what comes of a wait.

Imports: nothing.
"""
