"""Folders of jannerm/diffuser: `<logbase>/<dataset>/{diffusion,values}/<experiment>/state_<epoch>.pt` and
`*_config.pkl`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from torch import Tensor

from unveil.errors import UnveilError
from unveil.files.pickles import ORDERED_DICT, Made, Symbol, read_pickle
from unveil.files.torch_save import read_torch
from unveil.planning.weights.diffuser import Component, Original, described, renamed

LARGEST_CONFIG = 2**20
LOADER = "GoalDataset"  # class of the branch maze2d: the last observation of its windows is known too
CONFIGS = ("dataset", "render", "model", "diffusion", "trainer")
PACKAGES = ("diffuser", "diffusion")  # the name of the package, and its former name
MODULES = ("utils", "datasets", "models", "environments")
PARTS = {
    "": ("Config", "Trainer", "GaussianDiffusion", "ValueDiffusion", "ValueFunction", "CDFNormalizer1d"),
    "Unet": ("Temporal", "Mixer", "TemporalMixer"),
    "Dataset": ("Sequence", "Goal", "Value", "Trajectory", "Kuka"),
    "Renderer": ("MuJoCo", "Maze", "Maze2d", "Kuka", ""),
    "Normalizer": ("Dataset", "Debug", "Gaussian", "Limits", "SafeLimits", "CDF", ""),
}
CLASSES = frozenset(name + end for end, names in PARTS.items() for name in names)


@dataclass(frozen=True)
class Checkpoint:
    """A `state_<epoch>.pt`, with tensors under our names.

    Args:
        averaged: the moving average (EMA) of the weights; None if the file has none.
    """

    original: Original
    epoch: int
    step: int
    raw: Mapping[str, Tensor]
    averaged: Mapping[str, Tensor] | None


def experiments(folder: Path) -> list[Path]:
    """The experiments at or below a folder, which is an experiment, a data set's folder or a whole logbase;
    sorted."""
    depths = ("", "*/", "*/*/", "*/*/*/")
    return sorted({file.parent for depth in depths for file in folder.glob(f"{depth}state_*.pt")})


def epochs(experiment: Path) -> dict[int, Path]:
    """The files of an experiment by epoch, ascending."""
    named = ((re.fullmatch(r"state_(\d{1,12})\.pt", p.name), p) for p in experiment.glob("state_*.pt"))
    return dict(sorted((int(match[1]), path) for match, path in named if match))


def read_checkpoint(experiment: Path, epoch: str = "latest") -> Checkpoint:
    """Read an epoch of an experiment, without running any code in its files.

    Args:
        epoch: "latest", or a number.
    Raises:
        UnveilError: no such epoch, a damaged file, no checkpoint of jannerm/diffuser, or parts that disagree.
    """
    states = epochs(experiment)
    if not states:
        raise UnveilError(f"{experiment}: no state_<epoch>.pt here")
    if epoch != "latest" and (not epoch.isdecimal() or int(epoch) not in states):
        raise UnveilError(
            f"{experiment}: no epoch {epoch!r}; there are {', '.join(map(str, states))}, or latest"
        )
    chosen = max(states) if epoch == "latest" else int(epoch)
    file, configs = states[chosen], read_configs(experiment)
    state = read_torch(file)
    step = state.get("step") if isinstance(state, dict) else None
    if not isinstance(state, dict) or type(step) is not int or not 0 <= step < 10**12:
        raise UnveilError(f"{file}: not a state of jannerm/diffuser (a dict with step, model and ema)")
    raw, averaged = _tensors(file, state, "model"), _tensors(file, state, "ema") if "ema" in state else None
    try:
        original = described(raw, configs)
        ours = renamed(raw, original)
        return Checkpoint(
            original, chosen, step, ours, None if averaged is None else renamed(averaged, original)
        )
    except ValueError as error:
        raise UnveilError(f"{file}: not a checkpoint that can be read: {error}") from error


def read_configs(experiment: Path) -> dict[str, Component]:
    """The `*_config.pkl` of an experiment, by the first word of their names. No code in them is run.

    Raises:
        UnveilError: larger than 1 MiB, damaged, or with other contents than classes of jannerm/diffuser and
            plain data.
    """
    found: dict[str, Component] = {}
    for name in CONFIGS:
        file = experiment / f"{name}_config.pkl"
        if not file.is_file():
            continue
        try:
            if file.stat().st_size > LARGEST_CONFIG:
                raise ValueError(f"more than {LARGEST_CONFIG:,} bytes")
            found[name] = _component(read_pickle(BytesIO(file.read_bytes()), _knows))
        except OSError as error:
            raise UnveilError(f"{file}: cannot be read ({error.strerror or error})") from error
        except ValueError as error:
            raise UnveilError(f"{file}: refused, no code in it was run: {error}") from error
    return found


def _knows(symbol: Symbol) -> bool:
    """Whether a symbol is a class of jannerm/diffuser that configs name, in any module of the package."""
    package, _, inside = symbol.module.partition(".")
    return symbol == ORDERED_DICT or (
        package in PACKAGES and inside.split(".")[0] in MODULES and symbol.name in CLASSES
    )


def _component(value: object) -> Component:
    """The contents of a `diffuser.utils.config.Config`: `_class` and `_dict`; `_device` is not used."""
    state = (
        value.state
        if isinstance(value, Made) and value.maker.name == "Config" and value.arguments == ()
        else None
    )
    if not isinstance(state, dict) or not {"_class", "_dict"} <= state.keys() <= {
        "_class",
        "_dict",
        "_device",
    }:
        raise ValueError("not a Config of jannerm/diffuser")
    kind, arguments = state["_class"], state["_dict"]
    if not isinstance(kind, Symbol) or not isinstance(arguments, dict):
        raise ValueError("a Config without its class or its arguments")
    return Component(kind.name, {str(name): value for name, value in arguments.items()})


def _tensors(file: Path, state: Mapping[str, object], name: str) -> dict[str, Tensor]:
    found = state.get(name)
    if not isinstance(found, dict) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in found.items()
    ):
        raise UnveilError(f"{file}: {name!r} is missing, or no dict of tensors")
    return {str(key): value for key, value in found.items() if isinstance(value, Tensor)}


def is_original(folder: Path) -> bool:
    """Whether a folder is an experiment of jannerm/diffuser, or is above one."""
    return bool(experiments(folder))


def is_experiment(folder: Path) -> bool:
    """Whether a folder itself is an experiment of jannerm/diffuser."""
    return bool(epochs(folder))


def is_maze(folder: Path) -> bool:
    """Whether a folder is an experiment of the branch maze2d, or is above one: by its dataset_config.pkl."""
    found = [read_configs(place).get("dataset") for place in experiments(folder)]
    return any(dataset is not None and dataset.name == LOADER for dataset in found)
