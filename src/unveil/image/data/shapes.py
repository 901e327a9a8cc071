"""Captioned shapes: pictures of one to three objects on white, whose captions state exact attributes.

An object has one of 6 colours and one of 4 shapes. Of the 24 pairs, colour i with shape j is held out if
i + j is divisible by 4: 6 pairs, 25 %, one for each colour. No training picture has an object of a held-out
pair; all objects of a held-out scene are of such pairs. The objects of one scene differ in colour and in
shape, so that a caption is fulfilled only if each colour is bound to its own shape.

- one object: "a small red circle at the top left", with 2 sizes and 5 places;
- two: "a red cross left of a blue square", with 4 relations;
- three: "a red cross, a blue square and a green circle from left to right", or "from top to bottom".

A quarter of the varied captions of one object leave out the size, and a quarter the place; those of two name
each size half of the time, "a red cross left of a small blue square", and at most one of the two is large.

Lengths and positions are fractions of the picture's side; x grows to the right, y downwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
from jaxtyping import Float, UInt8

from unveil.errors import UnveilError
from unveil.files.records import records

COLOURS = {
    "red": (225, 45, 40),
    "green": (40, 165, 70),
    "blue": (45, 85, 225),
    "yellow": (245, 200, 25),
    "purple": (160, 50, 190),
    "black": (30, 30, 30),
}
# shape -> how far it extends from its centroid to the left and right, upwards and downwards, if its area is 1
SHAPES = {
    "triangle": (0.7598, 0.8774, 0.4387),  # equilateral, of side 2 / 3^(1/4)
    "circle": (0.5642, 0.5642, 0.5642),  # 1 / sqrt(pi)
    "cross": (0.6708, 0.6708, 0.6708),  # a plus of two bars, three times as long as wide: sqrt(9 / 20)
    "square": (0.5, 0.5, 0.5),
}
SIZES = {"small": 0.20, "large": 0.34}  # square root of the area
PLACES = {
    "top left": (0.28, 0.28),
    "top right": (0.72, 0.28),
    "bottom left": (0.28, 0.72),
    "bottom right": (0.72, 0.72),
    "centre": (0.5, 0.5),
}
RELATIONS = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}
ORDERS = {"from left to right": (1, 0), "from top to bottom": (0, 1)}
HELD_OUT_EVERY = 4
PAIRS = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)
RULE = f"the pair of colour i and shape j is held out if (i + j) % {HELD_OUT_EVERY} == 0, from 0"
UNSAID = 0.25  # share of varied captions of one object without a size, and of those without a place
MARGIN, GAP = 0.03, 0.06  # least distance of an object to the border, and of two objects to each other


class SceneObject(NamedTuple):
    """An object of a picture.

    Args:
        size, place: "" if the caption does not name them.
        x, y: the centroid.
        side: square root of the area.
    """

    colour: str
    shape: str
    size: str = ""
    place: str = ""
    x: float = 0.5
    y: float = 0.5
    side: float = 0.25


class Scene(NamedTuple):
    """What a picture shows; `relation` is that of the first object to the second, or the order of three."""

    objects: tuple[SceneObject, ...]
    relation: str = ""


def held_out(colour: str, shape: str) -> bool:
    """Whether objects of this colour and shape are held out, by `RULE`."""
    return (list(COLOURS).index(colour) + list(SHAPES).index(shape)) % HELD_OUT_EVERY == 0


def caption_of_scene(scene: Scene) -> str:
    """The caption, which names all attributes that are not ""."""
    named = [
        f"a {' '.join(filter(None, (one.size, one.colour, one.shape)))}"
        + (f" {'in' if one.place == 'centre' else 'at'} the {one.place}" if one.place else "")
        for one in scene.objects
    ]
    if len(named) == 2 and scene.relation:
        return f"{named[0]} {scene.relation} {named[1]}"
    listed = " and ".join(filter(None, (", ".join(named[:-1]), named[-1])))
    return f"{listed} {scene.relation}".strip()


def random_scene(rng: np.random.Generator, count: int, *, held: bool = False, varied: bool = False) -> Scene:
    """A random scene of 1, 2 or 3 objects, all of pairs that are held out, or none.

    Positions are drawn again until no two objects are closer than `GAP`.

    Args:
        varied: captions leave out and name more, see above; else the scenes are those of earlier versions.
    """
    left = [pair for pair in PAIRS if held_out(*pair) == held]
    pairs = list[tuple[str, str]]()
    for _ in range(count):
        colour, shape = left[int(rng.integers(len(left)))]
        pairs.append((colour, shape))
        left = [pair for pair in left if pair[0] != colour and pair[1] != shape]
    if count == 1:
        size, place = _one_of(rng, SIZES), _one_of(rng, PLACES)
        side = SIZES[size] * rng.uniform(0.92, 1.08)
        x, y = (at + rng.uniform(-0.04, 0.04) for at in PLACES[place])
        if varied:
            size, place = (said if rng.random() >= UNSAID else "" for said in (size, place))
        return Scene((_inside(SceneObject(*pairs[0], size, place, x, y, side)),))
    relation = _one_of(rng, RELATIONS if count == 2 else ORDERS)
    right, down = RELATIONS[relation] if count == 2 else ORDERS[relation]
    sizes = _two_sizes(rng) if varied and count == 2 else ("",) * count
    while True:
        # along the relation in order, across it anywhere
        if count == 2:
            along, across = np.array([0.26, 0.74]) + rng.uniform(-0.03, 0.03, 2), rng.uniform(0.36, 0.64, 2)
            sides = np.array([_side_of(rng, size) for size in sizes])
            order = [1, 0] if right + down > 0 else [0, 1]
            if "large" in sizes:
                first, second = (SceneObject(*pairs[k], x=0.0, y=0.0, side=float(sides[k])) for k in order)
                along = _far_apart(rng, first, second, bool(right))
            along = along[order]
        else:
            along = np.array([0.19, 0.5, 0.81]) + rng.uniform(-0.03, 0.03, 3)
            across, sides = rng.uniform(0.2, 0.8, 3), rng.uniform(0.17, 0.21, 3)
        places = (along, across) if right else (across, along)
        objects = tuple(
            _inside(SceneObject(*pair, size, "", float(x), float(y), float(side)))
            for pair, size, x, y, side in zip(pairs, sizes, *places, sides, strict=True)
        )
        if all(_apart(objects[i], objects[j]) for j in range(count) for i in range(j)):
            return Scene(objects, relation)


def _two_sizes(rng: np.random.Generator) -> tuple[str, str]:
    """The sizes that a caption of two objects names, "" for none; two large ones have no room."""
    while True:
        first, second = (_one_of(rng, SIZES) if rng.random() < 0.5 else "" for _ in range(2))
        if not first == second == "large":
            return first, second


def _side_of(rng: np.random.Generator, size: str) -> float:
    """A side of a named size; of none, one of those between."""
    if not size:
        return rng.uniform(0.19, 0.24)
    return SIZES[size] * (rng.uniform(0.92, 1.0) if size == "large" else rng.uniform(0.92, 1.08))


def _far_apart(
    rng: np.random.Generator, first: SceneObject, second: SceneObject, across: bool
) -> Float[np.ndarray, "2"]:
    """Positions of two objects along one axis, the first with the smaller one, at least `GAP` apart.

    Args:
        first, second: centred at 0.
        across: the axis is x.
    """
    low, high = (0, 2) if across else (1, 3)
    a, b = box(first), box(second)
    free = 1.0 - 2.0 * MARGIN - GAP - (a[high] - a[low]) - (b[high] - b[low])
    moves = rng.uniform(0.0, max(free, 0.0) / 2.0, 2)
    return np.array([MARGIN - a[low] + moves[0], 1.0 - MARGIN - b[high] - moves[1]])


def random_scenes(
    count: int, seed: int, numbers: Sequence[int] = (1, 2, 3), *, held: bool = False, varied: bool = False
) -> list[Scene]:
    """Random scenes; scene k follows from the seed, k, `held` and `varied` alone.

    Args:
        numbers: numbers of objects, each equally likely.
        varied: see `random_scene`.
    Raises:
        ValueError: a number of objects other than 1, 2 and 3.
    """
    if not numbers or set(numbers) - {1, 2, 3}:
        raise ValueError(f"`objects` must be numbers out of 1, 2 and 3, got {list(numbers)}")
    generators = (np.random.default_rng((seed, k, int(held))) for k in range(count))
    return [
        random_scene(rng, numbers[int(rng.integers(len(numbers)))], held=held, varied=varied)
        for rng in generators
    ]


def _one_of(rng: np.random.Generator, names: Mapping[str, object]) -> str:
    return list(names)[int(rng.integers(len(names)))]


def box(one: SceneObject) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of an object."""
    across, up, down = (extent * one.side for extent in SHAPES[one.shape])
    return one.x - across, one.y - up, one.x + across, one.y + down


