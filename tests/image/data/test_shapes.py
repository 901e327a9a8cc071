"""Captioned shapes: exact areas and centroids, captions that are true, held-out pairs that never occur."""

import gzip
import json

import numpy as np
import pytest

from unveil.cli import main
from unveil.errors import UnveilError
from unveil.image.data.captions import read_captions
from unveil.image.data.images import RandomImages, split
from unveil.image.data.reading import Reading
from unveil.image.data.shapes import (
    COLOURS,
    GAP,
    MARGIN,
    PAIRS,
    SHAPES,
    Scene,
    SceneObject,
    box,
    caption_of_scene,
    coverage,
    drawn,
    held_out,
    random_scenes,
    read_scenes,
)
from unveil.image.data.source import read_images


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("side", [0.2, 0.34])
def test_shapes_have_their_area_centroid_and_extent(shape, side):
    """At 32 pixels, and at 800 to a ten-thousandth; y grows downwards."""
    for size, tolerance in ((32, 0.02), (800, 2e-4)):
        cover, at = coverage(shape, 0.47, 0.55, side, size), (np.arange(size) + 0.5) / size
        total = cover.sum()
        assert total / size**2 == pytest.approx(side**2, rel=tolerance * 2)
        assert (cover.sum(0) * at).sum() / total == pytest.approx(0.47, abs=tolerance / 10)
        assert (cover.sum(1) * at).sum() / total == pytest.approx(0.55, abs=tolerance / 5)
    inside = np.argwhere(cover > 0.5)
    left, top, right, bottom = box(SceneObject("red", shape, x=0.47, y=0.55, side=side))
    assert inside[:, 1].min() / size == pytest.approx(left, abs=2 / size)
    assert (inside[:, 1].max() + 1) / size == pytest.approx(right, abs=2 / size)
    assert inside[:, 0].min() / size == pytest.approx(top, abs=2 / size)
    assert (inside[:, 0].max() + 1) / size == pytest.approx(bottom, abs=2 / size)


def test_shapes_are_what_they_are_called():
    """A triangle is wide below, a circle has no corner, a cross is thin at its ends, a square is full."""
    covers = {shape: coverage(shape, 0.5, 0.5, 0.5, 200) > 0.5 for shape in SHAPES}
    rows = {shape: cover.sum(1)[cover.any(1)] for shape, cover in covers.items()}
    assert (np.diff(rows["triangle"]) >= 0).all() and rows["triangle"][0] <= 3
    assert (rows["square"] == 100).all() and len(rows["square"]) == 100
    assert len(set(rows["cross"])) == 2 and rows["cross"][0] * 3 == pytest.approx(max(rows["cross"]), abs=3)
    assert abs(rows["circle"].max() - 2 * 0.5642 * 100) < 2 and rows["circle"][0] < 30


def test_a_quarter_of_the_pairs_is_held_out_one_of_each_colour():
    apart = [pair for pair in PAIRS if held_out(*pair)]
    assert len(PAIRS) == 24 and len(apart) == 6 and {colour for colour, _ in apart} == set(COLOURS)
    assert {shape for _, shape in apart} == set(SHAPES)
    assert held_out("red", "triangle") and held_out("green", "square") and not held_out("red", "circle")


def is_true(relation, x, y):
    """Whether a relation holds for centroids x and y; two objects differ more along it than across."""
    if len(x) == 1:
        return relation == ""
    if relation in ("from left to right", "from top to bottom"):
        a, b, c = x if relation == "from left to right" else y
        return a < b < c
    flat = abs(y[1] - y[0]) < abs(x[1] - x[0])
    return {
        "left of": flat and x[0] < x[1],
        "right of": flat and x[0] > x[1],
        "above": not flat and y[0] < y[1],
        "below": not flat and y[0] > y[1],
    }[relation]


