"""Pictures as people have them: photos of phones, screenshots, downloads, folders of other programs; read
upright, or told of."""

import os
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from unveil.errors import UnveilError
from unveil.image.data.folder_listing import natural
from unveil.image.data.folders import read_image_files
from unveil.image.data.images import ImageSet, RandomImages, as_numbered, split
from unveil.image.data.reading import Reading
from unveil.image.data.source import has_test, read_images

CORNERS = (
    np.array([[10, 80], [160, 240]], np.uint8).repeat(8, 0).repeat(8, 1)
)  # top left, top right, bottom left, bottom right


def save(path, array=CORNERS, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    (array if isinstance(array, Image.Image) else Image.fromarray(array)).save(path, **more)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_pictures_are_upright_whatever_their_exif_says(tmp_path, orientation, suffix):
    """Stored as a camera turned so stores it, for all eight orientations of Exif 2.3: read, it is upright
    again."""
    stored = {1: CORNERS, 2: CORNERS[:, ::-1], 3: CORNERS[::-1, ::-1], 4: CORNERS[::-1], 5: CORNERS.T}
    stored |= {6: np.rot90(CORNERS, 1), 7: np.rot90(CORNERS, 2).T, 8: np.rot90(CORNERS, -1)}
    exif = Image.Exif()
    exif[0x0112] = orientation
    more = {"quality": 95} if suffix == "jpg" else {"lossless": True} if suffix == "webp" else {}
    file = save(tmp_path / f"x.{suffix}", np.ascontiguousarray(stored[orientation]), exif=exif, **more)
    for pixels in (
        read_images(str(tmp_path), Reading()).pixels[0],
        read_image_files([file], Reading(), 3)[0],
    ):
        assert np.abs(pixels[0].astype(int) - CORNERS).max() < 12


def test_exif_that_is_damaged_turns_nothing(tmp_path):
    save(tmp_path / "x.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12", quality=95)
    assert np.abs(read_images(str(tmp_path), Reading()).pixels[0, 0].astype(int) - CORNERS).max() < 12


GREY4 = np.full((4, 4), 7, np.uint8)
OPAQUE = np.full((4, 4), 255, np.uint8)


def paletted(index: int) -> Image.Image:
    """All pixels are (9, 8, 7), entry 0; entry `index` is transparent."""
    image = Image.new("P", (4, 4), 0)
    image.putpalette([9, 8, 7, 1, 1, 1])
    image.info["transparency"] = index
    return image


@pytest.mark.parametrize(
    ("image", "pixel"),
    [
        (Image.fromarray(np.dstack([GREY4, GREY4 + 1, GREY4 + 2, OPAQUE])), [7, 8, 9]),
        (Image.fromarray(np.dstack([GREY4, OPAQUE]), "LA"), [7]),
        (paletted(1), [9, 8, 7]),
    ],
)
def test_alpha_that_hides_nothing_is_dropped(tmp_path, image, pixel):
    save(tmp_path / "x.png", image, **({"transparency": 1} if image.mode == "P" else {}))
    assert read_images(str(tmp_path), Reading()).pixels[0, :, 2, 2].tolist() == pixel
    np.savez(tmp_path / "x.npz", images=np.dstack([GREY4, GREY4 + 1, GREY4 + 2, OPAQUE])[None])
    assert read_images(str(tmp_path / "x.npz"), Reading()).pixels[0, :, 2, 2].tolist() == [7, 8, 9]


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(np.dstack([GREY4, GREY4 * 20]), "LA"),
        paletted(0),
        Image.fromarray(np.dstack([GREY4] * 4)),
    ],
)
def test_alpha_that_hides_something_is_told(tmp_path, image):
    save(tmp_path / "x.png", image, **({"transparency": 0} if image.mode == "P" else {}))
    with pytest.raises(
        UnveilError, match=r"has transparent pixels \(mode .*, 100.0% of its pixels\); give `background`"
    ):
        read_images(str(tmp_path), Reading())
    white = read_images(str(tmp_path), Reading(background="white")).pixels[0, 0, 0, 0]
    assert abs(int(white) - {"LA": 119, "P": 255, "RGBA": 248}[image.mode]) <= 1


def test_transparent_arrays_want_a_background(tmp_path):
    np.savez(tmp_path / "x.npz", images=np.dstack([GREY4, GREY4, GREY4, 0 * OPAQUE])[None])
    with pytest.raises(UnveilError, match=r"x\.npz: has transparent pixels; give `background`"):
        read_images(str(tmp_path / "x.npz"), Reading())
    assert (read_images(str(tmp_path / "x.npz"), Reading(background="black")).pixels == 0).all()


