"""Demonstrations written in every format that is read."""

import json
import zipfile

import h5py
import imageio.v3 as iio
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr

from unveil.policy.data.demonstrations import write_demonstrations


def write_zarr(path, demonstrations, version=2, **more):
    root = zarr.open_group(str(path), mode="w", zarr_format=version)
    data, meta = root.create_group("data"), root.create_group("meta")
    for name, values in {"action": demonstrations.actions, **demonstrations.observations, **more}.items():
        data.create_array(name, data=values, chunks=(61, *values.shape[1:]))
    meta.create_array("episode_ends", data=demonstrations.episode_ends)
    return path


def write_robomimic(path, demonstrations):
    with h5py.File(path, "w") as file:
        for i, (start, end) in enumerate(
            zip(demonstrations.starts, demonstrations.episode_ends, strict=True)
        ):
            demo = file.create_group(f"data/demo_{i}")
            demo["actions"] = demonstrations.actions[start:end].astype(np.float64)
            for name, values in demonstrations.observations.items():
                demo[f"obs/{name}"] = values[start:end]
    return path


def write_lerobot(path, demonstrations, version, video=False):
    """Pictures are PNG files in cells or, with `video`, as lossless as x264 is, one file an episode (v2) or
    for all (v3)."""
    episode = np.repeat(
        np.arange(len(demonstrations.episode_ends)), demonstrations.episode_ends - demonstrations.starts
    )
    columns = {"action": pa.array(demonstrations.actions.tolist(), pa.list_(pa.float32()))}
    kinds = {"observation.image": "video"}
    for name, values in demonstrations.observations.items():
        if values.ndim == 4:
            kinds[f"observation.{name}"] = "video" if video else "image"
            if video:
                ends = demonstrations.episode_ends if version != "v3.0" else [len(values)]
                for i, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
                    place = f"chunk-000/observation.{name}/episode_{i:06d}.mp4"
                    place = f"observation.{name}/chunk-000/file-{i:03d}.mp4" if version == "v3.0" else place
                    (path / "videos" / place).parent.mkdir(parents=True, exist_ok=True)
                    codec = {
                        "codec": "libx264rgb",
                        "pixelformat": "rgb24",
                        "output_params": ["-crf", "0"],
                        "macro_block_size": 1,
                    }
                    iio.imwrite(path / "videos" / place, values[start:end], plugin="FFMPEG", fps=10, **codec)
            else:
                cells = [
                    {"bytes": iio.imwrite("<bytes>", picture, extension=".png"), "path": f"{i}.png"}
                    for i, picture in enumerate(values)
                ]
                columns[f"observation.{name}"] = pa.array(
                    cells, pa.struct([("bytes", pa.binary()), ("path", pa.string())])
                )
            continue
        width = values[0].size
        flat = pa.array(values.reshape(-1), pa.float32())
        columns[f"observation.{name}"] = (
            pa.FixedSizeListArray.from_arrays(flat, width)
            if values.ndim == 2
            else pa.array(values.tolist(), pa.list_(pa.list_(pa.float32())))
        )
    columns |= {"episode_index": pa.array(episode), "index": pa.array(np.arange(len(episode)))}
    table = pa.table(columns)
    folder = path / "data" / "chunk-000"
    folder.mkdir(parents=True)
    if version == "v3.0":
        pq.write_table(table, folder / "file-000.parquet")
    else:
        for i in range(len(demonstrations.episode_ends)):
            pq.write_table(table.filter(pa.array(episode == i)), folder / f"episode_{i:06d}.parquet")
    features = {name: {"dtype": "float32"} for name in columns} | {
        name: {"dtype": kind} for name, kind in kinds.items()
    }
    (path / "meta").mkdir()
    (path / "meta" / "info.json").write_text(
        json.dumps({"codebase_version": version, "total_frames": len(episode), "features": features})
    )
    return path


def zipped(path, folder):
    """As published: the store below a folder of the archive, beside others."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("pusht/readme.txt", "hello")
        for file in folder.rglob("*"):
            if file.is_file():
                archive.write(file, f"pusht/replay.zarr/{file.relative_to(folder)}")
    return path


FORMATS = {
    "npz": lambda f, d: (write_demonstrations(f / "d.npz", d), f / "d.npz")[1],
    "zarr2": lambda f, d: write_zarr(f / "d.zarr", d, 2),
    "zarr3": lambda f, d: write_zarr(f / "d.zarr", d, 3),
    "zip": lambda f, d: zipped(f / "d.zip", write_zarr(f / "d.zarr", d, 2)),
    "robomimic": lambda f, d: write_robomimic(f / "d.hdf5", d),
    "lerobot2.1": lambda f, d: write_lerobot(f / "d", d, "v2.1"),
    "lerobot3": lambda f, d: write_lerobot(f / "d", d, "v3.0"),
}