def _inside(one: SceneObject) -> SceneObject:
    """The object, moved into the picture; its numbers have four digits, as in the records."""
    left, top, right, bottom = box(one)
    x = one.x + max(0.0, MARGIN - left) - max(0.0, right - 1.0 + MARGIN)
    y = one.y + max(0.0, MARGIN - top) - max(0.0, bottom - 1.0 + MARGIN)
    return one._replace(x=round(float(x), 4), y=round(float(y), 4), side=round(float(one.side), 4))


def _apart(one: SceneObject, other: SceneObject) -> bool:
    a, b = box(one), box(other)
    return max(a[0] - b[2], b[0] - a[2], a[1] - b[3], b[1] - a[3]) >= GAP


def coverage(shape: str, x: float, y: float, side: float, size: int) -> Float[np.ndarray, "S S"]:
    """The part of each pixel that a shape covers, in a picture of `size` pixels.

    It is 1/2 - d within 0 .. 1, where d is the distance to the outline in pixels, negative inside; this is
    exact at straight outlines along the pixels.

    Args:
        x, y: the centroid.
        side: square root of the area.
    """
    points = np.arange(size) + 0.5
    right, down = (points - x * size)[None, :], (points - y * size)[:, None]
    reach = side * size
    if shape == "circle":
        outside = np.hypot(right, down) - SHAPES["circle"][0] * reach
    elif shape == "square":
        outside = np.maximum(np.abs(right), np.abs(down)) - 0.5 * reach
    elif shape == "triangle":
        below = SHAPES["triangle"][2] * reach  # radius of the inscribed circle
        outside = np.maximum(down, np.sqrt(0.75) * np.abs(right) - 0.5 * down) - below
    elif shape == "cross":
        long = SHAPES["cross"][0] * reach
        bars = (
            np.maximum(np.abs(right) - a, np.abs(down) - b) for a, b in ((long, long / 3), (long / 3, long))
        )
        outside = np.minimum(*bars)
    else:
        raise ValueError(f"`shape` {shape!r}: there are {', '.join(SHAPES)}")
    return np.clip(0.5 - outside, 0.0, 1.0)