@pytest.mark.parametrize("varied", [False, True])
@pytest.mark.parametrize("held", [False, True])
def test_scenes_keep_their_rules(held, varied):
    """All relations are true, all objects are inside and apart, and all kinds occur."""
    scenes = random_scenes(900, 5, held=held, varied=varied)
    kinds = {1: 0, 2: 0, 3: 0}
    for scene in scenes:
        kinds[len(scene.objects)] += 1
        assert all(held_out(one.colour, one.shape) == held for one in scene.objects)
        assert len({one.colour for one in scene.objects}) == len({one.shape for one in scene.objects})
        assert len({one.colour for one in scene.objects}) == len(scene.objects)
        boxes = [box(one) for one in scene.objects]
        assert all(min(b[:2]) >= MARGIN - 1e-4 and max(b[2:]) <= 1 - MARGIN + 1e-4 for b in boxes)
        for i, a in enumerate(boxes):
            for b in boxes[:i]:
                assert max(a[0] - b[2], b[0] - a[2], a[1] - b[3], b[1] - a[3]) >= GAP - 1e-3
        x, y = [one.x for one in scene.objects], [one.y for one in scene.objects]
        for one in scene.objects:
            assert not one.size or (one.side > 0.26) == (one.size == "large")
        assert is_true(scene.relation, x, y)
        if len(x) == 1:
            one = scene.objects[0]
            words = one.place.split()
            if words:
                assert ("left" in words) == (x[0] < 0.42) and ("right" in words) == (x[0] > 0.58)
                assert ("top" in words) == (y[0] < 0.42) and ("bottom" in words) == (y[0] > 0.58)
    assert min(kinds.values()) > 250
    singles = {(o.colour, o.shape, o.place) for s in scenes for o in s.objects if o.place}
    assert len(singles) > (28 if held else 75)  # of 6 or 18 pairs x 5 places


@pytest.mark.parametrize("held", [False, True])
def test_captions_leave_out_what_they_may(held):
    """The shares of sizes and places that are named; two large objects have no room."""
    scenes = random_scenes(4000, 3, (1, 2), held=held, varied=True)
    ones = [scene.objects[0] for scene in scenes if len(scene.objects) == 1]
    twos = [scene for scene in scenes if len(scene.objects) == 2]
    sizes = [[one.size for one in scene.objects] for scene in twos]
    share = np.mean
    assert share([bool(one.size) for one in ones]) == pytest.approx(0.75, abs=0.03)
    assert share([bool(one.place) for one in ones]) == pytest.approx(0.75, abs=0.03)
    named = 7 / 15  # (1/2 - 1/16) / (1 - 1/16): a scene in sixteen would have two large objects
    assert share([bool(size) for pair in sizes for size in pair]) == pytest.approx(named, abs=0.03)
    assert ["large", "large"] not in sizes
    assert ["large", "small"] in sizes
    assert ["small", ""] in sizes


def test_scenes_follow_from_their_number_alone():
    assert random_scenes(5, 1) == random_scenes(50, 1)[:5] != random_scenes(5, 2)
    assert random_scenes(5, 1, (2,))[0].objects[0].size == ""
    scene = random_scenes(3, 7, (2,))[2]  # benchmarks were trained on these
    assert caption_of_scene(scene) == "a green cross left of a blue circle"
    assert [(one.x, one.y, one.side) for one in scene.objects] == [
        (0.286, 0.4299, 0.1968),
        (0.751, 0.4382, 0.21),
    ]
    with pytest.raises(ValueError, match="numbers out of 1, 2 and 3"):
        random_scenes(5, 1, (1, 4))


def test_captions_name_what_is_named():
    one = SceneObject("red", "circle", "small", "top left")
    other, third = SceneObject("blue", "square"), SceneObject("green", "cross")
    assert caption_of_scene(Scene((one,))) == "a small red circle at the top left"
    assert caption_of_scene(Scene((one._replace(place="centre"),))) == "a small red circle in the centre"
    assert caption_of_scene(Scene((other, third), "left of")) == "a blue square left of a green cross"
    assert caption_of_scene(Scene((other, third))) == "a blue square and a green cross"
    three = Scene((other, third, one._replace(size="", place="")), "from left to right")
    assert caption_of_scene(three) == "a blue square, a green cross and a red circle from left to right"


