"""The serial ports: the console with its lines and its user, and the harness's agent on the second port.

Imports: verdict.
"""
