"""Pictures of a camera, decoded when they are needed: in memory, chosen rows, another size."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int
from PIL import Image

from unveil.policy.data.fields import COLOURS, as_pictures

Rows = Int[np.ndarray, " n"]


@runtime_checkable
class Frames(Protocol):
    """N pictures (h, w, C) of one camera: colours as uint8, all else, such as depth, as float32."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, h, w, C)."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """uint8 or float32."""
        ...

    def read(self, rows: Rows) -> np.ndarray:
        """Decode the pictures of these rows, (n, h, w, C)."""
        ...


@dataclass(frozen=True)
class Held:
    """Pictures in memory, (N, h, w, C)."""

    values: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, h, w, C)."""
        return self.values.shape

    @property
    def dtype(self) -> np.dtype:
        """uint8 or float32."""
        return self.values.dtype

    def read(self, rows: Rows) -> np.ndarray:
        """The pictures of these rows."""
        return self.values[rows]


@dataclass(frozen=True)
class ChosenFrames:
    """Some rows of other frames."""

    frames: Frames
    rows: Rows

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, h, w, C)."""
        return (len(self.rows), *self.frames.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """uint8 or float32."""
        return self.frames.dtype

    def read(self, rows: Rows) -> np.ndarray:
        """The pictures of these rows."""
        return self.frames.read(self.rows[rows])


@dataclass(frozen=True)
class ResizedFrames:
    """Other frames at the size (h, w), by `resized`."""

    frames: Frames
    size: tuple[int, int]

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, h, w, C)."""
        return (self.frames.shape[0], *self.size, self.frames.shape[-1])

    @property
    def dtype(self) -> np.dtype:
        """uint8 or float32."""
        return self.frames.dtype

    def read(self, rows: Rows) -> np.ndarray:
        """The pictures of these rows."""
        return resized(self.frames.read(rows), self.size)


def resized(pictures: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pictures (n, h, w, C) at another size (h', w'): bytes by an antialiased triangle filter.

    Numbers such as depth take the nearest pixel, since a mean of near and far, or of a distance and the 0 of
    a missing value, is no distance.
    """
    if pictures.shape[1:3] == size:
        return pictures
    if pictures.dtype != np.uint8:
        down, across = (
            np.minimum(((np.arange(new) + 0.5) * old / new).astype(np.int64), old - 1)
            for new, old in zip(size, pictures.shape[1:3], strict=True)
        )
        return pictures[:, down][:, :, across]
    flat = pictures[..., 0] if pictures.shape[-1] == 1 else pictures
    turned = (size[1], size[0])
    made = [np.asarray(Image.fromarray(one).resize(turned, Image.Resampling.BILINEAR)) for one in flat]
    return np.stack(made).reshape(len(made), *size, pictures.shape[-1])


def in_memory(frames: Frames, progress: Callable[[int, int], None], piece: int = 64) -> Held:
    """All pictures of some frames, read once in order.

    Args:
        progress: (pictures done, pictures in all) -> None.
    """
    values = np.zeros(frames.shape, frames.dtype)
    for start in range(0, len(values), piece):
        rows = np.arange(start, min(start + piece, len(values)))
        values[rows] = frames.read(rows)
        progress(int(rows[-1]) + 1, len(values))
    return Held(values)


def as_frame(value: np.ndarray, channels: int) -> np.ndarray:
    """Pictures of an environment, channels last: colours as bytes by `as_pictures`, others as float32.

    Args:
        value: (n, h, w, C), (n, C, h, w), or (n, h, w) for one channel.
    Raises:
        Unread: colours with an unknown scale.
    """
    if value.ndim == 3:
        value = value[..., None]
    if value.shape[-1] != channels and value.shape[1] == channels:
        value = np.moveaxis(value, 1, -1)
    return as_pictures([value]) if channels in COLOURS else value.astype(np.float32)


def bytes_of(cameras: Sequence[Frames]) -> int:
    """Bytes of all pictures of some cameras."""
    return sum(int(np.prod(camera.shape)) * camera.dtype.itemsize for camera in cameras)
