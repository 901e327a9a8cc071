"""Images as they come, whole and as they are: nothing is cropped, flattened, skipped or relabelled without
being asked."""

import gzip
import io
import json
import struct
import tarfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from unveil.errors import UnveilError
from unveil.image.data.images import ImageSet, RandomImages, alike, split
from unveil.image.data.reading import Reading
from unveil.image.data.source import FASHION_NAMES, has_test, read_images

RAMP = np.arange(8 * 6 * 3, dtype=np.uint8).reshape(8, 6, 3)


def save(path, array, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(path)


def test_classes_are_subfolders_or_prefixes_and_grey_joins_colour(tmp_path):
    red = np.zeros((4, 4, 3), np.uint8)
    red[0, 1, 0] = 200
    save(tmp_path / "a" / "dog" / "1.png", red)
    save(tmp_path / "a" / "cat" / "1.png", np.full((4, 4), 7, np.uint8))
    images = read_images(str(tmp_path / "a"), Reading())
    assert (
        images.names == ("cat", "dog")
        and images.labels.tolist() == [0, 1]
        and images.pixels.shape == (2, 3, 4, 4)
    )
    assert images.pixels[1, 0, 0, 1] == 200 and (images.pixels[0] == 7).all()
    for name in ("car_2", "bus_1", "car_1"):
        save(tmp_path / "b" / f"{name}.png", np.full((4, 4), ord(name[-1]), np.uint8))
    images = read_images(str(tmp_path / "b"), Reading())
    assert images.names == ("bus", "car") and images.labels.tolist() == [0, 1, 1]
    assert images.pixels[:, 0, 0, 0].tolist() == [ord("1"), ord("1"), ord("2")]
    save(tmp_path / "c" / "plain.png", red)
    assert read_images(str(tmp_path / "c"), Reading()).labels is None


def test_crop_takes_the_middle_and_resize_all(tmp_path):
    """6 wide, 8 high: the middle six rows, halved to 3 x 3 by means of four; squeezed, the corners stay."""
    save(tmp_path / "x.png", RAMP)
    cropped = read_images(str(tmp_path), Reading(3, "crop")).pixels[0]
    means = RAMP[1:7].reshape(3, 2, 3, 2, 3).astype(float).mean((1, 3)).transpose(2, 0, 1)
    assert np.abs(cropped - means).max() <= 1
    squeezed = read_images(str(tmp_path), Reading(2, "resize")).pixels[0]
    assert (
        np.abs(squeezed - RAMP.reshape(2, 4, 2, 3, 3).astype(float).mean((1, 3)).transpose(2, 0, 1)).max()
        <= 1
    )


@pytest.mark.parametrize(
    ("make", "reading", "message"),
    [
        (lambda d: None, Reading(), "no images in this folder"),
        (lambda d: save(d / "z.png", RAMP), Reading(), "squares are needed"),
        (
            lambda d: (save(d / "a.png", RAMP[:4, :4]), save(d / "b.png", RAMP[:5, :5])),
            Reading(),
            "mixed sizes: .*b.png is 5 x 5",
        ),
        (lambda d: save(d / "a.png", RAMP[:4, :4]), Reading(3), "is 4 x 4, but 3 x 3 is needed"),
        (lambda d: save(d / "a.png", np.full((4, 4), 700, np.uint16)), Reading(), "more than 8 bits"),
        (
            lambda d: save(d / "a.png", np.dstack([RAMP[:4, :4], RAMP[:4, :4, 0]])),
            Reading(),
            "give `background`",
        ),
        (lambda d: save(d / "a.jpg", RAMP[:4, :4], "CMYK"), Reading(), "colours are CMYK"),
        (
            lambda d: (d / "bad.png").write_bytes(b"nothing"),
            Reading(),
            "bad.png: cannot be read .*`skip_corrupt`",
        ),
        (
            lambda d: (d / "bad.png").write_bytes(b"nothing"),
            Reading(skip_corrupt=True),
            "none of its 1 images",
        ),
    ],
)
def test_what_would_be_changed_silently_is_refused(tmp_path, make, reading, message):
    make(tmp_path)
    with pytest.raises(UnveilError, match=message):
        read_images(str(tmp_path), reading)


def test_corrupt_files_are_named_when_skipped_and_backgrounds_are_asked(tmp_path):
    clear = np.zeros((4, 4, 4), np.uint8)
    clear[0, 0] = (10, 20, 30, 255)
    save(tmp_path / "k_a.png", clear)
    whole = (tmp_path / "k_a.png").read_bytes()
    (tmp_path / "k_b.png").write_bytes(whole[: len(whole) - 30])
    images = read_images(str(tmp_path), Reading(background="white", skip_corrupt=True))
    assert images.skipped == ("k_b.png",) and len(images) == 1
    assert images.pixels[0, :, 0, 0].tolist() == [10, 20, 30] and (images.pixels[0, :, 1:] == 255).all()


def test_arrays_in_every_layout(tmp_path):
    rows = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    np.save(tmp_path / "a.npy", rows)
    np.savez(tmp_path / "b.npz", arr_0=rows.transpose(0, 3, 1, 2), arr_1=np.array([2, 0]))
    np.savez(tmp_path / "c.npz", images=rows[..., 0])
    a, b, c = (read_images(str(tmp_path / name), Reading()) for name in ("a.npy", "b.npz", "c.npz"))
    assert (a.pixels == b.pixels).all() and (a.pixels[:, :1] == c.pixels).all()
    assert b.labels.tolist() == [2, 0] and b.names == ("0", "1", "2") and a.labels is None
    assert (a.pixels[1, 2, 3] == rows[1, 3, :, 2]).all()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.full((2, 4, 4), 300.0, np.float32)}, "float32 in 300 .. 300, but uint8"),
        ({"images": np.full((2, 4, 4), 1.5, np.float32)}, "or fractions within 0 .. 1 or -1 .. 1"),
        ({"images": np.full((2, 4, 4), np.nan, np.float32)}, "finite numbers are needed"),
        ({"images": np.full((2, 4, 4), 700, np.uint16)}, "uint16 in 700 .. 700, but uint8"),
        ({"images": np.full((2, 4, 4), -1)}, "int64 in -1 .. -1, but uint8"),
        ({"images": np.ones((2, 4, 4), bool)}, "images are bool, but uint8"),
        ({"images": np.ones((2, 4, 4), int)}, "int64 in 1 .. 1, but uint8"),
        ({"images": np.zeros((2, 4, 4, 2), np.uint8)}, "with C 1 or 3"),
        ({"other": np.zeros(3)}, "no array named images .* there are other"),
        ({"images": np.zeros((2, 4, 5), np.uint8)}, "squares"),
    ],
)
def test_other_arrays_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(UnveilError, match=message):
        read_images(str(tmp_path / "x.npz"), Reading())


