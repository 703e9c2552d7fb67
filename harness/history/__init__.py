"""The nights before: one line each, and where a curve over them changed.

Imports: nothing.
"""
