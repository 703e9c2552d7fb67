"""Breaks what the scenarios check, and sees to it that they fail for that and nothing else."""
