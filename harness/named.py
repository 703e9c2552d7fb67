"""What an option names: never nothing, which a variable that nobody has set would make of it.

An empty path is the working folder, and no shard is all of them.
"""

import argparse
from pathlib import Path


def path(text: str) -> Path:
    """The path, as a type of argparse's."""
    return Path(word(text))


def word(text: str) -> str:
    """The text itself, as a type of argparse's."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty: name something, or leave the option out")
    return text