@pytest.mark.parametrize("kind", [2, 4, 6])  # RGB; grey and alpha; RGBA
def test_sixteen_bits_are_refused_in_colour_too(tmp_path, kind):
    """PIL would cut them to 8 without a word."""
    channels = {2: 3, 4: 2, 6: 4}[kind]
    rows = b"".join(b"\0" + bytes(2 * channels * 4) for _ in range(4))

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", 4, 4, 16, kind, 0, 0, 0)
    (tmp_path / "x.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    with pytest.raises(UnveilError, match="more than 8 bits per channel"):
        read_images(str(tmp_path), Reading(background="white"))


def test_test_images_have_the_numbers_of_the_training_classes(tmp_path):
    """A test folder without the first class: its cats are still number 1, and a class that was not trained on
    is refused."""
    for part, kinds in (("train", ("ant", "cat", "dog")), ("test", ("dog", "cat"))):
        for kind in kinds:
            save(tmp_path / "pets" / part / kind / "1.png", np.full((4, 4), ord(kind[0]), np.uint8))
    train, test = (read_images(str(tmp_path / "pets"), Reading(), test=which) for which in (False, True))
    alone = read_images(str(tmp_path / "pets" / "test"), Reading())
    assert alone.labels.tolist() == [0, 1]
    for found in (test, alike(test, train), alike(alone, train)):
        assert found.names == ("ant", "cat", "dog") and found.labels.tolist() == [1, 2]
        assert found.pixels[:, 0, 0, 0].tolist() == [ord("c"), ord("d")]
    with pytest.raises(UnveilError, match="have the class 'ant', which no training image has"):
        alike(train, alone)
    grey = ImageSet(np.zeros((2, 1, 4, 4), np.uint8))
    assert alike(grey, ImageSet(np.zeros((2, 3, 4, 4), np.uint8))).pixels.shape == (2, 3, 4, 4)
    with pytest.raises(UnveilError, match=r"test images are \(3, 4, 4\)"):
        alike(ImageSet(np.zeros((2, 3, 4, 4), np.uint8)), grey)


def test_a_damaged_npz_is_named(tmp_path):
    file = tmp_path / "d.npz"
    np.savez_compressed(file, images=np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8))
    whole = file.read_bytes()
    for damaged in (whole[:-30], whole[:200] + bytes(byte ^ 255 for byte in whole[200:260]) + whole[260:]):
        file.write_bytes(damaged)
        with pytest.raises(UnveilError, match=r"d\.npz: not an array of images"):
            read_images(str(file), Reading())


