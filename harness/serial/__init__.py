"""The serial ports: the console with its lines and a person at it, and the harness's agent on the second one.

Imports: verdict.
"""
