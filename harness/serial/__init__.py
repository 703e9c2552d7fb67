"""The serial console: its lines, a shell on it, and a person at it.

Imports: verdict.
"""
