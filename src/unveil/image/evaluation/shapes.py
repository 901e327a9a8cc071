"""Scores of pictures of captioned shapes, by parsing the pictures: no network takes part.

An object is a connected component of pixels that are not white. Its colour is the nearest of the palette to
the median of its inner pixels. How much of each pixel it covers follows from its own colour; from this soft
coverage come area, centroid, and the shape, whose template of the same area and centroid differs least.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import NamedTuple, cast

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

from unveil.image.data.shapes import (
    COLOURS,
    ORDERS,
    PLACES,
    RELATIONS,
    SHAPES,
    SIZES,
    Scene,
    SceneObject,
    coverage,
)
from unveil.runs.statistics import wilson_ci95

INK = 0.3  # darkness of the darkest channel, 0 .. 1, from which a pixel belongs to an object
SPECK = 0.006  # smallest area of an object, as a fraction of the picture
FARTHEST = 90.0  # largest distance of a colour to the palette, in levels 0 .. 255
MISFIT = 0.3  # largest difference to a template, as a fraction of the area
FACTOR = 1.4  # largest ratio of a side to that of its size
MOST = 8  # objects of a picture that are compared with the caption: the largest
FRINGE = 2.0  # pixels around a component that may belong to its edge


class ShapeScore(NamedTuple):
    """Which attributes of a caption a picture has; None if the caption does not name the attribute.

    Objects are compared in the order in which most attributes are right.

    Args:
        number: as many objects as the caption names.
        colour, shape, size, place: right for every object; wrong for one that is missing.
        relation: true of the objects.
        binding: every object has its own colour and its own shape; None for one object.
        all: everything that the caption says.
    """

    number: bool
    colour: bool
    shape: bool
    size: bool | None
    place: bool | None
    relation: bool | None
    binding: bool | None
    all: bool


class Rate(NamedTuple):
    """A fraction of pictures, with Wilson's 95 % confidence interval, and of how many."""

    mean: float
    low: float
    high: float
    n: int


def parsed(picture: UInt8[np.ndarray, "3 S S"]) -> list[SceneObject]:
    """The objects of a picture, largest first; colour, shape or size is "" if no known one is near."""
    ink = 1.0 - picture / 255.0
    labels = np.zeros(ink.shape[1:], np.int32)
    count = cast(int, ndimage.label(ink.max(0) > INK, np.ones((3, 3)), labels))
    if not count:
        return []
    nearest = np.zeros((2, *labels.shape), np.int32)
    distances = np.asarray(ndimage.distance_transform_edt(labels == 0, return_indices=True, indices=nearest))
    regions = np.where(distances <= FRINGE, labels[tuple(nearest)], 0)
    areas = np.bincount(labels.ravel())[1:] / labels.size
    found = [k + 1 for k in np.argsort(-areas, kind="stable").tolist() if areas[k] >= SPECK]
    return [_object(ink, labels == k, regions == k) for k in found]


def _object(
    ink: Float[np.ndarray, "3 S S"], mask: Bool[np.ndarray, "S S"], region: Bool[np.ndarray, "S S"]
) -> SceneObject:
    """The object of a component.

    Args:
        ink: 1 - level / 255.
        region: the component with its fringe.
    """
    size = mask.shape[0]
    inner = np.asarray(ndimage.binary_erosion(mask), np.bool_)
    if inner.sum() < 3:  # thinner than three pixels: those that are covered most
        darkness = ink.max(0)
        inner = mask & (darkness >= np.quantile(darkness[mask], 0.6))
    colour = np.median(ink[:, inner], axis=1)
    levels = 255.0 * (1.0 - colour)
    far = {name: float(np.linalg.norm(levels - np.array(known))) for name, known in COLOURS.items()}
    name = min(far, key=far.__getitem__)
    # least squares: ink = cover * colour
    cover = np.clip(np.tensordot(colour, ink, 1) / max(float(colour @ colour), 1e-6), 0.0, 1.0) * region
    if not cover.any():  # its inner pixels are white
        cover = mask.astype(np.float64)
    area, at = cover.sum(), (np.arange(size) + 0.5) / size
    x, y = float((cover.sum(0) @ at) / area), float((cover.sum(1) @ at) / area)
    side = float(np.sqrt(area)) / size
    misfit = {
        shape: float(np.abs(cover - coverage(shape, x, y, side, size)).sum() / area) for shape in SHAPES
    }
    shape = min(misfit, key=misfit.__getitem__)
    ratio = {one: abs(float(np.log(side / known))) for one, known in SIZES.items()}
    big = min(ratio, key=ratio.__getitem__)
    return SceneObject(
        name if far[name] <= FARTHEST else "",
        shape if misfit[shape] <= MISFIT else "",
        big if ratio[big] <= np.log(FACTOR) else "",
        min(PLACES, key=lambda one: np.hypot(x - PLACES[one][0], y - PLACES[one][1])),
        x,
        y,
        side,
    )


