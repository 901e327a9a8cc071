"""True pictures of captioned shapes score 100 %; each corruption fails in the attribute that it changes."""

import numpy as np
import pytest
from scipy import ndimage

from unveil.image.data.shapes import Scene, SceneObject, drawn, random_scenes
from unveil.image.evaluation.shapes import ShapeScore, holds, parsed, rates, score, scores


def pictures(scenes, size=32):
    return np.stack([drawn(scene, size) for scene in scenes])


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_true_pictures_have_all_attributes(count, held):
    scenes = random_scenes(600 if not held else 100, 100, (count,), held=held)
    some = scores(pictures(scenes), scenes)
    assert all(one.all for one in some)
    named = {"number", "colour", "shape", "all"} | (
        {"size", "place"} if count == 1 else {"relation", "binding"}
    )
    found = rates(some)
    assert set(found) == named and all(rate.mean == 1.0 and rate.n == len(scenes) for rate in found.values())


@pytest.mark.parametrize("size", [24, 48, 64])
def test_true_pictures_of_other_sizes(size):
    scenes = random_scenes(60, 3)
    assert all(one.all for one in scores(pictures(scenes, size), scenes))


def test_parsed_objects_are_those_that_were_drawn():
    for scene in random_scenes(40, 1):
        found = parsed(drawn(scene, 32))
        assert len(found) == len(scene.objects)
        for wanted in scene.objects:
            one = min(found, key=lambda one: np.hypot(one.x - wanted.x, one.y - wanted.y))
            assert (one.colour, one.shape) == (wanted.colour, wanted.shape)
            assert np.hypot(one.x - wanted.x, one.y - wanted.y) < 0.005
            assert one.side == pytest.approx(wanted.side, rel=0.03)


def changed(scene, **fields):
    """The scene with other fields of its first object."""
    return scene._replace(objects=(scene.objects[0]._replace(**fields), *scene.objects[1:]))


def wrong(one: ShapeScore) -> set[str]:
    return {name for name, value in one._asdict().items() if value is False} - {"all"}


SINGLE = Scene((SceneObject("red", "circle", "small", "top left", 0.28, 0.28, 0.2),))


@pytest.mark.parametrize(
    ("fields", "attribute"),
    [
        ({"colour": "purple"}, "colour"),
        ({"shape": "square"}, "shape"),
        ({"side": 0.34}, "size"),
        ({"x": 0.72}, "place"),
        ({"y": 0.5, "x": 0.5}, "place"),
    ],
)
def test_one_changed_attribute_of_one_object_is_wrong(fields, attribute):
    assert wrong(score(drawn(changed(SINGLE, **fields), 32), SINGLE)) == {attribute}


def swapped(scene, name):
    """The scene with one attribute exchanged between the first two objects."""
    a, b, *rest = scene.objects
    return scene._replace(
        objects=(a._replace(**{name: getattr(b, name)}), b._replace(**{name: getattr(a, name)}), *rest)
    )


@pytest.mark.parametrize("count", [2, 3])
def test_swapped_attributes_are_wrong_and_break_the_binding(count):
    for scene in random_scenes(40, 2, (count,)):
        for name in ("colour", "shape"):
            assert wrong(score(drawn(swapped(scene, name), 32), scene)) == {name, "binding"}
        other = swapped(swapped(scene, "colour"), "shape")  # each is where the other should be
        assert wrong(score(drawn(other, 32), scene)) == {"relation"}


def test_the_order_of_objects_in_the_picture_does_not_count():
    """Only the relation says which is where: without it, any arrangement fulfils the caption."""
    for scene in random_scenes(20, 4, (2, 3)):
        turned = scene._replace(objects=scene.objects[::-1])
        assert score(drawn(turned, 32), scene).all
        bare = scene._replace(relation="")
        assert score(drawn(swapped(swapped(scene, "colour"), "shape"), 32), bare).all
        assert score(drawn(scene, 32), bare).relation is None


