"""Observations as an environment gives them, as the rows that a policy reads.

A policy reads rows of D numbers: the parts of `PolicyShape.parts`, flattened, one after another. Accepted are

    rows      (D,) for one environment, (B, D) for B of them
    a dict    {name: (D_name,) or (B, D_name)}; pictures (h, w, C) or (B, h, w, C), channels last or first
              (those of one channel also (h, w) or (B, h, w)), of any size: they are resized to that of the
              training; keys that the policy does not know are ignored
    pictures  (h, w, C) or (B, h, w, C), for a policy that observes one camera and nothing else

in lists, numpy arrays or torch tensors on any device.
"""

from collections.abc import Mapping
from math import prod
from typing import Any, cast

import numpy as np
from jaxtyping import Float

from unveil.arrays import axes_of, numbers
from unveil.policy.data.fields import Unread
from unveil.policy.data.frames import as_frame, resized
from unveil.policy.model import PolicyShape
from unveil.policy.networks.observation import Part, parts_text


def rows_of(shape: PolicyShape, observations: object) -> tuple[Float[np.ndarray, "B D"], bool]:
    """Observations as float32 rows, and whether they are those of one environment, without a batch.

    Raises:
        ValueError: anything but what is accepted, with the shape that is needed.
    """
    if isinstance(observations, Mapping) and shape.parts:
        return _joined(shape.parts, cast(Mapping[object, object], observations))
    if len(shape.parts) == 1 and shape.images and axes_of(observations) >= 3:
        return _joined(shape.parts, {shape.parts[0].key: observations})
    size = shape.observations
    order = f" ({parts_text(shape.parts)}, side by side)" if shape.parts else ""
    single = axes_of(observations) == 1
    letters = f"(B, {size}), or ({size},) for one environment"
    letters += f", or a dict with {_names(shape.parts)}" if shape.parts else ""
    wanted = (size,) if single else (None, size)
    rows = numbers(f"policy: observations{order}", observations, wanted, letters).astype(np.float32)
    return (rows[None], True) if single else (rows, False)


def _joined(
    parts: tuple[Part, ...], observations: Mapping[object, object]
) -> tuple[Float[np.ndarray, "B D"], bool]:
    if missing := [part for part in parts if part.key not in observations]:
        had = [str(key) for key in observations][:12]
        raise ValueError(
            f"policy: observation {missing[0].key!r} is missing; needed are {_names(parts)}, got {had}"
        )
    pieces = [_piece(part, observations[part.key]) for part in parts]
    counts = {
        part.key: "one" if single else len(rows) for part, (rows, single) in zip(parts, pieces, strict=True)
    }
    if len(set(counts.values())) > 1:
        raise ValueError(f"policy: observations are of different numbers of environments: {counts}")
    return np.concatenate([rows for rows, _ in pieces], axis=1), pieces[0][1]


def _piece(part: Part, value: object) -> tuple[Float[np.ndarray, "B D"], bool]:
    """One part as rows, and whether it is that of one environment."""
    name, axes = f"policy: observation {part.key!r}", axes_of(value)
    if part.encoder is None:
        size = prod(part.shape)
        single = axes <= 1
        wanted = (() if axes == 0 and size == 1 else (size,)) if single else (None, size)
        read = numbers(name, value, wanted, f"(B, {size}), or ({size},) for one environment")
        return read.reshape(-1, size).astype(np.float32), single
    channels, *size = part.shape
    # of one channel, (h, w) and (h, w, 1) are one picture, and (B, h, w) are several
    last = tuple(getattr(value, "shape", None) or np.shape(cast(Any, value)))[-1:] if axes == 3 else ()
    single = (axes == 3 and (channels != 1 or last == (1,))) or (axes == 2 and channels == 1)
    letters = f"(B, h, w, {channels}), or (h, w, {channels}) for one environment"
    read = numbers(name, value, (None,) * max(axes, 2), letters)
    read = read[None] if single else read
    deep = 3 if channels == 1 and read.ndim == 3 else 4
    if read.ndim != deep or (deep == 4 and channels not in (read.shape[-1], read.shape[1])):
        raise ValueError(f"{name} must have shape {letters}, got {read.shape[1:] if single else read.shape}")
    try:
        frames = resized(as_frame(read, channels), (size[0], size[1]))  # (B, h, w, C)
    except Unread as error:
        raise ValueError(f"{name} {error}") from error
    return np.moveaxis(frames, -1, 1).reshape(len(frames), -1).astype(np.float32), single


def _names(parts: tuple[Part, ...]) -> str:
    """The parts of an observation as an environment gives them: "state (7,), wrist (h, w, 3)"."""
    return ", ".join(
        f"{part.key} ({prod(part.shape)},)" if part.encoder is None else f"{part.key} (h, w, {part.shape[0]})"
        for part in parts
    )
