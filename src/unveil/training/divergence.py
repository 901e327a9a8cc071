"""Stop a training whose loss, gradient or weights are not finite, with an error that says where to look.

It stops before the weights are changed or saved.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from unveil.errors import UnveilError
from unveil.training.checkpoint import latest_checkpoint


class Seen(NamedTuple):
    """What is reported of a batch if its step diverges.

    Args:
        loss: its loss.
        t: its times, if it has any.
        bad: a description of numbers in the batch that are not finite, or "".
    """

    loss: float
    t: Tensor | None
    bad: str


def seen(loss: float, batch: object) -> Seen:
    """The report of a batch and its loss; the times are the batch's attribute `t`, if it has one."""
    t = getattr(batch, "t", None)
    return Seen(
        loss,
        t if isinstance(t, Tensor) and t.numel() else None,
        "" if math.isfinite(loss) else not_finite(batch),
    )


def not_finite(batch: object, name: str = "batch") -> str:
    """Describe the first tensor of a nested batch that is not finite, with count and rows; "" if all are."""
    if isinstance(batch, Tensor):
        if not batch.is_floating_point() or bool((good := torch.isfinite(batch)).all()):
            return ""
        rows = (~good).reshape(len(batch), -1).any(1).nonzero()[:, 0].tolist() if batch.ndim else []
        where = (
            f", in rows {', '.join(map(str, rows[:5]))}{' ...' if len(rows) > 5 else ''} of {len(batch)}"
            if rows
            else ""
        )
        return f"{int((~good).sum())} of {batch.numel()} numbers of {name}{where}"
    parts = vars(batch) if hasattr(batch, "__dict__") else getattr(batch, "_asdict", dict)()
    if isinstance(batch, Mapping):
        parts = batch
    elif isinstance(batch, tuple | list) and not parts:
        parts = {f"{name} {k}": part for k, part in enumerate(batch)}
    return next(
        (text for key, part in parts.items() if part is not batch and (text := not_finite(part, str(key)))),
        "",
    )


def stop_unless_finite(loss: float, norm: float, batches: Iterable[Seen], step: int, run: Path) -> None:
    """Stop before a step whose loss or gradient is not finite.

    Args:
        norm: norm of the gradient, before clipping.
        batches: the batches of the step; the error reports the times of those whose loss is not finite, or of
            all if every loss is finite.
        step: number of the step, from 1.
        run: the run folder.
    Raises:
        UnveilError: the loss or the norm is not finite; the message names the step, the range of t, numbers
            of the batch that are not finite, and the last good checkpoint.
    """
    if math.isfinite(loss) and math.isfinite(norm):
        return
    what = (
        f"the loss is {loss}"
        if not math.isfinite(loss)
        else f"the gradient's norm is {norm}, of a loss of {loss:.4g},"
    )
    reports = list(batches)
    bad = [report for report in reports if not math.isfinite(report.loss)] or reports
    times = [report.t for report in bad if report.t is not None]
    span = (
        f", t {min(float(t.min()) for t in times):.4g} .. {max(float(t.max()) for t in times):.4g}"
        if times
        else ""
    )
    if cause := next((report.bad for report in bad if report.bad), ""):
        raise UnveilError(
            f"{what} at step {step}{span}, because {cause} are NaN or infinite: check the data; {_good(run)}"
        )
    if step == 1:
        raise UnveilError(
            f"{what} at step 1{span}, before any update of the weights: "
            f"check the range of the data and the loss; {_good(run)}"
        )
    raise UnveilError(f"{what} at step {step}{span}; {_advice(run)}")


def stop_unless_weights_finite(
    parameters: Mapping[str, Tensor], average: Mapping[str, Tensor], step: int, run: Path
) -> None:
    """Stop instead of saving weights that are not finite.

    Raises:
        UnveilError: a weight is not finite; the message names it, the step and the last good checkpoint.
    """
    for what, tensors in (
        ("weight", parameters),
        ("averaged weight", {name: average[name] for name in parameters}),
    ):
        for name, value in tensors.items():
            if not bool(torch.isfinite(value.detach()).all()):
                raise UnveilError(
                    f"the {what} {name} is not finite after step {step}, which is not saved; {_advice(run)}"
                )


def _advice(run: Path) -> str:
    return f"{_good(run)}; try a lower `learning_rate` with another `out`"


def _good(run: Path) -> str:
    return f"last good checkpoint: {latest_checkpoint(run) or 'none'}"
