"""Data of the tables: the scenes of `latent.data.shapes_file` also at 64 and at 16 pixels."""

from functools import cache
from pathlib import Path

import numpy as np

from latent.data import FOLDER, SHAPES, shapes_file
from latent.diffusion import describe
from latent.shapes import KINDS, scenes_of
from unveil.image.data.records import write_recorded
from unveil.image.data.shapes import Scene, drawn, random_scenes, record_of
from unveil.image.recipes.shapes.config import DataShapes
from unveil.image.recipes.shapes.data import make_shapes

LARGE, FACTOR = 64, 4
SMALL = LARGE // FACTOR
CODED = 40_000
"""Scenes of latent diffusion: the codes of all would take longer than its training."""
REAL = 500
"""True pictures of each kind of seen captions that distances are measured to."""
REAL_ON = 3_000_000
"""Seed of their scenes: no model has seen them, and no caption of `CHOSEN_ON` or `REPORTED_ON` is theirs."""


def shapes64_file(count: int = SHAPES, name: str = "shapes64") -> Path:
    """An .npz of the same scenes as `shapes_file`, at 64 pixels."""
    file = FOLDER / f"{name}.npz"
    if not file.is_file():
        FOLDER.mkdir(parents=True, exist_ok=True)
        config = DataShapes(n=count, size=LARGE, objects=(1, 2, 2), captions=1, out=file)
        make_shapes(config, lambda *_: None)
    return file


def coded_file() -> Path:
    """The first scenes of `shapes64_file`."""
    return shapes64_file(CODED, "shapes64-coded")


def shapes16_file(count: int = SHAPES) -> Path:
    """An .npz of the pictures of `shapes64_file`, each shrunk as upsamplers see it."""
    file = FOLDER / "shapes16.npz"
    if not file.is_file():
        FOLDER.mkdir(parents=True, exist_ok=True)
        scenes = random_scenes(count, 0, (1, 2, 2))
        small = np.empty((count, SMALL, SMALL, 3), np.uint8)
        for row, scene in enumerate(scenes):
            small[row] = shrunk(drawn(scene, LARGE)[None])[0].transpose(1, 2, 0)
        write_recorded(file, small, [record_of(scene, row) for row, scene in enumerate(scenes)])
    return file


FILES = (shapes_file, shapes64_file, shapes16_file, coded_file)


def shrunk(pixels: np.ndarray) -> np.ndarray:
    """Means over squares of 4 x 4 pixels, (N, C, S, S) to (N, C, S/4, S/4) uint8."""
    n, colours, side, _ = pixels.shape
    means = pixels.reshape(n, colours, side // FACTOR, FACTOR, side // FACTOR, FACTOR)
    return means.mean((3, 5), dtype=np.float64).round().astype(np.uint8)


def true_pictures(scenes: list[Scene], size: int) -> np.ndarray:
    """The pictures of scenes, (N, 3, S, S) uint8."""
    return np.stack([drawn(scene, size) for scene in scenes])


@cache
def real_features(size: int, count: int = REAL) -> np.ndarray:
    """SqueezeNet's features of true pictures of seen pairs, as many with one object as with two."""
    scenes = [scene for kind in KINDS if not kind.held for scene in scenes_of(kind, count, REAL_ON)]
    return describe()(true_pictures(scenes, size))
