"""The one exception that is neither a wrong value nor a wrong type, and notes for people."""

import sys


class UnveilError(Exception):
    """Something outside the program's control is not as needed: a missing file, a foreign checkpoint, a full disk.

    The message is one line that names what was got, what is needed and how to mend it; the command line prints it as it is.
    """


def note(message: str) -> None:
    """Say on the standard error, in one line, what was left out or changed; the work goes on."""
    sys.stderr.write(f"unveil: {' '.join(message.split())}\n")