def holds(relation: str, objects: Sequence[SceneObject]) -> bool:
    """Whether a relation is true of the centroids of two or three objects, in this order.

    Two objects must differ more along the relation than across it.
    """
    x, y = np.array([one.x for one in objects]), np.array([one.y for one in objects])
    if relation in ORDERS:
        right, down = ORDERS[relation]
        return bool((np.diff(right * x + down * y) > 0.0).all())
    right, down = RELATIONS[relation]
    along, across = right * (x[0] - x[1]) + down * (y[0] - y[1]), down * (x[0] - x[1]) + right * (y[0] - y[1])
    return bool(along > abs(across))


class _Compared(NamedTuple):
    """Whether each named attribute is right, under one order of the objects."""

    colours: tuple[bool, ...]
    shapes: tuple[bool, ...]
    sizes: tuple[bool, ...]
    places: tuple[bool, ...]
    relations: tuple[bool, ...]

    @property
    def right(self) -> int:
        return sum(sum(part) for part in self)


def _compared(objects: Sequence[SceneObject | None], scene: Scene) -> _Compared:
    pairs = list(zip(objects, scene.objects, strict=True))
    there = [one for one in objects if one is not None]
    related = len(there) == len(objects) and bool(scene.relation) and holds(scene.relation, there)
    return _Compared(
        tuple(one is not None and one.colour == wanted.colour for one, wanted in pairs),
        tuple(one is not None and one.shape == wanted.shape for one, wanted in pairs),
        tuple(one is not None and one.size == wanted.size for one, wanted in pairs if wanted.size),
        tuple(one is not None and one.place == wanted.place for one, wanted in pairs if wanted.place),
        (related,) if scene.relation else (),
    )


def score(picture: UInt8[np.ndarray, "3 S S"], scene: Scene) -> ShapeScore:
    """Compare a picture with the scene of its caption, of which only the attributes that are not "" count."""
    objects = parsed(picture)
    slots: list[SceneObject | None] = [*objects[:MOST]]
    slots += [None] * (len(scene.objects) - len(slots))
    orders = permutations(slots, len(scene.objects))
    best = max((_compared(order, scene) for order in orders), key=lambda one: one.right)
    colour, shape = all(best.colours), all(best.shapes)
    size, place, relation = (
        all(part) if part else None for part in (best.sizes, best.places, best.relations)
    )
    number = len(objects) == len(scene.objects)
    binding = colour and shape if len(scene.objects) > 1 else None
    everything = number and all(all(part) for part in best)
    return ShapeScore(number, colour, shape, size, place, relation, binding, everything)


def scores(pictures: UInt8[np.ndarray, "N 3 S S"], scenes: Sequence[Scene]) -> list[ShapeScore]:
    """The score of each picture.

    Raises:
        ValueError: not as many pictures as scenes.
    """
    return [score(picture, scene) for picture, scene in zip(pictures, scenes, strict=True)]


def rates(some: Sequence[ShapeScore]) -> dict[str, Rate]:
    """The fraction of pictures with each attribute, among those whose captions name it."""
    found: dict[str, Rate] = {}
    for name in ShapeScore._fields:
        values = [value for one in some if (value := getattr(one, name)) is not None]
        if values:
            found[name] = Rate(sum(values) / len(values), *wilson_ci95(sum(values), len(values)), len(values))
    return found
