"""Where the pictures of a training are kept: in memory, in a temporary file, or as they are stored."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from unveil.files.places import home
from unveil.policy.data.frames import ChosenFrames, Frames, Held, ResizedFrames, bytes_of, in_memory
from unveil.policy.data.stored_frames import KeptFrames, SpooledFrames, in_file
from unveil.policy.data.video_frames import VideoFrames
from unveil.policy.recipes.fitting import Demonstrated
from unveil.runs.progress import Progress

MEMORY = 2**30  # bytes of all resized pictures that are kept in memory


def with_kept_pictures(data: Demonstrated, progress: Progress, memory: int = MEMORY) -> Demonstrated:
    """The demonstrations with pictures that are quick to read at random.

    At their final size, pictures of up to `memory` bytes are read once and kept in memory. Beyond that they
    are decoded window by window from where they are stored, except frames of videos, which are slow to seek:
    they are decoded once into a temporary file in the cache folder, if it has room for twice as much.
    """
    small, cameras = bytes_of(data.cameras) <= memory, list[Frames]()
    for i, camera in enumerate(data.cameras):

        def shown(done: int, total: int, number: int = i) -> None:
            progress(f"decoding camera {number + 1}", done, total, {})

        if small and not isinstance(camera, Held):
            cameras.append(in_memory(camera, shown))
        elif isinstance(innermost(camera), VideoFrames) and _free(home()) > 2 * bytes_of([camera]):
            cameras.append(in_file(camera, home() / "frames", shown))
        else:
            cameras.append(camera)
    return data._replace(cameras=tuple(cameras))


def where_kept(camera: Frames) -> str:
    """Where pictures are while they are trained on, in words with their size."""
    size = int(np.prod(camera.shape)) * camera.dtype.itemsize
    large = f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{max(1, round(size / 2**20)):,} MiB"
    if isinstance(camera, Held):
        return f"in memory, {large}"
    return (
        f"in a temporary file, {large}" if isinstance(camera, SpooledFrames) else "decoded window by window"
    )


def innermost(frames: Frames) -> Frames:
    """The frames that others choose from or resize."""
    while isinstance(frames, ChosenFrames | ResizedFrames | KeptFrames):
        frames = frames.frames
    return frames


def _free(folder: Path) -> int:
    """Free bytes of the disk that a folder is or will be on."""
    there = next(it for it in (folder, *folder.absolute().parents) if it.exists())
    return shutil.disk_usage(there).free