def drawn(scene: Scene, size: int) -> UInt8[np.ndarray, "3 S S"]:
    """The picture of a scene, antialiased, on white."""
    picture = np.full((3, size, size), 255.0)
    for one in scene.objects:
        cover = coverage(one.shape, one.x, one.y, one.side, size)
        colour = np.array(COLOURS[one.colour], np.float64)[:, None, None]
        picture += cover * (colour - picture)
    return picture.round().astype(np.uint8)


def record_of(scene: Scene, number: int) -> dict[str, object]:
    """A scene as a JSON object, with the fields of records beside an .npz file: group, code and style."""
    words = ("one object", "two objects", "three objects")
    return {
        "caption": caption_of_scene(scene),
        "held_out": any(held_out(one.colour, one.shape) for one in scene.objects),
        "relation": scene.relation,
        "objects": [one._asdict() for one in scene.objects],
        "group": words[len(scene.objects) - 1],
        "code": str(number),
        "style": "shapes",
    }


def read_scenes(file: Path) -> list[Scene]:
    """The scenes of the records that `unveil data shapes` wrote, .json.gz or .jsonl.

    Raises:
        UnveilError: the file cannot be read, or holds other records.
    """
    return [_scene(record.value, record.place) for record in records(file)]


def _scene(value: object, place: str) -> Scene:
    try:
        fields = cast("dict[str, object]", value)
        listed = cast("list[dict[str, str | float]]", fields["objects"])
        objects = tuple(SceneObject(**one) for one in listed)  # pyright: ignore[reportArgumentType]
        scene = Scene(objects, cast(str, fields["relation"]))
        known = all(
            one.colour in COLOURS
            and one.shape in SHAPES
            and one.size in ("", *SIZES)
            and one.place in ("", *PLACES)
            and all(isinstance(n, float) for n in (one.x, one.y, one.side))
            for one in objects
        )
        related = {1: [""], 2: ["", *RELATIONS], 3: ["", *ORDERS]}[len(objects)]
        if not known or scene.relation not in related:
            raise ValueError("unknown attribute")
    except Exception as error:
        raise UnveilError(f"{place}: not a record of unveil data shapes ({type(error).__name__})") from error
    return scene
