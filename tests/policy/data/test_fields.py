"""Pictures of replay buffers: colours of any scale become bytes, depth keeps its numbers; what nobody asked
for is left out and said."""

import io
import json
import re

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from PIL import Image

from pusht_recorded import recorded
from replay_buffers import FORMATS, write_lerobot, write_robomimic, write_zarr, zipped
from unveil.errors import UnveilError
from unveil.policy.data.demonstrations import Demonstrations
from unveil.policy.data.fields import Unread, as_pictures
from unveil.policy.data.source import read_demonstrations

RNG = np.random.default_rng(0)
UNIT = RNG.random((6, 5, 6, 3)).astype(np.float32)
BYTES = RNG.integers(0, 256, (6, 5, 6, 3))


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        (UNIT, (255 * UNIT).round()),
        (UNIT.astype(np.float16), (255 * UNIT.astype(np.float16).astype(float)).round()),
        (
            UNIT.astype(np.float64) * 1.001 - 0.0005,
            (255 * (UNIT * 1.001 - 0.0005)).round().clip(0, 255),
        ),  # half a level beyond
        (BYTES.astype(np.uint8), BYTES),
        (BYTES.astype(np.float32), BYTES),
        (BYTES.astype(np.int64), BYTES),
        (BYTES.astype(np.uint16), BYTES),
        (BYTES + np.float32(0.25), BYTES),
        (BYTES.astype(np.uint8).transpose(0, 3, 1, 2), BYTES),  # channels first
        ((UNIT > 0.5).astype(np.float32), (UNIT > 0.5) * 255),
        (UNIT > 0.5, (UNIT > 0.5) * 255),
        (
            np.concatenate([UNIT, UNIT[..., :1]], axis=-1),
            (255 * np.concatenate([UNIT, UNIT[..., :1]], axis=-1)).round(),
        ),  # RGBA
        (np.zeros((0, 5, 6, 3), np.float32), np.zeros((0, 5, 6, 3))),
    ],
)
def test_colours_become_bytes(stored, read):
    found = as_pictures([stored])
    assert found.dtype == np.uint8 and found.shape == read.shape
    np.testing.assert_allclose(
        found.astype(int), read, atol=1 if stored.dtype == np.float16 or stored.dtype == np.float64 else 0
    )


def test_the_scale_is_that_of_all_pieces():
    """The first frames may be black: 0 and 1 of 255, which look like floats in [0, 1]."""
    dark = np.zeros((3, 5, 6, 3), np.float32)
    dark[1] = 1.0
    both = as_pictures([dark, BYTES.astype(np.float32)])
    np.testing.assert_array_equal(both, np.concatenate([dark, BYTES]).astype(np.uint8))
    np.testing.assert_array_equal(as_pictures([dark + dark, BYTES.astype(np.float32)])[:3], 2 * dark)
    np.testing.assert_array_equal(as_pictures([dark, UNIT])[:3], 255 * dark)


@pytest.mark.parametrize(
    "stored",
    [0.6 + RNG.random((6, 5, 6, 1)), RNG.integers(400, 1800, (6, 5, 6, 1)).astype(np.uint16), UNIT[..., :2]],
)
def test_depth_keeps_its_numbers(stored):
    found = as_pictures([stored[:2], stored[2:]])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, stored, rtol=1e-6)
    first = stored.transpose(0, 3, 1, 2)
    if stored.shape[-1] == 1:
        np.testing.assert_allclose(as_pictures([first]), stored, rtol=1e-6)


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (2 * UNIT - 1, "has colours from -0.99"),
        (UNIT * 1.5, "has colours from .* but 0 .. 255, or floats in 0 .. 1, are needed"),
        (RNG.integers(0, 60000, (6, 5, 6, 3)).astype(np.uint16), "has colours from 0 to 59"),
        (BYTES - 128, r"has colours from -12\d to"),
        (np.where(UNIT > 0.5, np.nan, UNIT), "not finite"),
        (np.where(UNIT > 0.5, np.inf, UNIT), "not finite"),
    ],
)
def test_colours_of_no_scale_are_refused(stored, said):
    with pytest.raises(Unread, match=said):
        as_pictures([stored])


