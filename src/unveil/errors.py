"""The one exception that is neither a wrong value nor a wrong type."""


class UnveilError(Exception):
    """Something outside the program's control is not as needed: a missing file, a foreign checkpoint, a full disk.

    The message is one line that names what was got, what is needed and how to mend it; the command line prints it as it is.
    """
