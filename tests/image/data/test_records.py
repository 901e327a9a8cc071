"""Images with records beside them are read back as they were written, and no file of the user is lost."""

import numpy as np
import pytest

from unveil.errors import UnveilError
from unveil.image.data.arrays import read_array
from unveil.image.data.reading import Reading
from unveil.image.data.records import check_recorded, records_beside, write_recorded

RECORDS = [
    {"group": "b", "code": "7", "style": "flat", "caption": "a red car"},
    {"group": "a", "code": "7", "style": "noto", "caption": "a blue car"},
    {"group": "b", "code": "8", "style": "flat", "caption": "a cat"},
]


def test_what_is_written_is_read(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    write_recorded(tmp_path / "some.npz", pixels, RECORDS)
    images = read_array(tmp_path / "some.npz", Reading())
    assert np.array_equal(images.pixels, pixels.transpose(0, 3, 1, 2))
    assert images.stored_captions == ("a red car", "a blue car", "a cat")
    assert images.names == ("a", "b") and images.labels.tolist() == [1, 0, 1]
    assert images.groups.tolist() == [0, 0, 1]


def test_it_may_be_written_again_and_is_the_same(tmp_path):
    pixels, file = np.zeros((3, 4, 4, 3), np.uint8), tmp_path / "some.npz"
    write_recorded(file, pixels, RECORDS)
    before = records_beside(file).read_bytes()
    check_recorded(file)
    write_recorded(file, pixels, RECORDS)
    assert records_beside(file).read_bytes() == before


@pytest.mark.parametrize("name", ["some.npz", "some.json.gz"])
def test_files_of_others_are_kept(tmp_path, name):
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(UnveilError, match="some"):
        check_recorded(tmp_path / "some.npz")
    assert (tmp_path / name).read_bytes() == b"mine"
