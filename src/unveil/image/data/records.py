"""Write captioned images as an .npz file with its records beside it, as `arrays.py` reads them."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from unveil.files.atomic import MADE, check_output, output


def records_beside(file: Path) -> Path:
    """NAME.json.gz of NAME.npz."""
    return file.with_suffix(".json.gz")


def check_recorded(file: Path) -> None:
    """Check, before the work, that both files can be written.

    Raises:
        UnveilError: a file of the user is there, which would be overwritten.
    """
    check_output(file)
    check_output(records_beside(file))


def write_recorded(
    file: Path, pixels: UInt8[np.ndarray, "N H W C"], records: Sequence[Mapping[str, object]]
) -> None:
    """Write the images, and a record for each.

    The records are written first, so that the images are never there without them.

    Args:
        file: NAME.npz.
        records: with `group`, `code` and `style`, and `caption` or `name` and `keywords`.
    """
    # the name in the header of the .gz marks it as ours
    with (
        output(records_beside(file)) as partial,
        open(partial, "wb") as stream,
        gzip.GzipFile(f"{file.stem}.json, {MADE}", "wb", 9, stream, 0.0) as packed,
    ):
        packed.write(json.dumps(list(records)).encode())
    with output(file) as partial:
        with open(partial, "wb") as stream:
            np.savez_compressed(stream, allow_pickle=False, images=pixels)
        with zipfile.ZipFile(partial, "a") as archive:
            archive.comment = MADE.encode()
