"""Notes on the terminal that are no errors: data that are left out or interpreted."""

import os
import sys

from unveil.errors import one_line


def note(text: str) -> None:
    """Print `unveil: note: <text>` on standard error; of several processes, only the first prints."""
    if os.environ.get("RANK", "0") == "0":
        sys.stderr.write(f"unveil: note: {one_line(text)}\n")


def left_out(names: list[str], most: int = 6) -> str:
    """The first `most` names as text, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
