"""What is worth a line on the terminal though nothing went wrong: data that are left out, or taken in another way than they look."""

import os
import sys

from unveil.errors import one_line


def note(text: str) -> None:
    """Print `unveil: note: <text>` on the standard error, of several processes by the first alone."""
    if os.environ.get("RANK", "0") == "0":
        sys.stderr.write(f"unveil: note: {one_line(text)}\n")


def left_out(names: list[str], most: int = 6) -> str:
    """Names for a note, the first ones of many."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
