"""The report of runs: one self-contained HTML page, and the same as JSON.

Imports: history, journal, qualification, vm, wire.
"""
