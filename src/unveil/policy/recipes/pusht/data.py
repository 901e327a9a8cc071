"""Demonstrations of PushT: `unveil data pusht`, and the arrays for training."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np

from unveil.errors import UnveilError
from unveil.files.atomic import check_output, output
from unveil.files.npz import npz_arrays
from unveil.files.places import found, home
from unveil.policy.data.demonstrations import Demonstrations, write_demonstrations
from unveil.policy.data.fields import Unread, as_pictures
from unveil.policy.data.source import read_demonstrations
from unveil.policy.recipes.pusht.config import URL, DataPushT
from unveil.policy.worlds.pusht.block import keypoint_observation, states_of
from unveil.runs.progress import Progress

CONVERTED = Path("pusht/demonstrations.npz")  # below the cache
LOCAL = Path("pusht/pusht_lowdim.npz")  # below $UNVEIL_DATA
LOCAL_PICTURES = Path("pusht/pusht_images_96.npz")
PICTURES = ("img", "image")  # names in the published buffer and in LeRobot's


def make_pusht_data(config: DataPushT, progress: Progress) -> dict[str, object]:
    """Read and check demonstrations, write the file and its card, and describe them."""
    out = config.out or home() / CONVERTED
    if out.suffix != ".npz" or out.is_dir():
        raise ValueError(f"`out` must be a file name that ends in .npz, got {out}")
    card_file = out.with_name(f"{out.stem}.card.json")
    for file in (out, card_file):
        check_output(file)
    read = read_demonstrations(config.source, PICTURES if config.pictures else False)
    demonstrations = as_pusht(config.source, read, bool(read.observations.keys() & set(PICTURES)))
    observations = {
        name: _as_bytes(config.source, values, len(demonstrations)) if name in PICTURES else values
        for name, values in demonstrations.observations.items()
    }
    demonstrations = replace(demonstrations, observations=observations)
    card = card_of(config.source, demonstrations)
    write_demonstrations(out, demonstrations)
    with output(card_file) as partial:
        partial.write_text(json.dumps(card, indent=1) + "\n")
    progress(f"reading {config.source}", 1, 1, {})
    metrics = _metrics(demonstrations)
    observed = ", ".join(f"{name} {values.shape[1:]}" for name, values in sorted(observations.items()))
    flags = "" if config.out is None else f" --data {shlex.quote(str(out))}"
    flags += " --observation pixels" if observations["state"].shape[1:] == (2,) else ""
    return {
        "path": str(out),
        "protocol": "demonstrations",
        "card": card,
        "metrics": metrics,
        "summary": f"{out}: {metrics['n']} episodes, {metrics['steps']:,} steps, {metrics['length_min']} to "
        f"{metrics['length_max']} each; "
        f"observed: {observed}; actions {card['action_low']} to {card['action_high']}\n"
        f"next: unveil train pusht{flags}",
    }


def card_of(source: str, demonstrations: Demonstrations) -> dict[str, object]:
    """The card of demonstrations; without a time, so that the same data have the same card."""
    return {
        "name": "pusht",
        "source": source,
        "observations": {
            name: list(values.shape[1:]) for name, values in sorted(demonstrations.observations.items())
        },
        "action_low": demonstrations.actions.min(0).round(1).tolist(),
        "action_high": demonstrations.actions.max(0).round(1).tolist(),
        "metrics": _metrics(demonstrations),
    }


def _metrics(demonstrations: Demonstrations) -> dict[str, int | float]:
    lengths = demonstrations.episode_ends - demonstrations.starts
    return {
        "steps": len(demonstrations),
        "length_mean": float(lengths.mean()),
        "length_min": int(lengths.min()),
        "length_max": int(lengths.max()),
        "n": len(lengths),
    }


def as_pusht(source: str, demonstrations: Demonstrations, pictured: bool = False) -> Demonstrations:
    """Demonstrations with the observation `state` of 5 numbers, or of 2 where only pictures show the block.

    LeRobot's datasets have the agent's position as `state` and sometimes the block's corners as
    `environment_state`: with both, `state` becomes the full state, by `states_of`.

    Args:
        pictured: accept the agent's two numbers, because there are pictures.
    Raises:
        UnveilError: a missing observation, or actions that are not two numbers.
    """
    if demonstrations.actions.shape[1] != 2:
        raise UnveilError(
            f"{source}: actions of PushT are x, y; these have {demonstrations.actions.shape[1]} numbers"
        )
    observations = dict(demonstrations.observations)
    points = observations.get("keypoint")
    if points is not None and points[0].size != 18:
        raise UnveilError(
            f"{source}: 'keypoint' must be nine points of the block, 18 numbers per row; got shape "
            f"{points.shape}"
        )
    state, corners = observations.get("state"), observations.get("environment_state")
    alone = state is not None and state.shape[1:] == (2,)
    if state is not None and alone and corners is not None and corners.shape[1:] == (16,):
        del observations["environment_state"]
        try:
            observations["state"] = states_of(state, corners).astype(np.float32)
        except ValueError as error:
            raise UnveilError(f"{source}: 'environment_state': {error}") from error
        return replace(demonstrations, observations=observations)
    if state is not None and (state.shape[1:] == (5,) or (alone and pictured)):
        return demonstrations
    got = "none" if state is None else f"shape {state.shape}"
    got += (
        ", the agent alone, without 'environment_state' (N, 16); with pictures it serves `observation=pixels`"
        if alone
        else ""
    )
    raise UnveilError(
        f"{source}: PushT needs the observation 'state' (N, 5): agent x, y, block x, y, angle; got {got}"
    )


def pusht_demonstrations(data: str, observation: str = "state") -> Demonstrations:
    """Read and check the demonstrations for training; for pixels with the observation `picture`, as bytes.

    Raises:
        UnveilError: they are missing, not those of PushT, or without pictures.
    """
    packaged, pictured = data == "pusht", observation == "pixels"
    if packaged:
        path = next((p for p in (found(CONVERTED), found(LOCAL)) if p.is_file()), None)
        if path is None:
            raise UnveilError(
                f"no demonstrations of PushT at {home() / CONVERTED}; get them with: unveil data pusht "
                f"--from {URL}"
            )
        data = str(path)
    demonstrations = as_pusht(data, read_demonstrations(data, PICTURES if pictured else False), pictured)
    if not pictured:
        return demonstrations
    pictures = _pictures(data, demonstrations, packaged)
    return replace(
        demonstrations, observations={"state": demonstrations.observed("state"), "picture": pictures}
    )


def _pictures(data: str, demonstrations: Demonstrations, packaged: bool) -> np.ndarray:
    """Bytes (N, 96, 96, 3) from the demonstrations, or from `pusht_images_96.npz` beside them.

    That file of the packaged demonstrations may also lie below $UNVEIL_DATA.
    """
    stored = demonstrations.observations
    pictures = next((stored[name] for name in PICTURES if name in stored), None)
    if pictures is None:
        files = (Path(data).with_name(LOCAL_PICTURES.name), *([found(LOCAL_PICTURES)] if packaged else []))
        file = next((file for file in files if file.is_file()), None)
        if file is None:
            raise UnveilError(
                f"{data}: no pictures 'img' (N, 96, 96, 3), nor {LOCAL_PICTURES.name} beside it"
            )
        pictures = npz_arrays(file, ("img",), None)["img"]
    return _as_bytes(data, pictures, len(demonstrations))


def _as_bytes(data: str, pictures: np.ndarray, count: int) -> np.ndarray:
    if pictures.ndim == 4:
        try:
            pictures = as_pictures([pictures])
        except Unread as error:
            raise UnveilError(f"{data}: 'img' {error}") from error
    if pictures.shape != (count, 96, 96, 3) or pictures.dtype != np.uint8:
        raise UnveilError(f"{data}: pictures must be {(count, 96, 96, 3)}, got {pictures.shape}")
    return pictures


def observations_of(demonstrations: Demonstrations, observation: str) -> np.ndarray:
    """The numbers of an observation for training.

    Returns:
        (N, 5) states; (N, 20) keypoints, recorded or computed from states, and the agent's position; or for
        pixels (N, 2), that position alone.
    """
    states = demonstrations.observed("state")
    if observation == "state":
        return states
    if observation == "pixels":
        return states[:, :2]
    if "keypoint" not in demonstrations.observations:
        return keypoint_observation(states.astype(np.float64)).astype(np.float32)
    return np.concatenate([demonstrations.observed("keypoint"), states[:, :2]], axis=1)
