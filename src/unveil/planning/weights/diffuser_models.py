"""Our models with the weights of jannerm/diffuser's experiments."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from unveil.errors import UnveilError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from torch import Tensor

    from unveil.planning.trajectory_model import TrajectoryModel, ValueModel
    from unveil.planning.weights.diffuser import Original
    from unveil.planning.weights.diffuser_folder import Checkpoint


ORIGIN = "jannerm/diffuser"


NORMALIZERS: dict[str | None, Literal["gaussian", "limits"]] = {
    "GaussianNormalizer": "gaussian",
    "LimitsNormalizer": "limits",
    "SafeLimitsNormalizer": "limits",
}


def read_original(
    folder: str | Path,
    epoch: str = "latest",
    ema: bool = True,
    rows: Callable[[Original], np.ndarray] | None = None,
) -> tuple[TrajectoryModel | ValueModel, Original]:
    """A model straight from an experiment of the original, on the CPU, and what it is.

    Args:
        rows: reads the rows of the data it was trained on, for the normaliser's statistics; without, rows are in normalised units.
    Raises:
        UnveilError: not one experiment, one that cannot be read, or weights that are not there; and what `rows` raises.
    """
    from unveil.planning.weights.diffuser_folder import read_checkpoint

    found = found_experiments(Path(folder))
    if len(found) > 1:
        raise UnveilError(
            f"{folder} holds {len(found)} experiments; give one: {', '.join(str(e.relative_to(folder)) for e in found[:4])}"
        )
    read = read_checkpoint(found[0], epoch)
    model = model_of(read.original, chosen_weights(found[0], read, ema))
    if rows is not None:
        learn_normalization(model, read.original, rows(read.original))
    return model.eval(), read.original


def learn_normalization(model: TrajectoryModel | ValueModel, original: Original, rows: np.ndarray) -> None:
    """Take statistics of rows (N, actions + observations) as the original does."""
    model.normalization.learn(rows, normalizer_kind(original), published=True)


def model_of(original: Original, tensors: Mapping[str, Tensor]) -> TrajectoryModel | ValueModel:
    """Our model with these weights, its normalisation the identity."""
    from unveil.planning.trajectory_model import TrajectoryModel, TrajectoryShape, ValueModel

    it = original
    shape = TrajectoryShape(
        it.horizon,
        it.diffusion_steps,
        it.actions,
        it.observations,
        it.width,
        it.multiples,
        it.attention,
        it.predicts,
    )
    model = ValueModel(shape) if it.kind == "values" else TrajectoryModel(shape)
    own = {
        name: value
        for name, value in model.state_dict().items()
        if name.split(".")[0] in ("normalization", "offset", "scale")
    }
    model.load_state_dict({**own, **tensors})
    return model


def found_experiments(folder: Path) -> list[Path]:
    """The experiments at or below a folder.

    Raises:
        UnveilError: there are none.
    """
    from unveil.planning.weights.diffuser_folder import experiments

    if not (found := experiments(folder)):
        raise UnveilError(f"{folder}: no experiment of {ORIGIN} here or below (state_<epoch>.pt)")
    return [folder] if folder in found else found


def chosen_weights(experiment: Path, read: Checkpoint, ema: bool) -> Mapping[str, Tensor]:
    """The averaged weights of a checkpoint, or its raw ones.

    Raises:
        UnveilError: averaged ones of a checkpoint that holds none.
    """
    if not ema:
        return read.raw
    if read.averaged is None:
        raise UnveilError(
            f"{experiment}: epoch {read.epoch} holds no averaged weights (ema); take its raw ones with --raw (raw=True)"
        )
    return read.averaged


def normalizer_kind(original: Original) -> Literal["gaussian", "limits"]:
    """Our name of its normaliser.

    Raises:
        UnveilError: one that there is not here.
    """
    if original.normalizer not in NORMALIZERS:
        raise UnveilError(
            f"normaliser {original.normalizer or 'not said'} of the original is not supported; {', '.join(map(str, NORMALIZERS))} are"
        )
    return NORMALIZERS[original.normalizer]
