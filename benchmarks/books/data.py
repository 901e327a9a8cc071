"""Data of the tables: books and Shakespeare as short documents in random order, of which the last are held out."""

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from latent.rows import RUNS, NotRunError
from unveil.files.atomic import replacing
from unveil.files.places import found
from unveil.text.recipes.config import DataText
from unveil.text.recipes.data import make_text_data

DOCUMENTS, FOLDER = RUNS / "books.jsonl", RUNS / "books-data"
PLAY = "text/tinyshakespeare.txt.gz"
BOOKS = "text/books"
LENGTH = 4_000
"""Characters after which a document ends, with its paragraph: so the held-out ones are of all books."""
VOCABULARY, HELD_OUT = 4_096, 0.05


def paragraphs(text: str, verse: bool) -> list[str]:
    """Paragraphs of a book, each on one line; a play keeps its lines.

    Marks of italics and of illustrations are taken out.
    """
    plain = re.sub(r"\[Illustration[^\]]*\]", "", text.replace("\r", "")).replace("_", "")
    parts = [part.strip("\n") for part in re.split(r"\n\s*\n", plain)]
    return [part if verse else re.sub(r"\s*\n\s*", " ", part).strip() for part in parts if part.strip()]


def documents(parts: list[str], length: int = LENGTH) -> Iterator[str]:
    """Paragraphs in turn, until a document has more than `length` characters."""
    kept: list[str] = []
    for part in parts:
        kept.append(part)
        if sum(map(len, kept)) > length:
            yield "\n\n".join(kept)
            kept = []
    if kept:
        yield "\n\n".join(kept)


def documents_file() -> Path:
    """A .jsonl of all documents, in random order.

    Raises:
        NotRunError: the books are not there.
    """
    if not DOCUMENTS.is_file():
        books, play = found(Path(BOOKS)), found(Path(PLAY))
        files = [*sorted(books.glob("*.txt.gz")), play]
        if len(files) < 2 or not play.is_file():
            raise NotRunError(f"{BOOKS} and {PLAY} are needed in $UNVEIL_DATA")
        made = [
            document
            for file in files
            for document in documents(paragraphs(gzip.decompress(file.read_bytes()).decode(), file == play))
        ]
        order = np.random.default_rng(0).permutation(len(made))
        DOCUMENTS.parent.mkdir(exist_ok=True)
        with replacing(DOCUMENTS) as partial:
            partial.write_text("".join(json.dumps({"text": made[k]}) + "\n" for k in order))
    return DOCUMENTS


def prepared_folder() -> Path:
    """The documents as tokens, by `unveil data text`."""
    if not (FOLDER / "held.npy").is_file():
        config = DataText(str(documents_file()), vocabulary=VOCABULARY, hold_out=HELD_OUT, out=FOLDER)
        make_text_data(config, lambda *_: None)
    return FOLDER
