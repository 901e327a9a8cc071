"""Data of the tables: captioned shapes, emoji without the held-out pairs and concepts, twenty pictures of a new style.

All files lie in runs/latent-data and are made once; `python benchmarks/latent.py --data` makes them before the
first training.
"""

import gzip
import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from latent.rows import RUNS, NotRunError
from unveil.files.atomic import replacing
from unveil.files.pictures import write_picture
from unveil.files.places import found
from unveil.image.data.caption_sampler import Drawing, caption_of
from unveil.image.data.emoji import FLAGS, in_groups, split_emoji, words_of
from unveil.image.data.images import ImageSet
from unveil.image.data.reading import Reading
from unveil.image.data.source import read_images
from unveil.image.recipes.shapes.config import DataShapes
from unveil.image.recipes.shapes.data import make_shapes

FOLDER = RUNS / "latent-data"
EMOJI_PLACES = (Path("emoji64.npz"), Path("emoji64") / "emoji64.npz")
STYLES = ("fluent-emoji", "fluent-emoji-flat", "noto", "noto-v1", "twemoji")
NEW_STYLE = "openmoji"
"""The style of table (d): trainings leave it out by default, since its licence would bind the weights."""
GROUPS = ("Animals & Nature", "Food & Drink", "Smileys & Emotion")
"""Kinds of things of tables (c) and (d): a model of eight megabytes learns the names of these in an hour or two."""
SHOTS, STYLE_PROMPTS = 20, 100
SHAPES = 120_000


class EmojiData(NamedTuple):
    """The rows of emoji64 by their use; all masks are over the file's rows.

    Args:
        images: all six styles, with a description of each picture.
        train: what text-to-image models learn from, in five styles, of `GROUPS`.
        pairs: known concepts in a known style, which never occur together in `train`.
        unseen: concepts of which `train` has no picture, but each word.
        shots: row numbers of the twenty pictures of the new style.
        style_rows: row numbers of other pictures of it: concepts that `train` has, to score the new style on.
        judged: what the judges learn from: all groups, without held-out pairs and concepts, and without
            `style_rows`.
    """

    images: ImageSet
    train: np.ndarray
    pairs: np.ndarray
    unseen: np.ndarray
    shots: np.ndarray
    style_rows: np.ndarray
    judged: np.ndarray

    def drawings(self, rows: np.ndarray) -> list[Drawing]:
        """The descriptions of some rows, by number or by mask."""
        assert self.images.drawings is not None
        return [self.images.drawings[row] for row in np.arange(len(self.images))[rows].tolist()]


def emoji_file() -> Path:
    """The file of emoji64.

    Raises:
        NotRunError: it is not there.
    """
    places = [found(place) for place in EMOJI_PLACES]
    for place in places:
        if place.is_file():
            return place
    raise NotRunError("emoji64.npz is neither here nor below $UNVEIL_DATA")


@cache
def emoji() -> EmojiData:
    """The pictures and their uses, which follow from the file alone."""
    images = read_images(str(emoji_file()), Reading(), (*STYLES, NEW_STYLE))
    return split(images)


def split(
    images: ImageSet,
    unseen: int = 60,
    pairs: int = 300,
    few: int = SHOTS,
    tests: int = STYLE_PROMPTS,
    groups: tuple[str, ...] = GROUPS,
) -> EmojiData:
    """Divide the drawings, see `EmojiData`.

    Args:
        unseen, pairs: of `split_emoji`: numbers of concepts and of pairs that are held out.
        few, tests: numbers of `shots` and of `style_rows`.
        groups: of all pictures but those of `judged`; (): every one.
    """
    assert images.drawings is not None
    styles = np.array([drawing.style for drawing in images.drawings])
    codes = np.array([drawing.code for drawing in images.drawings])
    flags = np.array([drawing.group == FLAGS for drawing in images.drawings])
    ours = np.flatnonzero(styles != NEW_STYLE)
    parts = split_emoji(images.chosen(ours), unseen, pairs)
    train, apart, alone = (np.zeros(len(images), np.bool_) for _ in range(3))
    for mask, part in ((train, parts.train), (apart, parts.pairs), (alone, parts.unseen)):
        mask[ours] = part
    every, kept = train.copy(), in_groups(images.drawings, groups)
    train, apart = train & kept, apart & kept
    words = set[str]().union(*(words_of(images.drawings[row].name) for row in np.flatnonzero(train)))
    worded = np.array([words_of(drawing.name) <= words for drawing in images.drawings])
    shown = alone & kept & worded
    often = {code for code, n in zip(*np.unique(codes[train], return_counts=True), strict=True) if n >= 3}
    known = np.flatnonzero((styles == NEW_STYLE) & ~flags & np.isin(codes, sorted(often)))
    order = np.random.default_rng(2).permutation(known)
    shots, style_rows = np.sort(order[:few]), np.sort(order[few : few + tests])
    hidden = np.isin(codes, np.concatenate([codes[style_rows], codes[alone]]))
    judged = every | ((styles == NEW_STYLE) & ~flags & ~hidden)
    return EmojiData(images, train, apart, shown, shots, style_rows, judged)


def emoji_train() -> Path:
    """An .npz of the pictures to train on, with their records beside it, as `--data` takes it."""
    return _part("emoji-train", emoji().train)


def emoji_judged() -> Path:
    """An .npz of what the classifier of styles learns from, with the style as the class."""
    file = FOLDER / "emoji-styles.npz"
    if not file.is_file():
        data = emoji()
        _write(
            file, data.images.pixels[data.judged], [drawing.style for drawing in data.drawings(data.judged)]
        )
    return file


def new_style() -> Path:
    """A folder with the twenty pictures of the new style, each with its caption in a .txt beside it."""
    folder, data = FOLDER / f"{NEW_STYLE}-{SHOTS}", emoji()
    for number, (row, drawing) in enumerate(zip(data.shots.tolist(), data.drawings(data.shots), strict=True)):
        file = folder / f"{number:02d}.png"
        if not file.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            file.with_suffix(".txt").write_text(caption_of(drawing) + "\n", encoding="utf-8")
            write_picture(file, data.images.pixels[row].transpose(1, 2, 0))
    return folder


def shapes_file(count: int = SHAPES) -> Path:
    """An .npz of pictures with one (a third) or two objects, as `unveil data shapes --objects 1 2 2` makes it."""
    file = FOLDER / "shapes.npz"
    if not file.is_file():
        FOLDER.mkdir(parents=True, exist_ok=True)
        make_shapes(DataShapes(n=count, objects=(1, 2, 2), captions=1, out=file), lambda *_: None)
    return file


def _part(name: str, mask: np.ndarray) -> Path:
    file, records = FOLDER / f"{name}.npz", FOLDER / f"{name}.json.gz"
    if not (file.is_file() and records.is_file()):
        with gzip.open(emoji_file().with_suffix(".json.gz"), "rt", encoding="utf-8") as stream:
            everything = json.load(stream)
        kept = [everything[row] for row in np.flatnonzero(mask).tolist()]
        FOLDER.mkdir(parents=True, exist_ok=True)
        with replacing(records) as partial:
            partial.write_bytes(gzip.compress(json.dumps(kept).encode(), mtime=0))
        _write(file, emoji().images.pixels[mask], None)
    return file


def _write(file: Path, pixels: np.ndarray, labels: list[str] | None) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    named = {} if labels is None else {"labels": np.array(labels)}
    with replacing(file) as partial, open(partial, "wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, images=pixels.transpose(0, 2, 3, 1), **named)