def cut_short(path):
    save(path, np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:900])


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("a.jpg", cut_short, "cannot be read .*truncated"),
        ("a.png", lambda p: p.write_bytes(b""), "it is empty"),
        (
            "a.jpg",
            lambda p: save(p, Image.new("CMYK", (4, 4))),
            "colours are CMYK, but grey or RGB is needed; convert it first",
        ),
        (
            "a.tif",
            lambda p: save(p, np.full((4, 4), 0.5, np.float32)),
            r"more than 8 bits per channel \(mode F\)",
        ),
        ("a.tif", lambda p: save(p, np.full((4, 4), 70_000, np.int32)), "more than 8 bits per channel"),
        ("a.tif", lambda p: save(p, np.full((4, 4), 700, np.uint16)), "more than 8 bits per channel"),
        ("a.tif", lambda p: save(p, Image.new("LAB", (4, 4))), "colours are LAB"),
    ],
)
def test_what_cannot_be_read_is_named_and_can_be_left_out(tmp_path, name, make, message):
    make(tmp_path / name)
    with pytest.raises(UnveilError, match=f"{name}: cannot be read .*{message}|{message}"):
        read_images(str(tmp_path), Reading())
    save(tmp_path / "good.png", GREY4)
    images = read_images(str(tmp_path), Reading(skip_corrupt=True))
    assert images.skipped == (name,) and len(images) == 1 and (images.pixels == 7).all()


