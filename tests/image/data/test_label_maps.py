"""Semantic maps from folders and arrays: which map belongs to which image, sizes, and labels."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unveil.errors import UnveilError
from unveil.image.data.images import ImageSet, split
from unveil.image.data.label_maps import labels_in, read_map_file, read_maps
from unveil.image.data.reading import Reading
from unveil.image.data.source import read_images

PLAIN = Reading()


def write(folder: Path, side: int = 8, count: int = 6) -> None:
    """Images whose red is 10 times their label, in two subfolders, and maps of the same names."""
    rng = np.random.default_rng(0)
    for k in range(count):
        labels = rng.integers(0, 5, (side, side), dtype=np.uint8)
        picture = np.stack([10 * labels, labels, labels], -1)
        for place, what in (("images", Image.fromarray(picture)), ("maps", Image.fromarray(labels))):
            file = folder / place / "ab"[k % 2] / f"{k // 2}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            what.save(file)


def test_each_image_of_a_folder_has_the_map_of_its_name(tmp_path):
    write(tmp_path)
    images = read_images(str(tmp_path / "images"), PLAIN)
    found = read_maps(images, str(tmp_path / "maps"), str(tmp_path / "images"), PLAIN)
    assert found.maps is not None and labels_in(found.maps) == 5
    assert (found.pixels[:, 0] == 10 * found.maps).all()
    for part in split(found, 0.5, in_place=True):
        assert part.maps is not None and (part.pixels[:, 0] == 10 * part.maps).all()


@pytest.mark.parametrize("fit", ["crop", "resize"])
def test_maps_are_fitted_as_their_images_and_never_averaged(tmp_path, fit):
    """A square of label 4 on the left half of 16 x 8: the labels stay 0 and 4."""
    labels = np.zeros((8, 16), np.uint8)
    labels[:, :8] = 4
    for place in ("images", "maps"):
        (tmp_path / place).mkdir()
    Image.fromarray((50 * labels)[..., None].repeat(3, -1)).save(tmp_path / "images" / "one.png")
    Image.fromarray(labels).save(tmp_path / "maps" / "one.png")
    reading = Reading(4, fit)
    found = read_maps(read_images(str(tmp_path / "images"), reading), str(tmp_path / "maps"), "", reading)
    assert found.maps is not None
    assert (found.maps == np.repeat([[4, 4, 0, 0]], 4, 0)).all()
    assert (found.pixels[0, 0] == 50 * found.maps[0]).all()


def test_palettes_and_black_and_white_pictures_are_labels(tmp_path):
    numbers = np.arange(16, dtype=np.uint8).reshape(4, 4) % 3
    palette = Image.fromarray(numbers, mode="P")
    palette.putpalette([7, 7, 7, 200, 0, 0, 0, 200, 0])
    palette.save(tmp_path / "p.png")
    assert (read_map_file(tmp_path / "p.png", PLAIN) == numbers).all()
    Image.fromarray(numbers > 1).save(tmp_path / "bw.png")
    assert (read_map_file(tmp_path / "bw.png", PLAIN) == (numbers > 1)).all()


def test_arrays_of_maps_belong_to_the_images_in_order(tmp_path):
    images = ImageSet(np.zeros((3, 3, 4, 4), np.uint8))
    maps = np.arange(48).reshape(3, 4, 4) % 7
    np.savez(tmp_path / "d.npz", images=images.pixels, maps=maps)
    np.save(tmp_path / "m.npy", maps[..., None])
    for source in ("auto", str(tmp_path / "m.npy")):
        found = read_maps(images, source, str(tmp_path / "d.npz"), PLAIN).maps
        assert found is not None and found.dtype == np.uint8 and (found == maps).all()


def test_what_is_wrong_is_said_in_one_line(tmp_path):
    write(tmp_path)
    images = read_images(str(tmp_path / "images"), PLAIN)
    array = ImageSet(np.zeros((3, 3, 4, 4), np.uint8))
    np.save(tmp_path / "few.npy", np.zeros((2, 4, 4), np.uint8))
    np.save(tmp_path / "large.npy", np.full((3, 4, 4), 300))
    np.save(tmp_path / "wide.npy", np.zeros((3, 4, 5), np.uint8))
    np.save(tmp_path / "none.npy", np.full((3, 4, 4), 255))
    np.savez(tmp_path / "other.npz", images=array.pixels)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("no picture")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "colour.png")
    (tmp_path / "small").mkdir()
    for k in range(3):
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "small" / f"{k}.png")
    data = str(tmp_path / "images")
    for call, message in (
        (lambda: read_maps(images, "auto", data, PLAIN), "give `maps` FOLDER"),
        (lambda: read_maps(images, str(tmp_path / "empty"), data, PLAIN), "no map for"),
        (lambda: read_maps(images, str(tmp_path / "small"), data, PLAIN), "is 4 x 4, but the image"),
        (lambda: read_maps(images, str(tmp_path / "nowhere"), data, PLAIN), "no such file or folder"),
        (lambda: read_maps(array, str(tmp_path / "maps"), "", PLAIN), "needs a folder of images"),
        (lambda: read_maps(array, str(tmp_path / "few.npy"), "", PLAIN), r"maps must be \(3, H, W\)"),
        (lambda: read_maps(array, str(tmp_path / "large.npy"), "", PLAIN), r"labels 300 \.\. 300"),
        (lambda: read_maps(array, str(tmp_path / "wide.npy"), "", PLAIN), "maps are 5 x 4"),
        (lambda: read_maps(array, str(tmp_path / "none.npy"), "", PLAIN), "no pixel has a label"),
        (lambda: read_maps(array, "auto", str(tmp_path / "other.npz"), PLAIN), "no array maps in it"),
        (lambda: read_map_file(tmp_path / "text.png", PLAIN), "cannot be read as a picture of labels"),
        (lambda: read_map_file(tmp_path / "colour.png", PLAIN), "its colours are RGB"),
    ):
        with pytest.raises(UnveilError, match=message) as raised:
            call()
        assert "\n" not in str(raised.value)
