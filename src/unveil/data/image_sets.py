"""Images by whatever name: a folder, an array, Fashion-MNIST (IDX files) or CIFAR-10 (its binary archive)."""

import gzip
import hashlib
import tarfile
import zlib
from difflib import get_close_matches
from math import prod
from pathlib import Path

import numpy as np

from unveil.data.download import download
from unveil.data.files import found, home
from unveil.data.hdf5 import room
from unveil.data.images import Images, Reading
from unveil.data.npz import DAMAGE, unpacked
from unveil.data.pictures import read_array, read_folder
from unveil.errors import UnveilError

FASHION = "fashion-mnist"
FASHION_URL = "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # of the package dataset-fashion-mnist
FASHION_NAMES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
FASHION_SHA256 = {  # of what the .gz files hold
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
}
CIFAR_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR_BATCHES = tuple(f"data_batch_{k}.bin" for k in range(1, 6))


def read_images(source: str, reading: Reading, styles: tuple[str, ...] = (), test: bool = False) -> Images:
    """The images of a source, also below $UNVEIL_DATA and the cache.

    - `fashion-mnist`: of the Debian package `dataset-fashion-mnist`, the cache, or downloaded into it;
    - a folder with IDX files (`train-images-idx3-ubyte`, also .gz), with CIFAR-10's `data_batch_1.bin`, or of picture files;
    - `cifar-10-binary.tar.gz`; a .npz or .npy.

    Args:
        test: the set's own test images.
    Raises:
        UnveilError: there is no such source, it is damaged, or it has no test images of its own.
    """
    place = found(Path(source))
    cut_short = place == home() / FASHION and not all(_idx(place, name) for name in FASHION_SHA256)  # a download that did not end
    if source == FASHION and (cut_short or not place.is_dir()):
        place = DEBIAN if DEBIAN.is_dir() else _downloaded()
    if place.is_dir():
        if _idx(place, "train-images-idx3-ubyte") is not None or _idx(place, "t10k-images-idx3-ubyte") is not None:
            return _fitting(read_idx(place, test), reading, place)
        if (place / CIFAR_BATCHES[0]).is_file():
            return _fitting(read_cifar(place, test), reading, place)
        if test:
            return read_folder(_test_folder(place), reading)
        return read_folder(place / "train" if (place / "train").is_dir() and (place / "test").is_dir() else place, reading)
    if not place.is_file():
        close = get_close_matches(source, [FASHION], n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise UnveilError(
            f"{source}: no such file or folder{hint}, here, below $UNVEIL_DATA or in the cache; give a folder of images, a .npz or .npy, "
            f"{FASHION}, or cifar-10-binary.tar.gz"
        )
    if place.name.endswith((".tar.gz", ".tgz", ".tar")):
        return _fitting(read_cifar(place, test), reading, place)
    if place.suffix not in (".npz", ".npy"):
        raise UnveilError(f"{place}: not a set of images; give a folder of images, a .npz or .npy, {FASHION}, or cifar-10-binary.tar.gz")
    if test:
        raise UnveilError(f"{place} has no test images of its own")
    return read_array(place, reading, styles)


def has_test(source: str) -> bool:
    """Whether a source brings test images of its own."""
    place = found(Path(source))
    return (
        source == FASHION
        or place.name.endswith((".tar.gz", ".tgz", ".tar"))
        or (
            place.is_dir()
            and (_idx(place, "t10k-images-idx3-ubyte") is not None or (place / "test_batch.bin").is_file() or (place / "test").is_dir())
        )
    )


def _test_folder(place: Path) -> Path:
    if not (place / "test").is_dir():
        raise UnveilError(f"{place} has no test images of its own (a folder test/ beside train/)")
    return place / "test"


def _fitting(images: Images, reading: Reading, what: Path) -> Images:
    side = images.pixels.shape[-1]
    if reading.size not in (0, side):
        raise UnveilError(f"{what}: its images are {side} x {side}, and --size {reading.size} is asked; leave --size out")
    return images


def _idx(folder: Path, name: str) -> Path | None:
    return next((file for file in (folder / name, folder / f"{name}.gz") if file.is_file()), None)


def read_idx(folder: Path, test: bool = False) -> Images:
    """MNIST's format: 0, 0, 8 (bytes), number of axes, each size as four bytes, big end first, then the numbers. Yann LeCun's MNIST page.

    Raises:
        UnveilError: a file is missing, cut short, or not of this format.
    """
    kind = "t10k" if test else "train"
    pixels, labels = (_read_idx(folder, f"{kind}-{what}") for what in ("images-idx3-ubyte", "labels-idx1-ubyte"))
    if pixels.ndim != 3 or labels.shape != (len(pixels),):
        raise UnveilError(f"{folder}: images {pixels.shape} and labels {labels.shape} do not belong together")
    names = FASHION_NAMES if int(labels.max()) == 9 and FASHION in str(folder) else tuple(str(k) for k in range(int(labels.max()) + 1))
    return Images(pixels[:, None], labels.astype(np.int64), names)


def _read_idx(folder: Path, name: str) -> np.ndarray:
    file = _idx(folder, name)
    if file is None:
        raise UnveilError(f"{folder}: no {name} or {name}.gz there")
    try:
        raw = unpacked(file) if file.suffix == ".gz" else file.read_bytes()
    except OSError as error:
        raise UnveilError(f"{file}: cannot be read ({error})") from error
    axes = raw[3] if len(raw) > 4 else 0
    shape = tuple(int(n) for n in np.frombuffer(raw, ">u4", axes, 4)) if len(raw) >= 4 + 4 * axes else ()
    if raw[:3] != b"\0\0\x08" or len(raw) != 4 + 4 * axes + prod(shape) or not shape:
        raise UnveilError(f"{file}: not an IDX file of bytes, or cut short ({len(raw):,} bytes)")
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _downloaded() -> Path:
    folder = home() / FASHION
    for name, digest in FASHION_SHA256.items():
        file = download(f"{FASHION_URL}{name}.gz", folder / f"{name}.gz")
        try:
            held = hashlib.sha256(gzip.decompress(file.read_bytes())).hexdigest()
        except (OSError, EOFError, zlib.error) as error:
            raise UnveilError(f"{file}: damaged ({error}); delete it to download it anew") from error
        if held != digest:
            raise UnveilError(f"{file}: not Fashion-MNIST's (SHA-256 of its contents is {held}); delete it to download it anew")
    return folder


def read_cifar(place: Path, test: bool = False) -> Images:
    """CIFAR-10's binary version, unpacked or not: records of a class and 3 x 32 x 32 numbers. cs.toronto.edu/~kriz/cifar.html.

    Raises:
        UnveilError: a batch is missing, cut short, or holds a class above 9.
    """
    wanted = ("test_batch.bin",) if test else CIFAR_BATCHES
    found_: dict[str, bytes] = {}
    try:
        if place.is_dir():
            found_ = {name: (place / name).read_bytes() for name in wanted if (place / name).is_file()}
        else:
            largest = room(place.stat().st_size)
            with tarfile.open(place) as archive:
                for member in archive:
                    if archive.offset > largest:
                        raise UnveilError(f"{place}: unpacks to more than {largest:,} bytes")
                    name = member.name.rpartition("/")[2]
                    if name in wanted and member.isfile() and member.size < 2**28:
                        handle = archive.extractfile(member)
                        assert handle is not None
                        found_[name] = handle.read()
    except (*DAMAGE, tarfile.TarError) as error:
        raise UnveilError(f"{place}: damaged ({error})") from error
    batches: list[np.ndarray] = []
    for name in wanted:
        raw = found_.get(name)
        if raw is None:
            raise UnveilError(f"{place}: no {name} in it; CIFAR-10's binary version is needed, not the Python one")
        if not raw or len(raw) % 3073 or max(raw[::3073]) > 9:
            raise UnveilError(f"{place}: {name} is not whole records of a class and 3072 numbers ({len(raw):,} bytes)")
        batches.append(np.frombuffer(raw, np.uint8).reshape(-1, 3073))
    records = np.concatenate(batches)
    return Images(records[:, 1:].reshape(-1, 3, 32, 32).copy(), records[:, 0].astype(np.int64), CIFAR_NAMES)