@pytest.mark.parametrize("count", [1, 2, 3])
def test_missing_and_further_objects_are_counted(count):
    for scene in random_scenes(20, 6, (count,)):
        fewer = score(drawn(scene._replace(objects=scene.objects[1:]), 32), scene)
        assert not fewer.number and not fewer.colour and not fewer.shape and not fewer.all
        assert not fewer.binding and not fewer.relation
        bare = scene._replace(relation="")
        more = score(drawn(scene, 32), bare._replace(objects=scene.objects[:-1] or scene.objects))
        assert more.all == (count == 1)
        if count > 1:
            assert wrong(more) == {"number"}


def test_blur_takes_the_shapes_and_noise_the_colours():
    scenes = random_scenes(60, 7, (3,))
    clean = pictures(scenes).astype(np.float64)
    blurred = ndimage.gaussian_filter(clean, (0, 0, 1.2, 1.2), mode="nearest").round().astype(np.uint8)
    found = rates(scores(blurred, scenes))
    assert found["shape"].mean < 0.1 and found["number"].mean > 0.9 and found["relation"].mean > 0.9
    rng = np.random.default_rng(0)
    noisy = (clean + rng.normal(0, 8, clean.shape)).round().clip(0, 255).astype(np.uint8)
    assert rates(scores(noisy, scenes))["all"].mean == 1.0  # as a good model's pictures are
    noise = rng.integers(0, 256, clean.shape, dtype=np.uint8)
    assert rates(scores(noise, scenes))["colour"].mean == 0.0
    for level in (0, 128, 255):
        flat = rates(scores(np.full(clean.shape, level, np.uint8), scenes))
        assert flat["number"].mean == flat["colour"].mean == flat["shape"].mean == flat["all"].mean == 0.0


def test_white_pictures_have_no_object_and_whole_ones_no_size():
    assert parsed(np.full((3, 32, 32), 255, np.uint8)) == []
    (one,) = parsed(np.zeros((3, 32, 32), np.uint8))
    assert (one.colour, one.size) == ("black", "")
    ring = np.full((3, 32, 32), 255, np.uint8)
    ring[:, 8:24, 8:24] = 0
    ring[:, 9:23, 9:23] = 255
    (one,) = parsed(ring)
    assert one.shape == ""


@pytest.mark.parametrize(
    ("relation", "x", "y", "true"),
    [
        ("left of", (0.2, 0.8), (0.5, 0.6), True),
        ("left of", (0.8, 0.2), (0.5, 0.6), False),
        ("left of", (0.4, 0.6), (0.2, 0.8), False),  # it is above
        ("left of", (0.4, 0.6), (0.8, 0.2), False),  # it is below
        ("right of", (0.8, 0.2), (0.5, 0.6), True),
        ("above", (0.5, 0.6), (0.2, 0.8), True),
        ("below", (0.5, 0.6), (0.2, 0.8), False),
        ("below", (0.5, 0.6), (0.8, 0.2), True),
        ("from left to right", (0.1, 0.2, 0.3), (0.9, 0.1, 0.5), True),
        ("from left to right", (0.1, 0.3, 0.2), (0.1, 0.2, 0.3), False),
        ("from top to bottom", (0.1, 0.3, 0.2), (0.1, 0.2, 0.3), True),
    ],
)
def test_relations(relation, x, y, true):
    objects = [SceneObject("red", "circle", x=a, y=b) for a, b in zip(x, y, strict=True)]
    assert holds(relation, objects) is true


def test_rates_have_wilsons_intervals():
    """8 of 10: centre (8 + z^2 / 2) / (10 + z^2), Wilson 1927."""
    yes = ShapeScore(True, True, True, None, None, None, None, True)
    found = rates([yes] * 8 + [yes._replace(colour=False, all=False)] * 2)
    assert set(found) == {"number", "colour", "shape", "all"} and found["all"].n == 10
    z = 1.959964
    centre = (8 + z**2 / 2) / (10 + z**2)
    half = z / (10 + z**2) * (8 * 2 / 10 + z**2 / 4) ** 0.5
    assert found["colour"][:3] == pytest.approx((0.8, centre - half, centre + half), abs=1e-6)
    assert found["number"].low < 1.0 and found["number"].high == pytest.approx(1.0)
    assert rates([]) == {}
