"""The one exception that is neither a wrong value nor a wrong type."""

from unicodedata import category

LONGEST_LINE = 1000


def one_line(text: str) -> str:
    """The text on one line of at most 1,000 characters, without what would steer a terminal: files and libraries may say anything."""
    line = " ".join(text.split()) if any(letter in text for letter in "\n\r\t\v\f") else text
    if not line.isprintable():
        line = "".join("?" if category(letter) in _STEER else letter for letter in line)
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 3]}..."


_STEER = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


class UnveilError(Exception):
    """Something outside the program's control is not as needed: a missing file, a foreign checkpoint, a full disk.

    The message is one line that names what was got, what is needed and how to mend it; the command line prints it as it is.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(one_line(str(message)))