def test_records_give_classes_and_openmoji_is_left_out(tmp_path):
    np.savez(
        tmp_path / "e.npz", images=np.arange(5, dtype=np.uint8)[:, None, None] * np.ones((4, 4), np.uint8)
    )
    styles, groups, codes = (
        ("noto", "openmoji", "twemoji", "noto", "noto"),
        ["food", "cars", "food", "food", "cars"],
        ["1", "2", "1", "3", "4"],
    )
    records = [{"style": s, "group": g, "code": c} for s, g, c in zip(styles, groups, codes, strict=True)]
    (tmp_path / "e.json.gz").write_bytes(gzip.compress(json.dumps(records).encode()))
    images = read_images(str(tmp_path / "e.npz"), Reading())
    assert (
        images.pixels[:, 0, 0, 0].tolist() == [0, 2, 3, 4]
        and images.names == ("cars", "food")
        and images.labels.tolist() == [1, 1, 1, 0]
    )
    kept, held = split(images, 0.67)
    assert set(kept.groups) & set(held.groups) == set() and len(kept) + len(held) == 4
    assert read_images(str(tmp_path / "e.npz"), Reading(), ("openmoji",)).pixels[:, 0, 0, 0].tolist() == [1]
    with pytest.raises(UnveilError, match="no style 'none'"):
        read_images(str(tmp_path / "e.npz"), Reading(), ("none",))
    assert read_images(str(tmp_path / "e.npz"), Reading(2, "resize")).pixels.shape == (4, 1, 2, 2)


def idx(array) -> bytes:
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def test_idx_files_as_mnist_has_them(tmp_path):
    folder = tmp_path / "fashion-mnist"
    folder.mkdir()
    pixels = np.arange(10 * 3 * 3, dtype=np.uint8).reshape(10, 3, 3)
    (folder / "train-images-idx3-ubyte").write_bytes(idx(pixels))
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(
        gzip.compress(idx(np.arange(10, dtype=np.uint8)[::-1]))
    )
    images = read_images(str(folder), Reading())
    assert (
        (images.pixels[:, 0] == pixels).all()
        and images.labels.tolist() == list(range(10))[::-1]
        and images.names == FASHION_NAMES
    )
    assert not has_test(str(folder))
    with pytest.raises(UnveilError, match="no t10k-images"):
        read_images(str(folder), Reading(), test=True)
    (folder / "train-images-idx3-ubyte").write_bytes(idx(pixels)[:-1])
    with pytest.raises(UnveilError, match="cut short"):
        read_images(str(folder), Reading())


