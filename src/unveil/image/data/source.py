"""Sources of images: a folder, an array, Fashion-MNIST (IDX files) or CIFAR-10 (its binary archive)."""

import gzip
import hashlib
import tarfile
import zlib
from dataclasses import replace
from difflib import get_close_matches
from io import BufferedIOBase
from math import prod
from pathlib import Path

import numpy as np

from unveil.errors import UnveilError
from unveil.files.download import download
from unveil.files.hdf5 import room
from unveil.files.npz import DAMAGE
from unveil.files.places import found, home
from unveil.image.data.arrays import read_array
from unveil.image.data.folder_listing import parts
from unveil.image.data.folders import class_names, read_folder
from unveil.image.data.images import ImageSet
from unveil.image.data.reading import Reading

FASHION = "fashion-mnist"
FASHION_URL = "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # package dataset-fashion-mnist
GARMENTS = "T-shirt, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag, ankle boot"
FASHION_NAMES = tuple(GARMENTS.split(", "))
FASHION_SHA256 = {  # of the unpacked files
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
}
CIFAR_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ARCHIVES = (".tar.gz", ".tgz", ".tar")
CIFAR_BATCHES = tuple(f"data_batch_{k}.bin" for k in range(1, 6))


def read_images(source: str, reading: Reading, styles: tuple[str, ...] = (), test: bool = False) -> ImageSet:
    """Read the images of a source, also below $UNVEIL_DATA and the cache.

    - `fashion-mnist`: from the Debian package `dataset-fashion-mnist`, the cache, or downloaded into it;
    - a folder with IDX files (`train-images-idx3-ubyte`, also .gz), with CIFAR-10's `data_batch_1.bin`, or of
      picture files;
    - `cifar-10-binary.tar.gz`; a .npz or .npy.

    Args:
        test: read the source's own test images; the classes of a folder have the numbers of the training
            images.
    Raises:
        UnveilError: no such source, damaged, or without test images of its own.
    """
    place = found(Path(source))
    # an interrupted download
    cut_short = place == home() / FASHION and not all(_idx(place, name) for name in FASHION_SHA256)
    if source == FASHION and (cut_short or not place.is_dir()):
        place = DEBIAN if DEBIAN.is_dir() else _downloaded()
    if place.is_dir():
        if any(_idx(place, f"{part}-images-idx3-ubyte") for part in ("train", "t10k")):
            return _fitting(read_idx(place, test), reading, place)
        if (place / CIFAR_BATCHES[0]).is_file():
            return _fitting(read_cifar(place, test), reading, place)
        divided = parts(place)
        if not test:
            images = read_folder(divided.train, reading)
            return replace(images, notes=divided.notes + images.notes)
        if divided.test is None:
            raise UnveilError(f"{place} has no test images of its own (a folder test/ or val/ beside train/)")
        return read_folder(divided.test, reading, class_names(divided.train))
    if not place.is_file():
        close = get_close_matches(source, [FASHION], n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise UnveilError(
            f"{source}: no such file or folder{hint}, here, below $UNVEIL_DATA or in the cache; give a "
            f"folder of images, a .npz or .npy, {FASHION}, or cifar-10-binary.tar.gz"
        )
    if place.name.endswith(ARCHIVES):
        return _fitting(read_cifar(place, test), reading, place)
    if place.suffix not in (".npz", ".npy"):
        raise UnveilError(
            f"{place}: not a set of images; give a folder of images, a .npz or .npy, {FASHION}, or "
            "cifar-10-binary.tar.gz"
        )
    if test:
        raise UnveilError(f"{place} has no test images of its own")
    return read_array(place, reading, styles)


def has_test(source: str) -> bool:
    """Whether a source has test images of its own."""
    place = found(Path(source))
    if source == FASHION or place.name.endswith(ARCHIVES):
        return True
    if not place.is_dir():
        return False
    files = _idx(place, "t10k-images-idx3-ubyte"), place / "test_batch.bin"
    return any(file and file.is_file() for file in files) or parts(place).test is not None


def _fitting(images: ImageSet, reading: Reading, what: Path) -> ImageSet:
    side = images.pixels.shape[-1]
    if reading.size not in (0, side):
        raise UnveilError(
            f"{what}: its images are {side} x {side}, but `size` is {reading.size}; leave `size` out"
        )
    return images


def _idx(folder: Path, name: str) -> Path | None:
    return next((file for file in (folder / name, folder / f"{name}.gz") if file.is_file()), None)


def read_idx(folder: Path, test: bool = False) -> ImageSet:
    """MNIST's format: 0, 0, 8 (bytes), number of axes, each size as a big-endian 32-bit number, then the
    numbers. LeCun's MNIST page.

    Raises:
        UnveilError: a file is missing, cut short, or of another format.
    """
    kind = "t10k" if test else "train"
    pixels, labels = (_read_idx(folder, f"{kind}-{what}-ubyte") for what in ("images-idx3", "labels-idx1"))
    if pixels.ndim != 3 or labels.shape != (len(pixels),):
        raise UnveilError(f"{folder}: images {pixels.shape} and labels {labels.shape} do not belong together")
    last = int(labels.max())
    known = last == 9 and FASHION in str(folder)
    names = FASHION_NAMES if known else tuple(map(str, range(last + 1)))
    return ImageSet(pixels[:, None], labels.astype(np.int64), names)


def _read_idx(folder: Path, name: str) -> np.ndarray:
    file = _idx(folder, name)
    if file is None:
        raise UnveilError(f"{folder}: no {name} or {name}.gz there")
    try:
        with gzip.open(file) if file.suffix == ".gz" else open(file, "rb") as stream:
            head = stream.read(4)
            axes = head[3] if len(head) == 4 else 0
            sizes = stream.read(4 * axes)
            shape = tuple(int(n) for n in np.frombuffer(sizes, ">u4")) if len(sizes) == 4 * axes else ()
            length = prod(shape) if shape and head[:3] == b"\0\0\x08" else -1
            if not 0 <= length <= room(file.stat().st_size):
                raise UnveilError(f"{file}: not an IDX file of bytes, or cut short")
            array = np.empty(length, np.uint8)
            done = 0
            while got := stream.readinto(memoryview(array)[done:]):  # pyright: ignore[reportArgumentType]
                done += got
            if done < length or stream.read(1):
                raise UnveilError(f"{file}: cut short or too long ({done:,} of {length:,} bytes)")
    except (OSError, EOFError, zlib.error) as error:
        raise UnveilError(f"{file}: damaged ({error})") from error
    return array.reshape(shape)


def _downloaded() -> Path:
    folder = home() / FASHION
    for name, digest in FASHION_SHA256.items():
        file = download(f"{FASHION_URL}{name}.gz", folder / f"{name}.gz")
        try:
            held = hashlib.sha256(gzip.decompress(file.read_bytes())).hexdigest()
        except (OSError, EOFError, zlib.error) as error:
            raise UnveilError(f"{file}: damaged ({error}); delete it to download it again") from error
        if held != digest:
            raise UnveilError(
                f"{file}: not Fashion-MNIST's (SHA-256 of its contents is {held}); delete it to download it "
                "again"
            )
    return folder


def read_cifar(place: Path, test: bool = False) -> ImageSet:
    """CIFAR-10's binary version, unpacked or not: records of a class and 3 x 32 x 32 numbers.
    cs.toronto.edu/~kriz/cifar.html.

    Raises:
        UnveilError: a batch is missing, cut short, or holds a class above 9.
    """
    wanted = ("test_batch.bin",) if test else CIFAR_BATCHES
    try:
        if place.is_dir():
            sizes = {name: (place / name).stat().st_size for name in wanted if (place / name).is_file()}
            batches, records = _batches(place, wanted, sizes)
            for name, part in batches.items():
                with open(place / name, "rb") as stream:
                    _filled(part, stream)
        else:
            largest = room(place.stat().st_size)
            with tarfile.open(place) as archive:
                members: dict[str, tarfile.TarInfo] = {}
                for member in archive:
                    if archive.offset > largest:
                        raise UnveilError(f"{place}: unpacks to more than {largest:,} bytes")
                    if member.isfile():
                        members[member.name.rpartition("/")[2]] = member
                sizes = {name: members[name].size for name in wanted if name in members}
                batches, records = _batches(place, wanted, sizes)
                for name in sorted(batches, key=lambda name: members[name].offset):
                    stream = archive.extractfile(members[name])
                    assert isinstance(stream, BufferedIOBase)
                    _filled(batches[name], stream)
    except (*DAMAGE, tarfile.TarError) as error:
        raise UnveilError(f"{place}: damaged ({error})") from error
    labels = records[:, 0].astype(np.int64)
    if int(labels.max()) > 9:
        raise UnveilError(
            f"{place}: class {labels.max()} in it, and there are 0 .. 9: not CIFAR-10's records of a class "
            "and 3072 numbers"
        )
    flat = records.reshape(-1)
    for k in range(len(records)):  # in place: record k moves k + 1 numbers forward
        flat[3072 * k : 3072 * (k + 1)] = records[k, 1:].copy()
    return ImageSet(flat[: 3072 * len(records)].reshape(-1, 3, 32, 32), labels, CIFAR_NAMES)


def _batches(
    place: Path, wanted: tuple[str, ...], sizes: dict[str, int]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The rows of each batch in one array (N, 3073) of all."""
    for name in wanted:
        if name not in sizes:
            raise UnveilError(
                f"{place}: no {name} in it; CIFAR-10's binary version is needed, not the Python one"
            )
        if not sizes[name] or sizes[name] % 3073 or sizes[name] > 2**28:
            raise UnveilError(
                f"{place}: {name} is not whole records of a class and 3072 numbers ({sizes[name]:,} bytes)"
            )
    counts = [sizes[name] // 3073 for name in wanted]
    records = np.empty((sum(counts), 3073), np.uint8)
    rows = np.split(records, np.cumsum(counts)[:-1])
    return dict(zip(wanted, rows, strict=True)), records


def _filled(part: np.ndarray, stream: BufferedIOBase) -> None:
    """Fill a part of an array from a stream.

    Raises:
        EOFError: the stream is too short.
    """
    room, done = memoryview(part.reshape(-1)), 0  # pyright: ignore[reportArgumentType]
    while done < len(room):
        got = stream.read(min(2**20, len(room) - done))
        if not got:
            raise EOFError(f"{done:,} of {len(room):,} bytes")
        room[done : done + len(got)] = got
        done += len(got)
