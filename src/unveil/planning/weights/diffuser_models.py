"""Load experiments of jannerm/diffuser as our models."""

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
    """Load the model of an experiment, on the CPU, and its settings.

    Args:
        epoch: epoch number, or latest.
        ema: whether to use the moving average of the weights.
        rows: settings -> rows of the training data, for the statistics of the normaliser; without it, rows
            are in normalised units.
    Raises:
        UnveilError: no experiment or several, one that cannot be read, or missing weights; and what `rows`
            raises.
    """
    from unveil.planning.weights.diffuser_folder import read_checkpoint

    found = found_experiments(Path(folder))
    if len(found) > 1:
        raise UnveilError(
            f"{folder} holds {len(found)} experiments; give one: "
            f"{', '.join(str(e.relative_to(folder)) for e in found[:4])}"
        )
    read = read_checkpoint(found[0], epoch)
    model = model_of(read.original, chosen_weights(found[0], read, ema))
    if rows is not None:
        learn_normalization(model, read.original, rows(read.original))
    return model.eval(), read.original


def learn_normalization(model: TrajectoryModel | ValueModel, original: Original, rows: np.ndarray) -> None:
    """Take the statistics of rows (N, actions + observations), as jannerm/diffuser does."""
    model.normalization.learn(rows, normalizer_kind(original), published=True)


def model_of(original: Original, tensors: Mapping[str, Tensor]) -> TrajectoryModel | ValueModel:
    """Our model with these weights, and the identity as normalisation."""
    from unveil.planning.trajectory_model import TrajectoryModel, TrajectoryShape, ValueModel

    names = ("horizon", "diffusion_steps", "actions", "observations", "width", "multiples", "attention")
    shape = TrajectoryShape(**{name: getattr(original, name) for name in names}, predicts=original.predicts)
    model = ValueModel(shape) if original.kind == "values" else TrajectoryModel(shape)
    model.load_state_dict({**model.state_dict(), **tensors})
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
        UnveilError: the checkpoint has no averaged weights.
    """
    if not ema:
        return read.raw
    if read.averaged is None:
        raise UnveilError(
            f"{experiment}: epoch {read.epoch} holds no averaged weights (ema); use the raw ones: `raw=True`"
        )
    return read.averaged


def normalizer_kind(original: Original) -> Literal["gaussian", "limits"]:
    """Our name of the normaliser.

    Raises:
        UnveilError: an unsupported normaliser.
    """
    if original.normalizer not in NORMALIZERS:
        raise UnveilError(
            f"normaliser {original.normalizer or 'not recorded'} of the original is not supported; "
            f"{', '.join(map(str, NORMALIZERS))} are"
        )
    return NORMALIZERS[original.normalizer]