def test_a_cache_that_a_download_left_unfinished_hides_nothing(tmp_path, monkeypatch):
    package, cache = tmp_path / "debian" / "fashion-mnist", tmp_path / "home" / "fashion-mnist"
    monkeypatch.setenv("UNVEIL_HOME", str(cache.parent))
    monkeypatch.delenv("UNVEIL_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("unveil.image.data.source.DEBIAN", package)
    for folder, value in ((package, 7), (cache, 9)):
        folder.mkdir(parents=True)
        for kind in ("train", "t10k"):
            (folder / f"{kind}-images-idx3-ubyte").write_bytes(idx(np.full((2, 3, 3), value, np.uint8)))
            (folder / f"{kind}-labels-idx1-ubyte").write_bytes(idx(np.array([0, 9], np.uint8)))
    assert (read_images("fashion-mnist", Reading()).pixels == 9).all()
    (cache / "t10k-labels-idx1-ubyte").unlink()
    assert (read_images("fashion-mnist", Reading()).pixels == 7).all()
    for file in cache.iterdir():
        file.unlink()
    assert (read_images("fashion-mnist", Reading(), test=True).pixels == 7).all()


def test_cifar_as_archive_or_unpacked(tmp_path):
    def batch(k: int) -> bytes:
        records = ((label, np.repeat(np.array([k, label, 9], np.uint8), 1024)) for label in (3, k))
        return b"".join(bytes([label]) + planes.tobytes() for label, planes in records)

    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz") as archive:
        for k, name in enumerate([*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"], 1):
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(batch(k))
            archive.addfile(info, io.BytesIO(batch(k)))
    images = read_images(str(tmp_path / "cifar-10-binary.tar.gz"), Reading())
    assert images.labels.tolist() == [3, 1, 3, 2, 3, 3, 3, 4, 3, 5] and images.names[3] == "cat"
    assert images.pixels[3, :, 5, 6].tolist() == [2, 2, 9]  # planes of red, green, blue
    assert read_images(str(tmp_path / "cifar-10-binary.tar.gz"), Reading(), test=True).labels.tolist() == [
        3,
        6,
    ]
    (tmp_path / "data_batch_1.bin").write_bytes(batch(1)[:-1])
    with pytest.raises(UnveilError, match=r"no data_batch_2|not whole records"):
        read_images(str(tmp_path), Reading())


def test_batches_follow_their_generator_and_are_mirrored_left_to_right():
    pixels = np.zeros((1, 1, 2, 3), np.uint8)
    pixels[0, 0, 0] = (1, 2, 3)
    images = ImageSet(pixels, np.array([4]))
    pictures = RandomImages(images, flip=True)
    drawn, labels = pictures.draw(400, torch.Generator().manual_seed(0))
    again, _ = pictures.draw(400, torch.Generator().manual_seed(0))
    assert torch.equal(drawn, again) and labels is not None and (labels == 4).all()
    rows = [tuple(row) for row in drawn[:, 0, 0].tolist()]
    assert set(rows) == {(1, 2, 3), (3, 2, 1)} and 150 < rows.count((3, 2, 1)) < 250
    assert not drawn[:, 0, 1].any()  # never upside down


def test_missing_sources_say_what_is_possible(tmp_path):
    with pytest.raises(UnveilError, match=r"did you mean fashion-mnist\?"):
        read_images("fashion-mnst", Reading())
    (tmp_path / "x.txt").write_text("no")
    with pytest.raises(UnveilError, match="not a set of images"):
        read_images(str(tmp_path / "x.txt"), Reading())
    with pytest.raises(ValueError, match="needs `size`"):
        Reading(fit="crop")
