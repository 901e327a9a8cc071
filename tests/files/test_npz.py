""".npz from strangers: what is read is exact, and everything damaged or hostile is refused in one line before
memory is taken."""

import io
import zipfile

import numpy as np
import pytest

from recorded import COLUMNS, EXAMPLE, assert_same, refusal
from unveil.files.npz import npz_arrays
from unveil.planning.data.d4rl import read_npz

GOOD = {name: getattr(EXAMPLE, name) for name in COLUMNS}


@pytest.fixture
def path(tmp_path):
    np.savez_compressed(tmp_path / "good.npz", **GOOD)
    return tmp_path / "good.npz"


def member(header: dict, data: bytes = b"", version=(1, 0)) -> bytes:
    stream = io.BytesIO()
    (np.lib.format.write_array_header_1_0 if version == (1, 0) else np.lib.format.write_array_header_2_0)(
        stream, header
    )
    return stream.getvalue() + data


def with_member(path, name: str, stored: bytes) -> None:
    """The good archive with one member's bytes replaced."""
    np.savez(path, **{key: values for key, values in GOOD.items() if key != name})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}.npy", stored)


def test_numbers_come_back_bit_for_bit_in_any_order_and_dtype(path, tmp_path):
    assert_same(read_npz(path), EXAMPLE)
    doubles = {
        k: v.astype(np.float64) if v.dtype.kind == "f" else v.astype(np.uint8) for k, v in GOOD.items()
    }
    np.savez(
        tmp_path / "f.npz", **{k: np.asfortranarray(v) for k, v in doubles.items()}, extra=np.array(["text"])
    )
    assert_same(read_npz(tmp_path / "f.npz"), EXAMPLE)


def test_without_timeouts_only_terminals_end_an_episode(tmp_path):
    np.savez(tmp_path / "a.npz", **{k: v for k, v in GOOD.items() if k != "timeouts"})
    episodes = read_npz(tmp_path / "a.npz")
    assert not episodes.timeouts.any() and (episodes.terminals == EXAMPLE.terminals).all()
    assert episodes.ends.tolist() == [9, 25]  # the second episode ended with a timeout


def test_only_what_is_asked_for_is_read(path):
    with_member(path, "text", b"no array at all")
    assert npz_arrays(path, ["rewards"], ["nothing", "actions"]).keys() == {"rewards", "actions"}
    assert npz_arrays(path).keys() == set()
    assert "not a whole .npz" in refusal(lambda p: npz_arrays(p, wanted=None), path)


@pytest.mark.usefixtures("unchecked")
def test_cut_and_flipped(path):
    whole, generator, refused = path.read_bytes(), np.random.default_rng(0), 0
    for size in {0, 1, 4, len(whole) - 1, *generator.integers(1, len(whole), 40).tolist()}:
        path.write_bytes(whole[:size])
        assert "not a whole .npz file" in refusal(read_npz, path)
    for k in range(300):
        damaged = bytearray(whole)
        for place in generator.integers(0, len(whole), 1 + k % 3):
            damaged[place] ^= int(generator.integers(1, 256))
        path.write_bytes(damaged)
        try:
            assert_same(
                read_npz(path), EXAMPLE, [name for name in COLUMNS if name != "timeouts"]
            )  # its name may be what was hit
        except Exception:
            refused += 1
            refusal(read_npz, path)
    assert refused > 150


def test_missing_foreign_and_misplaced_things(path, tmp_path):
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "text.npz").write_text("observations")
    np.save(tmp_path / "single.npy", np.zeros(3))
    assert "a folder, but an .npz" in refusal(read_npz, tmp_path / "folder.npz")
    assert "no such file" in refusal(read_npz, tmp_path / "missing.npz")
    assert "not a whole .npz" in refusal(read_npz, tmp_path / "text.npz")
    assert "not a whole .npz" in refusal(read_npz, tmp_path / "single.npy")
    for name in ("observations", "actions", "rewards", "terminals"):
        np.savez(path, **{key: values for key, values in GOOD.items() if key != name})
        assert f"{name!r} is missing; the file has ['" in refusal(read_npz, path)


@pytest.mark.usefixtures("unchecked")
def test_objects_texts_and_wrong_shapes(path):
    for values, message in (
        (np.array([{"a": 1}] * 25, dtype=object), "holds objects"),
        (np.array(["1.0"] * 25), "an array of numbers is needed"),
        (np.zeros(25, dtype=[("a", "f4")]), "an array of numbers is needed"),
        (np.zeros(25, dtype=complex), "an array of numbers is needed"),
        (np.zeros(24), "rewards has 24 rows, but observations have 25"),
        (np.zeros((25, 2)), "rewards must have 1 axes"),
        (np.full(25, np.nan), "rewards holds numbers that are not finite"),
        (np.full(25, 1e300), "rewards holds numbers that are not finite"),  # infinite in float32
    ):
        np.savez(path, **GOOD | {"rewards": values})
        assert message in refusal(read_npz, path)


def test_claims_that_the_file_cannot_hold(path):
    good = {"descr": "<f4", "fortran_order": False, "shape": (25,)}
    with_member(path, "rewards", member(good, GOOD["rewards"].tobytes()))
    assert_same(read_npz(path), EXAMPLE)
    for shape in (
        (2**40,),
        (24,),
        (26,),
        (2**32, 2**32),
        (-1, -25),
        (0,),
    ):  # 2^64 numbers are 0 bytes in 64 bits
        with_member(path, "rewards", member(good | {"shape": shape}, GOOD["rewards"].tobytes()))
        assert "which do not fit" in refusal(read_npz, path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:  # bzip2 packs a million times
        archive.writestr("observations.npy", bytes(2**27))
        for name in ("actions", "rewards", "terminals"):
            archive.writestr(f"{name}.npy", b"")
    assert "claims 134,217,728 bytes, more than this file can hold" in refusal(read_npz, path)


def test_two_arrays_of_one_name(path):
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("rewards.npy", b"")
    assert "two arrays have the same name" in refusal(read_npz, path)
