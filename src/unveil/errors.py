"""The exception for everything that is neither a wrong value nor a wrong type."""

from unicodedata import category

LONGEST_LINE = 1000


def one_line(text: str) -> str:
    """A text as one line of at most 1,000 characters, without control characters for the terminal."""
    line = " ".join(text.split()) if any(letter in text for letter in "\n\r\t\v\f") else text
    if not line.isprintable():
        line = "".join("?" if category(letter) in _STEER else letter for letter in line)
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 3]}..."


def reason(error: BaseException) -> str:
    """The first line of an error's message, or the name of its type if it has no message."""
    return (str(error).splitlines() or [type(error).__name__])[0]


_STEER = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


class UnveilError(Exception):
    """A problem outside the program's control: a missing file, an unknown checkpoint, a full disk.

    The message is one line that says what was found, what is needed and how to mend it. Settings stand in
    backquotes, which the command line replaces by flags.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(one_line(str(message)))
