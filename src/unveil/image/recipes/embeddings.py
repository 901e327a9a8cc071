"""Files of learned words (textual inversion) in sampling."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unveil.errors import UnveilError

if TYPE_CHECKING:
    from unveil.image.model import ImageModel


def words_of(path: Path) -> dict[str, tuple[int, int]]:
    """The learned words of a file or folder, with the shapes (n, W) of their vectors.

    Raises:
        UnveilError: it cannot be read, or holds no learned words.
    """
    from unveil.image.weights.textual_inversion import read_words

    return {word.token: (len(word.vectors), word.vectors.shape[1]) for word in read_words(path)}


def add_embeddings(model: ImageModel, files: Sequence[str]) -> None:
    """Teach the text encoder of a model the words of files.

    Args:
        files: of diffusers, AUTOMATIC1111 or kohya, or folders with learned_embeds.safetensors.
    Raises:
        UnveilError: no such file, or one of another base; a model without text.
        ValueError: a word that the model knows already.
    """
    from unveil.image.prompts.learned_words import add_words, table_of
    from unveil.image.weights.textual_inversion import extended, read_words

    if not files:
        return
    if model.text is None:
        raise UnveilError("`embedding`: this model was trained without captions and knows no words")
    for file in files:
        if not Path(file).exists():
            raise UnveilError(f"{file}: no such file of learned words")
    words = [word for file in files for word in read_words(Path(file))]
    grown = extended(table_of(model.text), words)
    add_words(model.text, {word: grown.table[list(rows)] for word, rows in grown.ids.items()})
    model.text.freeze()
