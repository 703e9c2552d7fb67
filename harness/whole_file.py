"""A file that is written whole or not at all: it is read while a run goes on, and after one that was killed."""

import os
from pathlib import Path


def write(file: Path, text: str) -> None:
    """Puts a text in the place of a file; raises OSError where it cannot, and leaves the file as it was."""
    making = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        making.write_text(text, encoding="utf-8", errors="backslashreplace")
        making.replace(file)
    except BaseException:
        making.unlink(missing_ok=True)
        raise