def test_of_an_animation_the_first_picture_is_read_and_it_is_told(tmp_path):
    frames = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (10, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    frames[0].convert("RGB").save(
        tmp_path / "b.webp", save_all=True, append_images=[frames[1].convert("RGB")], lossless=True
    )
    save(tmp_path / "c.png", GREY4)
    images = read_images(str(tmp_path), Reading())
    assert images.pixels[:, 0, 0, 0].tolist() == [10, 10, 7]
    assert images.notes == ("2 files hold several images, of which the first is read (a.gif, b.webp)",)


def test_what_is_no_picture_is_left_out_and_told(tmp_path):
    save(tmp_path / "p" / "a.PNG", GREY4)
    save(tmp_path / "p" / "b.JFIF", GREY4, format="jpeg")
    save(tmp_path / "p" / ".hidden" / "c.png", GREY4)
    save(tmp_path / "p" / "__MACOSX" / "d.png", GREY4)
    for name in ("Thumbs.db", ".DS_Store", "readme.txt", "._a.png", "IMG_1.HEIC", "IMG_2.heic", "raw.NEF"):
        (tmp_path / "p" / name).write_bytes(b"?")
    os.symlink(tmp_path / "nowhere.png", tmp_path / "p" / "gone.png")
    images = read_images(str(tmp_path / "p"), Reading())
    assert len(images) == 2 and images.labels is None
    heic, raw, others = images.notes
    assert heic.startswith("left out 2 images .heic: a phone's HEIC: convert them to JPEG first")
    assert raw.startswith("left out 1 image .nef") and others.startswith(
        "left out 7 files that are no pictures ("
    )
    with pytest.raises(UnveilError, match=r"IMG_1\.HEIC: cannot be read .a phone's HEIC: convert"):
        read_image_files([tmp_path / "p" / "IMG_1.HEIC"], Reading(), 3)
    (tmp_path / "q").mkdir()
    (tmp_path / "q" / "a.heic").write_bytes(b"?")
    with pytest.raises(
        UnveilError, match=r"no images in this folder; looked for .*; left out 1 image \.heic"
    ):
        read_images(str(tmp_path / "q"), Reading())


def test_linked_folders_are_gone_through_and_circles_end(tmp_path):
    save(tmp_path / "elsewhere" / "1.png", GREY4)
    save(tmp_path / "p" / "dog" / "1.png", GREY4)
    os.symlink(tmp_path / "elsewhere", tmp_path / "p" / "cat")
    os.symlink(tmp_path / "p", tmp_path / "p" / "dog" / "again")
    images = read_images(str(tmp_path / "p"), Reading())
    assert images.names == ("cat", "dog") and len(images) == 2


def test_classes_are_wanted_only_where_they_are_asked(tmp_path):
    for name in ("p/IMG_0001.jpg", "p/holiday.jpg", "q/summer/1.png", "q/2.png"):
        save(tmp_path / name, GREY4)
    for name, why in (("p", "holiday.jpg has no class: it is in no subfolder"), ("q", "2.png has no class")):
        images = read_images(str(tmp_path / name), Reading())
        assert len(images) == 2 and images.labels is None and why in images.unlabelled


@pytest.mark.parametrize(
    ("files", "names", "test", "note"),
    [
        (
            "train/cat/1 train/dog/2 val/cat/3 val/dog/4",
            ("cat", "dog"),
            2,
            "val/ is held out, train/ trained on",
        ),
        ("Training/cat/1 Training/dog/2 VALID/dog/4", ("cat", "dog"), 1, "VALID/ is held out"),
        ("train/cat/1 train/dog/2 test/cat/3 validation/dog/4", ("cat", "dog"), 1, "left out validation/"),
        ("images/cat/1 images/dog/2", ("cat", "dog"), None, "the images are those of"),
        ("photos/pets/cat/1 photos/pets/dog/2", ("cat", "dog"), None, "the images are those of"),
        ("x/train/cat/1 x/train/dog/2 x/test/cat/1", ("cat", "dog"), 1, "the images are those of"),
        ("images/train/cat/1 images/train/dog/2 images/val/dog/3", ("cat", "dog"), 1, "val/ is held out"),
        ("train/images/cat/1 train/images/dog/2 val/images/cat/1", ("cat", "dog"), 1, "val/ is held out"),
        ("train/1 plane/2 bus/3", ("bus", "plane", "train"), None, ""),
        ("train/cat_1 train/dog_2 test/dog_3", ("cat", "dog"), 1, ""),
        (
            "cat/train/1 cat/val/2 dog/train/3 dog/val/4",
            ("cat", "dog"),
            None,
            "train/ and val/ inside the classes",
        ),
        ("cats/1 cats/2", ("cats",), None, ""),
        ("images/1 images/2", (), None, "the images are those of"),
        ("10/1 2/2 1/3", ("1", "2", "10"), None, ""),
        ("class10/1 class9/2", ("class9", "class10"), None, ""),
    ],
)
def test_folders_as_people_divide_them(tmp_path, files, names, test, note):
    for k, name in enumerate(files.split()):
        save(tmp_path / "d" / f"{name}.png", np.full((4, 4), k, np.uint8))
    images = read_images(str(tmp_path / "d"), Reading())
    assert images.names == names and any(note in line for line in images.notes) == bool(note)
    assert has_test(str(tmp_path / "d")) == (test is not None)
    if names:
        found = {name.split("/")[-2 if "_" not in name else -1].split("_")[0] for name in files.split()}
        assert images.labels is not None and (set(names) <= found or "train" in files)
    if test is not None:
        held = read_images(str(tmp_path / "d"), Reading(), test=True)
        assert len(held) == test and held.names == names
        last = int(held.pixels[-1, 0, 0, 0])
        kind = files.split()[last].split("/")[-1 if "_" in files else -2].split("_")[0]
        assert names[held.labels[-1]] == kind  # numbered as in training


def test_a_division_without_training_pictures_is_refused(tmp_path):
    for name in ("val/cat/1", "test/cat/1"):
        save(tmp_path / f"{name}.png", GREY4)
    with pytest.raises(UnveilError, match="is divided into test, val, without a train/"):
        read_images(str(tmp_path), Reading())


def test_two_stands_before_ten_and_a_runs_own_order_is_kept():
    assert sorted(["10", "2", "b", "a10", "a9", "02"], key=natural) == ["02", "2", "10", "a9", "a10", "b"]
    images = ImageSet(np.zeros((3, 1, 2, 2), np.uint8), np.array([0, 1, 2]), ("1", "2", "10"))
    before = as_numbered(images, ("1", "10", "2"))
    assert before.labels.tolist() == [0, 2, 1] and before.names == ("1", "10", "2")
    assert as_numbered(images, ("x", "y", "z")) is images


@pytest.mark.parametrize(
    ("values", "levels", "note"),
    [
        (
            np.array([0.0, 0.5, 1.0], np.float32),
            [0, 128, 255],
            "float32 in 0 .. 1, read as 0 black and 1 white",
        ),
        (np.array([-1.0, 0.0, 1.0]), [0, 128, 255], "float64 in -1 .. 1, read as -1 black and 1 white"),
        (np.array([0.0, 3.0, 255.0], np.float16), [0, 3, 255], ""),
        (np.array([0, 3, 255], np.int64), [0, 3, 255], ""),
        (np.array([0, 1, 1], np.uint8), [0, 1, 1], "nearly black; if 1 is white, multiply them by 255"),
    ],
)
@pytest.mark.parametrize("suffix", ["npz", "npy"])
def test_numbers_are_read_as_what_they_plainly_are(tmp_path, values, levels, note, suffix):
    array = np.broadcast_to(values[:, None, None], (3, 4, 4))
    (np.savez if suffix == "npz" else np.save)(
        tmp_path / f"x.{suffix}", **{"images" if suffix == "npz" else "arr": array}
    )
    images = read_images(str(tmp_path / f"x.{suffix}"), Reading())
    assert images.pixels[:, 0, 0, 0].tolist() == levels and images.pixels.dtype == np.uint8
    assert ("".join(images.notes) == "") == (note == "") and note in "".join(images.notes)


def test_words_are_classes_and_fields_nobody_asked_for_do_not_matter(tmp_path):
    images = np.zeros((3, 4, 4), np.uint8)
    text = np.array(["one", "two", "three"])
    np.savez(tmp_path / "a.npz", images=images, labels=np.array(["dog", "cat", "dog"]), captions=text)
    read = read_images(str(tmp_path / "a.npz"), Reading())
    assert read.names == ("cat", "dog") and read.labels.tolist() == [1, 0, 1]
    np.savez(tmp_path / "b.npz", images=images, labels=np.array([[2], [0], [1]]))
    assert read_images(str(tmp_path / "b.npz"), Reading()).labels.tolist() == [2, 0, 1]
    for labels in (
        np.array([0, -1, 1]),
        np.array([0]),
        np.array([0.5, 1, 2]),
        np.array([{}, 1, 2], dtype=object),
    ):
        np.savez(tmp_path / "c.npz", images=images, labels=labels)
        read = read_images(str(tmp_path / "c.npz"), Reading())
        assert read.labels is None and "labels must be 3 whole numbers from 0, or words" in read.unlabelled


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\3\4 no more", b"\x93NUMPY\1\0", b"\x93NUMPY\1\0\x10\0{'descr': broken", b"\x80\4K\1."],
)
@pytest.mark.parametrize("suffix", ["npz", "npy"])
def test_damaged_arrays_are_one_line(tmp_path, content, suffix):
    (tmp_path / f"x.{suffix}").write_bytes(content)
    with pytest.raises(UnveilError, match=rf"x\.{suffix}: not an array of images"):
        read_images(str(tmp_path / f"x.{suffix}"), Reading())


def test_arrays_by_the_wrong_suffix_are_read_all_the_same(tmp_path):
    rows = np.arange(3, dtype=np.uint8)[:, None, None] * np.ones((4, 4), np.uint8)
    np.save(tmp_path / "a.npy", rows)
    np.savez(tmp_path / "b.npz", images=rows)
    (tmp_path / "a.npy").rename(tmp_path / "c.npz")
    (tmp_path / "b.npz").rename(tmp_path / "d.npy")
    for name in ("c.npz", "d.npy"):
        assert read_images(str(tmp_path / name), Reading()).pixels[:, 0, 0, 0].tolist() == [0, 1, 2]


def peak(call) -> tuple[object, int]:
    tracemalloc.start()
    try:
        return call(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["folder", "channels last", "channels first"])
def test_reading_and_holding_out_take_the_memory_of_the_set(tmp_path, kind):
    """And neither a list of all beside the array, nor a copy for batches: at most 1.35 times the set, where
    it was 3 times."""
    shape, rng = (64, 96, 96, 3), np.random.default_rng(0)
    rows = rng.integers(0, 256, shape, dtype=np.uint8)
    if kind == "folder":
        for k, picture in enumerate(rows):
            save(tmp_path / f"{k:02d}.bmp", picture)
    else:
        np.save(tmp_path / "x.npy", rows if kind == "channels last" else rows.transpose(0, 3, 1, 2))
    source = str(tmp_path if kind == "folder" else tmp_path / "x.npy")

    def ready():
        kept, held = split(read_images(source, Reading()), 0.05, in_place=True)
        return RandomImages(kept), kept, held

    ready()  # what is imported and decorated at the first call
    (pictures, kept, held), most = peak(ready)
    assert most < 1.35 * rows.nbytes and len(held) == 3 and pictures.pixels.numpy().base is not None
    there = {picture.tobytes() for picture in rows.transpose(0, 3, 1, 2)}
    found = [picture.tobytes() for picture in (*kept.pixels, *held.pixels)]
    assert len(set(found)) == 64 and set(found) == there
    again, _ = split(read_images(source, Reading()), 0.05)
    assert (again.pixels == kept.pixels).all()


def test_readings_are_checked_where_they_are_made():
    for given, message in (
        ({"size": 2.5}, "`size` must be a whole number"),
        ({"background": "red"}, "must be one of"),
        ({"fit": "fill"}, "`fit` must be one of"),
    ):
        reading = object.__new__(Reading)
        for name, value in (
            {"size": 0, "fit": "exact", "background": "", "skip_corrupt": False} | given
        ).items():
            object.__setattr__(reading, name, value)
        with pytest.raises(ValueError, match=message):
            reading.__post_init__()
