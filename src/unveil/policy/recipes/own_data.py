"""Demonstrations of your own robot: which episodes, observations and actions a policy learns from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from unveil.errors import UnveilError
from unveil.files.json_objects import JsonObject
from unveil.policy.data.chunks import published_split
from unveil.policy.data.demonstrations import Demonstrations
from unveil.policy.data.frames import Frames, Held, ResizedFrames
from unveil.policy.data.ranges import chosen_positions
from unveil.policy.data.source import read_demonstrations
from unveil.policy.networks.observation import Part
from unveil.policy.recipes.config import TrainPolicy
from unveil.policy.recipes.fitting import Demonstrated
from unveil.policy.recipes.load import parts_of
from unveil.runs.flags import changed

UNOBSERVED = {  # columns of replay buffers that no robot observes
    *("reward", "rewards", "done", "dones", "terminal", "terminals", "timeout", "timeouts", "terminated"),
    *("truncated", "timestamp", "timestamps", "success", "sparse_reward", "dense_reward"),
}
SMALLEST = 33  # pixels of a side that the image encoder reads


class Chosen(NamedTuple):
    """The chosen episodes, and how a policy reads them.

    Args:
        demonstrations: the chosen episodes.
        training: (E,), those of them that are trained on; the others are held out.
        parts: parts of an observation, numbers first.
        actions: (A,), positions of the predicted numbers in the recorded actions.
        left: what is left out, and the reason, as the end of a sentence.
        total: number of episodes in the file.
    """

    demonstrations: Demonstrations
    training: Bool[np.ndarray, " E"]
    parts: tuple[Part, ...]
    actions: Int[np.ndarray, " A"]
    left: Mapping[str, str]
    total: int

    @property
    def action_names(self) -> tuple[str, ...]:
        """Names of the predicted numbers, or none."""
        names = self.demonstrations.recording.action_names
        return tuple(names[i] for i in self.actions) if names else ()


def chosen(config: TrainPolicy) -> Chosen:
    """Read the demonstrations of a training.

    Raises:
        UnveilError: no such file, observation, action, episode or subset; the message says what there is.
        ValueError: a size of pictures that does not fit.
    """
    if not config.data:
        raise UnveilError("`data` is needed: the path of your demonstrations, such as `data=demos.hdf5`")
    wanted = listed(config.observe)
    read = read_demonstrations(config.data, wanted or False, lazy=True)
    kept, total = _episodes(read, config), len(read.episode_ends)
    pictures, left = pictures_of(read), dict(read.left)
    names = wanted or tuple(name for name in read.observations if name not in {*pictures, *UNOBSERVED})
    for name in read.observations:
        if name not in names:
            left[name] = (
                "--observe does not name" if wanted else "is no observation, unless --observe names it"
            )
    for name, shape in read.recording.unread.items():
        left[name] = f"is a picture, {_by(shape)}, that --observe does not name"
    if not names:
        there = ", ".join(sorted({*read.observations, *read.recording.unread})) or "none"
        raise UnveilError(f"{config.data}: name the observations with `observe`; there are {there}")
    numbers = [name for name in names if name not in pictures]
    there = sorted({*read.observations, *read.cameras, *read.recording.unread})
    if unknown := [name for name in names if name not in there]:
        why = f" that can be read: it {read.left[unknown[0]]}" if unknown[0] in read.left else ""
        raise UnveilError(f"{config.data}: no observation {unknown[0]!r}{why}; there are {', '.join(there)}")
    parts = [Part(name, (prod(read.observations[name].shape[1:]),)) for name in numbers]
    for i, name in enumerate(name for name in names if name in pictures):
        parts.append(_camera(name, pictures[name].shape, i, config))
    actions = action_columns(config.data, read, config.controlled)
    read = read.chosen(kept)
    training = published_split(len(read.episode_ends), config.hold_out, 0, config.split_seed)
    return Chosen(read, training, tuple(parts), actions, left, total)


def chosen_again(described: JsonObject, data: str = "") -> Chosen:
    """The demonstrations of a training, by its config.json, or others that have the same parts and actions.

    Args:
        data: other demonstrations, all of whose episodes are held out; by default those of the training.
    Raises:
        UnveilError: they are missing, or have other observations or actions.
    """
    names = ("data", "controlled", "episodes", "filter", "hold_out", "split_seed")
    settings = {name: described[name] for name in names if name in described}
    settings |= {"data": data, "episodes": "", "filter": ""} if data else {}
    parts = parts_of(described)
    again = chosen(changed(TrainPolicy(), **settings, observe=",".join(part.key for part in parts)))
    # pictures are resized to those of the training
    shapes = [(part.key, part.shape[:1]) for part in parts]
    got = [(part.key, part.shape[:1]) for part in again.parts]
    if got != shapes or len(again.actions) != described["actions"]:
        raise UnveilError(
            f"{settings['data']}: the policy observes {shapes} and predicts {described['actions']} actions, "
            f"but these demonstrations have {got} and {len(again.actions)}"
        )
    again = again._replace(parts=parts)
    return again._replace(training=np.zeros(len(again.training), bool)) if data else again


def demonstrated(it: Chosen, which: Bool[np.ndarray, " E"]) -> Demonstrated:
    """The arrays of the marked episodes, with pictures at the size of their parts."""
    some = it.demonstrations.chosen(which)
    numbers = [part.key for part in it.parts if part.encoder is None]
    pictures = pictures_of(some)
    cameras = [
        ResizedFrames(pictures[part.key], (part.shape[1], part.shape[2]))
        for part in it.parts
        if part.encoder is not None
    ]
    observations = some.observed(*numbers) if numbers else np.zeros((len(some), 0), np.float32)
    named = tuple(
        f"{part.key}[{i}]" for part in it.parts if part.encoder is None for i in range(part.shape[0])
    )
    return Demonstrated(
        observations,
        np.ascontiguousarray(some.actions[:, it.actions]),
        some.episode_ends,
        tuple(cameras),
        (named, it.action_names),
    )


def pictures_of(demonstrations: Demonstrations) -> dict[str, Frames]:
    """All pictures (N, h, w, C) by name, in memory or not."""
    held = {name: Held(it) for name, it in demonstrations.observations.items() if it.ndim == 4}
    return {**held, **demonstrations.cameras}


def listed(text: str) -> tuple[str, ...]:
    """Names that are separated by commas.

    Raises:
        ValueError: a name twice.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if len(set(names)) < len(names):
        raise ValueError(f"a name stands twice in {text!r}")
    return names


