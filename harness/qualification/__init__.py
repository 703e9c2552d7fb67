"""Whether an image can be released: machines, tiers, the plan of their runs, the canaries, and the answer.

Imports: journal.
"""