def test_pictures_are_coloured_inside_and_white_outside():
    scene = Scene((SceneObject("blue", "square", x=0.25, y=0.5, side=0.25),
                   SceneObject("yellow", "circle", x=0.75, y=0.25, side=0.25)))  # fmt: skip
    picture = drawn(scene, 32)
    assert picture[:, 16, 8].tolist() == list(COLOURS["blue"])
    assert picture[:, 8, 24].tolist() == list(COLOURS["yellow"])
    assert (picture[:, 20:, 16:] == 255).all() and (picture[:, 8, :16] == 255).all()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    command = ["data", "shapes", "--n", "60", "--size", "24", "--captions", "40", "--seed", "3"]
    assert main([*command, "--out", str(folder / "s.npz"), "--json", str(folder / "s.json")]) == 0
    return folder


def test_the_files_are_read_as_captioned_images(made):
    images = read_captions(read_images(str(made / "s.npz"), Reading()))
    scenes = read_scenes(made / "s.json.gz")
    assert scenes == random_scenes(60, 3)
    assert (images.pixels == np.stack([drawn(scene, 24) for scene in scenes])).all()
    assert images.captions == tuple(map(caption_of_scene, scenes)) and images.drawings is None
    assert images.names == ("one object", "three objects", "two objects")
    counts = [int(images.names[k].split()[0].replace("one", "1").replace("two", "2").replace("three", "3"))
              for k in images.labels]  # fmt: skip
    assert counts == [len(scene.objects) for scene in scenes]
    train, held = split(images, 0.2)
    assert len(train) == 48 and len(held.captions) == 12 and RandomImages(train).captions is not None


def test_held_out_captions_are_apart_from_the_pictures(made):
    held, seen = read_scenes(made / "s-held-out.jsonl"), read_scenes(made / "s.json.gz")
    assert len(held) == 40
    pairs = [{(one.colour, one.shape) for s in scenes for one in s.objects} for scenes in (held, seen)]
    assert not pairs[0] & pairs[1]
    for line in (made / "s-held-out.jsonl").read_text().splitlines():
        assert json.loads(line)["held_out"] is True
    assert not any(
        record["held_out"] for record in json.loads(gzip.decompress((made / "s.json.gz").read_bytes()))
    )
    result = json.loads((made / "s.json").read_text())
    assert result["metrics"]["n"] == 60 and "(i + j) % 4 == 0" in result["protocol"]


def test_the_same_command_writes_the_same_bytes_and_no_file_of_others_is_replaced(made, capsys):
    names = ("s.npz", "s.json.gz", "s-held-out.jsonl")
    before = [(made / name).read_bytes() for name in names]
    command = ["data", "shapes", "--n", "60", "--size", "24", "--captions", "40", "--seed", "3"]
    assert main([*command, "--out", str(made / "s.npz")]) == 0
    assert "without red triangle, green square, " in capsys.readouterr().out
    again = [(made / name).read_bytes() for name in names]
    assert before[1:] == again[1:]  # the .npz holds its time
    assert (np.load(made / "s.npz")["images"] == read_images(str(made / "s.npz"), Reading()).pixels.transpose(
        0, 2, 3, 1)).all()  # fmt: skip
    for name in names:
        kept = (made / name).read_bytes()
        (made / name).write_text("mine")
        assert main([*command, "--out", str(made / "s.npz")]) == 2
        assert f"{name} exists and was not made by unveil" in capsys.readouterr().err
        (made / name).write_bytes(kept)


def test_flags_are_checked(tmp_path, capsys):
    for words, message in (
        (["--out", str(tmp_path / "x.png")], "--out must be the name of an .npz file"),
        (["--size", "8"], "--size must be a whole number of at least 24"),
        (["--objects", "4"], "--objects"),
    ):
        assert main(["data", "shapes", *words]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "change",
    [{"objects": []}, {"relation": "beside"}, {"objects": [{"colour": "pink", "shape": "circle"}]},
     {"objects": [{"colour": "red", "shape": "circle", "x": "1"}]}, {"objects": None}, {"relation": "left of"}],
)  # fmt: skip
def test_other_records_are_refused(tmp_path, change):
    record = {"objects": [{"colour": "red", "shape": "circle"}], "relation": ""} | change
    (tmp_path / "r.jsonl").write_text(json.dumps(record))
    with pytest.raises(UnveilError, match=r"line 1: not a record of unveil data shapes"):
        read_scenes(tmp_path / "r.jsonl")