def action_columns(where: Path | str, read: Demonstrations, controlled: str) -> Int[np.ndarray, " A"]:
    """The positions of the chosen actions, by name, by the beginning of names, or by position.

    Raises:
        UnveilError: no such name, or names for actions that have none.
    """
    count, names = read.actions.shape[1], read.recording.action_names
    if not controlled:
        return np.arange(count)
    if re.fullmatch(r"[\d:,\s-]+", controlled):
        return np.flatnonzero(chosen_positions(controlled, count, "actions"))
    if not names:
        raise UnveilError(
            f"{where}: its {count} actions have no names; choose them by position, such as "
            f"`controlled=0:{count}`"
        )
    columns: list[int] = []
    for word in listed(controlled):
        found = [i for i, name in enumerate(names) if name == word]
        found = found or [
            i for i, name in enumerate(names) if re.match(rf"{re.escape(word)}([^a-zA-Z]|$)", name)
        ]
        if not found:
            raise UnveilError(f"{where}: no action {word!r}; there are {', '.join(names)}")
        columns += [i for i in found if i not in columns]
    return np.array(columns)


def _episodes(read: Demonstrations, config: TrainPolicy) -> Bool[np.ndarray, " E"]:
    kept = np.ones(len(read.episode_ends), bool)
    if config.filter:
        filters = read.recording.filters
        if config.filter not in filters:
            there = ", ".join(filters) or "none"
            raise UnveilError(
                f"{config.data}: no subset {config.filter!r} of the episodes; there are {there}"
            )
        kept &= filters[config.filter]
    if config.episodes:
        kept &= chosen_positions(config.episodes, len(kept), "episodes")
    if not kept.any():
        raise UnveilError(f"{config.data}: `filter` and `episodes` leave no episode of {len(kept)}")
    return kept


def _camera(name: str, shape: tuple[int, ...], number: int, config: TrainPolicy) -> Part:
    """The part of a camera's pictures, at the size that the policy reads."""
    size = (shape[1], shape[2])
    small = _size("resize", config.resize, size)
    crop = _size("crop", config.crop, small)
    if crop[0] > small[0] or crop[1] > small[1]:
        raise ValueError(
            f"`crop` {config.crop}: {_by(crop)} is larger than the pictures of {name!r}, {_by(small)}"
        )
    if min(crop) < SMALLEST:
        raise ValueError(
            f"pictures of {name!r} become {_by(crop)} pixels, but at least {SMALLEST} are needed; give a "
            "larger `resize` or `crop`"
        )
    return Part(name, (shape[3], *small), number, None if crop == small else crop)


def _size(flag: str, text: str, size: tuple[int, int]) -> tuple[int, int]:
    """The size (h, w) that a flag asks for, in proportion to a size where it names the height alone."""
    if not text:
        return size
    match = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", text)
    if match is None or not int(match[1]):
        raise ValueError(f"`{flag}` is a height in pixels, or HEIGHTxWIDTH such as 96x128; got {text!r}")
    height = int(match[1])
    return height, int(match[2]) if match[2] else max(1, round(height * size[1] / size[0]))


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
