"""PNG files that say how they were made, damaged: sizes that nothing has, JSON without end, names too long;
and maps that are no text."""

import json
import struct
import zlib

import numpy as np
import pytest

from unveil.errors import UnveilError
from unveil.files.pictures import read_parameters, write_picture
from unveil.image.recipes.config import SampleImage
from unveil.image.recipes.load import open_image
from unveil.image.recipes.reproduce import repeated
from unveil.planning.recipes.maze.load import find_layout


def test_a_size_that_no_picture_has_is_refused(tmp_path):
    file = tmp_path / "a.png"
    write_picture(file, np.zeros((4, 4, 1), np.uint8), "said")
    assert read_parameters(file) == "said"
    data = bytearray(file.read_bytes())
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    file.write_bytes(data)
    with pytest.raises(UnveilError, match=r"not a PNG that can be read: .*pixels"):
        read_parameters(file)


@pytest.mark.parametrize(
    "said",
    ["[" * 100_000, "[]", json.dumps({"weights": "a", "checkpoint": "x" * 300})],
    ids=["deep", "list", "name"],
)
def test_parameters_that_are_none(said, tmp_path):
    write_picture(tmp_path / "a.png", np.zeros((4, 4, 1), np.uint8), said)
    with pytest.raises(UnveilError, match=r"not those of unveil sample image|no name of a file"):
        open_image(repeated(SampleImage(from_png=tmp_path / "a.png"))[0].checkpoint)


@pytest.mark.parametrize("text", [b"\xff\xfe#", b"###\n#\xed\xa0\x80#\n###"])
def test_maps_that_are_no_text(text, tmp_path):
    (tmp_path / "m.txt").write_bytes(text)
    with pytest.raises(UnveilError, match="not UTF-8 text, so no map"):
        find_layout(str(tmp_path / "m.txt"))


def test_maps_of_any_characters_are_refused_in_few_words(tmp_path):
    (tmp_path / "m.txt").write_text("".join(chr(k) for k in range(0x4E00, 0x5E00)))
    with pytest.raises(ValueError, match="unknown tiles") as caught:
        find_layout(str(tmp_path / "m.txt"))
    assert len(str(caught.value)) < 200
    (tmp_path / "m.txt").write_text("#\n##\n" * 5000)
    with pytest.raises(ValueError, match="rows of one length") as caught:
        find_layout(str(tmp_path / "m.txt"))
    assert len(str(caught.value)) < 300