def with_pictures(pictures):
    rows = np.arange(len(pictures), dtype=np.float32)[:, None]
    return Demonstrations({"x": rows, "img": pictures}, rows, np.array([len(pictures) // 2, len(pictures)]))


@pytest.mark.parametrize("kind", ["npz", "zarr2", "zarr3", "zip", "robomimic"])
@pytest.mark.parametrize(
    ("stored", "read"), [(UNIT, (255 * UNIT).round()), (0.6 + UNIT[..., :1], 0.6 + UNIT[..., :1])]
)
def test_every_reader_treats_pictures_alike(kind, stored, read, tmp_path, unchecked):
    path = str(FORMATS[kind](tmp_path, with_pictures(stored)))
    found = read_demonstrations(path, True).observations["img"]
    np.testing.assert_array_equal(found, read.astype(found.dtype))
    assert found.dtype == (np.uint8 if stored.shape[-1] == 3 else np.float32)
    assert set(read_demonstrations(path, ("other",)).observations) == {"x"}
    if stored.shape[-1] == 3:
        path = (
            str(FORMATS[kind](tmp_path / "more", with_pictures(2 * stored - 1)))
            if (tmp_path / "more").mkdir() is None
            else ""
        )
        with pytest.raises(UnveilError, match="img' has colours from -"):
            read_demonstrations(path, True)
        assert set(read_demonstrations(path, ("x",)).observations) == {"x"}


def cells(*pictures, **options):
    made = []
    for picture in pictures:
        with io.BytesIO() as file:
            picture.save(file, "PNG", **options)
            made.append({"bytes": file.getvalue(), "path": "x.png"})
    return pa.array(made, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))


def lerobot_of(path, column, name="observation.image", **told):
    """A data set of one episode with this column beside its actions."""
    count = len(column)
    (path / "meta").mkdir(parents=True)
    (path / "data").mkdir()
    rows = pa.array([[float(i)] for i in range(count)], pa.list_(pa.float32()))
    columns = {
        "observation.x": rows,
        "action": rows,
        "index": np.arange(count),
        "episode_index": np.zeros(count, int),
        name: column,
    }
    pq.write_table(pa.table(columns), path / "data" / "file-000.parquet")
    features = {
        "observation.x": {"dtype": "float32", "shape": [1]},
        "action": {"dtype": "float32", "shape": [1]},
    }
    info = {
        "codebase_version": "v3.0",
        "total_frames": count,
        "features": features | {name: {"dtype": "image"} | told},
    }
    (path / "meta" / "info.json").write_text(json.dumps(info))
    return str(path)


GREY, COLOUR = RNG.integers(0, 256, (5, 6), dtype=np.uint8), BYTES[0].astype(np.uint8)
MILLI = RNG.integers(400, 60000, (5, 6), dtype=np.uint16)


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned clockwise
    return {"exif": exif}


@pytest.mark.parametrize(
    ("picture", "options", "read"),
    [
        (Image.fromarray(COLOUR), {}, COLOUR),
        (Image.fromarray(COLOUR), turned(), np.rot90(COLOUR, -1)),
        (Image.fromarray(GREY), {}, np.repeat(GREY[..., None], 3, 2)),
        (Image.fromarray(MILLI), {}, MILLI[..., None]),
        (Image.fromarray(np.dstack([COLOUR, np.full_like(GREY, 255)])), {}, COLOUR),
        (Image.fromarray(np.dstack([COLOUR, GREY])), {}, "transparent pixels"),
        (Image.fromarray(np.dstack([GREY, GREY]), "LA"), {}, "transparent pixels"),
        (Image.fromarray(GREY).convert("P"), {"transparency": int(GREY[0, 0])}, "transparent pixels"),
    ],
)
def test_cells_of_lerobot_are_as_a_person_sees_them(picture, options, read, tmp_path, unchecked):
    path = lerobot_of(tmp_path / "d", cells(picture, picture, **options))
    if isinstance(read, str):
        with pytest.raises(UnveilError, match=read):
            read_demonstrations(path, True)
        assert set(read_demonstrations(path).observations) == {"x"}
        return
    found = read_demonstrations(path, True).observations["image"]
    np.testing.assert_array_equal(found, np.stack([read, read]).astype(found.dtype))
    assert found.dtype == (np.float32 if picture.mode == "I;16" else np.uint8)


def test_columns_of_lerobot_that_are_arrays_are_pictures_too(tmp_path, unchecked):
    unit = pa.array(UNIT.tolist(), pa.list_(pa.list_(pa.list_(pa.float32()))))
    path = lerobot_of(tmp_path / "a", unit, dtype="float32", shape=[5, 6, 3])
    np.testing.assert_array_equal(read_demonstrations(path, True).observations["image"], (255 * UNIT).round())
    assert "image" not in read_demonstrations(path).observations


@pytest.mark.parametrize(
    "told", [{"info": {"video.is_depth_map": True}}, {"video_info": {"video.pix_fmt": "gray12le"}}]
)
def test_videos_of_depth_are_refused_where_they_are_asked_for(told, tmp_path, unchecked):
    path = lerobot_of(tmp_path / "d", pa.array([0.0] * 4), "observation.depth", dtype="video", **told)
    with pytest.raises(UnveilError, match=r"'observation\.depth' is a video of depth"):
        read_demonstrations(path, True)
    assert set(read_demonstrations(path).observations) == {"x"}


def rows(count=4):
    return np.arange(count, dtype=np.float32)[:, None]


def put_zarr(path, version, name, values, **more):
    store = write_zarr(path, Demonstrations({"x": rows()}, rows(), np.array([4])), version)
    zarr.open_group(str(store), mode="a", zarr_format=version).create_array(
        f"data/{name}", data=values, **more
    )
    return str(store)


def unknown_codec(path):
    file = put_zarr(path, 2, "camera", BYTES[:4].astype(np.uint8))
    described = path / "data" / "camera" / ".zarray"
    described.write_text(
        json.dumps(json.loads(described.read_text()) | {"compressor": {"id": "imagecodecs_jpegxl"}})
    )
    return file


def unknown_numbers(path):
    file = put_zarr(path, 3, "force", rows())
    described = path / "data" / "force" / "zarr.json"
    described.write_text(json.dumps(json.loads(described.read_text()) | {"codecs": [{"name": "pickle"}]}))
    return file


def group(path):
    file = put_zarr(path, 2, "y", rows())
    zarr.open_group(file, mode="a", zarr_format=2).create_group("data/inner")
    return file


def robomimic(path, **fields):
    write_robomimic(path, Demonstrations({"x": rows()}, rows(), np.array([4])))
    with h5py.File(path, "a") as file:
        for name, values in fields.items():
            file[f"data/demo_0/obs/{name}"] = values
    return str(path)


def several(path):
    write_robomimic(path, Demonstrations({"x": rows(8)}, rows(8), np.array([4, 8])))
    with h5py.File(path, "a") as file:
        file["data/demo_0/obs/y"], file["data/demo_1/obs/y"] = np.zeros((4, 2)), np.zeros((4, 3))
    return str(path)


def npz(path, **fields):
    np.savez(path, x=rows(), action=rows(), episode_ends=np.array([4]), **fields)
    return str(path)


TEXT = np.array(["pick"] * 4)
LEFT = {
    "zarr2 text": (lambda p: put_zarr(p, 2, "said", TEXT), "left out 'said', which"),
    "zarr3 text": (lambda p: put_zarr(p, 3, "said", TEXT), "left out 'said', which"),
    "zarr codec of numbers": (unknown_numbers, "left out 'force', which is stored by codec 'pickle'"),
    "zarr codec of a picture": (unknown_codec, ""),
    "zarr group": (group, "left out 'inner', which is a group of arrays"),
    "zarr zip": (
        lambda p: str(zipped(p.with_suffix(".zip"), p)) if put_zarr(p, 2, "said", TEXT) else "",
        "left out 'said'",
    ),
    "npz text": (lambda p: npz(p.with_suffix(".npz"), said=TEXT), "left out 'said', which holds <U4"),
    "npz objects": (
        lambda p: npz(p.with_suffix(".npz"), said=np.array([{}, 1, None, "a"], object)),
        "left out 'said', which holds objects",
    ),
    "npz one number": (
        lambda p: npz(p.with_suffix(".npz"), fps=10.0),
        "left out 'fps', which is a single number",
    ),
    "npz an episode": (
        lambda p: npz(p.with_suffix(".npz"), won=np.array([True])),
        "left out 'won', which has one number for each episode",
    ),
    "hdf5 text": (
        lambda p: robomimic(p.with_suffix(".hdf5"), said=np.array([b"pick"] * 4)),
        "left out 'said', which is not an array",
    ),
    "hdf5 group": (
        lambda p: robomimic(p.with_suffix(".h5"), **{"a/b": rows()}),
        "left out 'a', which is not an array",
    ),
    "hdf5 link": (
        lambda p: robomimic(p.with_suffix(".h5"), a=h5py.ExternalLink("b.h5", "/x")),
        "left out 'a', which is a link",
    ),
    "hdf5 shapes": (
        lambda p: several(p.with_suffix(".h5")),
        r"left out 'y', which has several shapes, such as \(4, 2\) and \(4, 3\)",
    ),
    "lerobot text": (
        lambda p: lerobot_of(p, TEXT, "observation.said", dtype="string"),
        "left out 'said', which is string",
    ),
    "lerobot disguised": (
        lambda p: lerobot_of(p, TEXT, "observation.said", dtype="float32"),
        "left out 'said', which has dtype",
    ),
    "lerobot gaps": (
        lambda p: lerobot_of(p, pa.array([1.0, None, 2.0, 3.0]), "observation.y", dtype="float32"),
        "left out 'y', which has rows without a value",
    ),
    "lerobot lengths": (
        lambda p: lerobot_of(p, pa.array([[1.0], [1.0, 2.0], [], [0.0]]), "observation.y", dtype="float32"),
        r"left out 'y', which has rows of several lengths, \[0, 1, 2\]",
    ),
}


@pytest.mark.parametrize("case", LEFT)
@pytest.mark.filterwarnings("ignore")  # zarr's, of text in format 3
def test_fields_that_are_no_numbers_are_left_out_and_said(case, tmp_path, capsys, unchecked):
    make, said = LEFT[case]
    found = read_demonstrations(make(tmp_path / "d"))
    assert set(found.observations) - {"y"} == {"x"}
    err = capsys.readouterr().err
    assert err.count("\n") <= 1 and ("note" in err) == bool(said)

    assert re.search(said, err)
    for name, why in found.left.items():
        with pytest.raises(
            UnveilError, match=f"no observation '{name}' that can be read: it {re.escape(why)}"
        ):
            found.observed(name)


def test_a_field_that_is_needed_is_refused_by_name(tmp_path, unchecked):
    with pytest.raises(
        UnveilError, match=r"'camera' is stored by codec 'imagecodecs_jpegxl', which is not supported; blosc"
    ):
        read_demonstrations(unknown_codec(tmp_path / "d.zarr"), True)
    np.savez(tmp_path / "t.npz", action=TEXT, episode_ends=np.array([4]))
    with pytest.raises(UnveilError, match="'action' holds <U4"):
        read_demonstrations(str(tmp_path / "t.npz"))
    with h5py.File(tmp_path / "t.hdf5", "w") as file:
        file["data/demo_0/actions"], file["data/demo_0/obs/x"] = TEXT.astype("S"), rows()
    with pytest.raises(UnveilError, match="'actions' is not an array of numbers"):
        read_demonstrations(str(tmp_path / "t.hdf5"))
    path = lerobot_of(tmp_path / "le", pa.array([0.0] * 4), "observation.y", dtype="float32")
    file = tmp_path / "le" / "data" / "file-000.parquet"
    table = pq.read_table(file)
    pq.write_table(table.set_column(table.column_names.index("action"), "action", pa.array(TEXT)), file)
    with pytest.raises(UnveilError, match="column 'action' has dtype string"):
        read_demonstrations(path)


def test_an_index_that_does_not_count_gives_way_to_the_numbers_of_frames(tmp_path, capsys, unchecked):
    two = recorded()
    path = write_lerobot(tmp_path / "d", two, "v2.1")
    for i, file in enumerate(sorted((path / "data").rglob("*.parquet"))):
        table = pq.read_table(file).set_column(
            4, "index", pa.array(np.arange(7, 7 + pq.read_metadata(file).num_rows))
        )
        assert table.column_names.count("index") == 1
        frames = np.arange(len(table))[::-1]
        pq.write_table(table.append_column("frame_index", pa.array(frames)), file)
        assert i < 2
    read = read_demonstrations(str(path))
    assert (
        "index does not count the steps 0 .. 143; they are ordered by episode_index and frame_index"
        in capsys.readouterr().err
    )
    np.testing.assert_array_equal(read.actions[:60], two.actions[:60][::-1])
    np.testing.assert_array_equal(read.episode_ends, two.episode_ends)
    (path / "meta" / "info.json").unlink()
    with pytest.raises(UnveilError, match=r"a LeRobot dataset without its meta/info\.json"):
        read_demonstrations(str(path))
