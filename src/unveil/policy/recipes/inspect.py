"""What a file of demonstrations is, and what a policy would learn from: `unveil data inspect`."""

from __future__ import annotations

import shlex

import numpy as np

from unveil.errors import UnveilError
from unveil.policy.data.source import read_demonstrations
from unveil.policy.recipes.config import InspectData
from unveil.policy.recipes.own_data import UNOBSERVED, pictures_of
from unveil.runs.progress import Progress, as_clock


def inspect_data(config: InspectData, progress: Progress) -> dict[str, object]:
    """Read demonstrations, without decoding more than the first picture of a camera, and describe them.

    Raises:
        UnveilError: no path is given, or no demonstrations can be read there.
    """
    if not config.path:
        raise UnveilError("a path is needed: unveil data inspect PATH")
    refused = ""
    try:
        read = read_demonstrations(config.path, True, lazy=True)
    except UnveilError as error:  # perhaps of a picture alone
        refused = str(error)
        read = read_demonstrations(config.path, False)
    recording, lengths = read.recording, read.episode_ends - read.starts
    pictures = pictures_of(read)
    rate = f" at {recording.hz:g} Hz, {as_clock(len(read) / recording.hz)} in all" if recording.hz else ""
    rows = [
        ("episodes", f"{len(lengths)}, of {lengths.min()} to {lengths.max()} steps"),
        ("steps", f"{len(read):,}{rate}"),
    ]
    names = recording.action_names
    for i, (low, high) in enumerate(zip(read.actions.min(0), read.actions.max(0), strict=True)):
        rows.append(("action", f"{i}{f' {names[i]}' if names else ''}: {low:.4g} .. {high:.4g}"))
    used = [name for name in read.observations if name not in {*pictures, *UNOBSERVED}]
    for name in used:
        values = read.observations[name]
        still = ", never changes" if not np.ptp(values) else ""
        rows.append(
            ("observed", f"{name} {values.shape[1:]}: {values.min():.4g} .. {values.max():.4g}{still}")
        )
    for name, frames in pictures.items():
        first = frames.read(np.arange(1))
        kind = (
            "bytes"
            if frames.dtype == np.uint8
            else f"numbers, {first.min():.4g} .. {first.max():.4g} at first"
        )
        rows.append(
            ("camera", f"{name} {' x '.join(map(str, frames.shape[1:]))}, {kind}; if --observe names it")
        )
    rows += [("left out", f"{name}, which {why}") for name, why in sorted(read.left.items())]
    rows += [
        ("left out", f"{name}, which is no observation, unless --observe names it")
        for name in read.observations
        if name in UNOBSERVED
    ]
    rows += [("left out", f"pictures: {refused}")] if refused else []
    rows += [
        ("subset", f"--filter {name}: {int(mask.sum())} episodes") for name, mask in recording.filters.items()
    ]
    observe = f" --observe {','.join([*used, *pictures])} --resize 96" if pictures else ""
    lines = [config.path, *(f"  {name:<9} {text}" for name, text in rows)]
    progress("reading", 1, 1, {})
    return {
        "path": config.path,
        "protocol": "demonstrations",
        "metrics": {"steps": len(read), "actions": read.actions.shape[1], "n": len(lengths)},
        "observations": {name: list(read.observations[name].shape[1:]) for name in used},
        "cameras": {name: list(frames.shape[1:]) for name, frames in pictures.items()},
        "hz": recording.hz,
        "action_names": list(names),
        "left": dict(read.left),
        "summary": "\n".join(
            [*lines, f"next: unveil train policy --data {shlex.quote(config.path)}{observe}"]
        ),
    }
