"""Whether an image may go out: machines, tiers, the plan of their runs, the canaries, and the answer.

Imports: journal.
"""
