"""A file that is written whole or not at all: others read it during a run, and after a run that was killed."""

import os
from pathlib import Path


def write(file: Path, text: str) -> None:
    """Replaces a file's content by a text; raises OSError if it cannot, and then leaves the file as it was."""
    making = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        making.write_text(text, encoding="utf-8", errors="backslashreplace")
        making.replace(file)
    except BaseException:
        making.unlink(missing_ok=True)
        raise
