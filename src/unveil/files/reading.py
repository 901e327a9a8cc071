"""Errors of reading a file as one `UnveilError` that names the file."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from unveil.errors import UnveilError, reason

LONGEST_REASON = 160


@contextmanager
def reading(file: Path | str, problem: str = "damaged", advice: str = "") -> Generator[None]:
    """Turn every error of the block into an `UnveilError`: parsers of damaged files raise errors of any type.

    Args:
        problem: what the file is if its contents cannot be read, such as "not a whole .npz file".
        advice: end of the message, such as "; download it again".
    Raises:
        UnveilError: the file cannot be read, or its contents cannot.
    """
    try:
        yield
    except UnveilError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:
            raise UnveilError(f"{file}: cannot be read ({error.strerror}){advice}") from error
        raise UnveilError(f"{file}: {problem}: {reason(error)[:LONGEST_REASON]}{advice}") from error
