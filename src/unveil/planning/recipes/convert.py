"""Describe folders of jannerm/diffuser, of mazes and of bodies, and convert them to runs of unveil."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unveil.planning.recipes.locomotion.diffuser import locomotion_config, locomotion_rows
from unveil.planning.recipes.maze.diffuser import maze_config, maze_rows
from unveil.planning.weights.diffuser_folder import LOADER
from unveil.planning.weights.diffuser_models import ORIGIN

if TYPE_CHECKING:
    import numpy as np

    from unveil.planning.weights.diffuser import Original


def our_config(original: Original, normalized: bool) -> dict[str, object]:
    """What config.json of a converted run says."""
    return (maze_config if original.loader == LOADER else locomotion_config)(original, normalized)


def rows_of(original: Original, dataset: str) -> np.ndarray:
    """Rows (N, actions + observations) from which the original takes its normaliser's statistics."""
    return (maze_rows if original.loader == LOADER else locomotion_rows)(original, dataset)


def inspect_diffuser(folder: Path, epoch: str) -> str:
    """A description of each experiment in a folder.

    Raises:
        UnveilError: none there, or one that cannot be read.
    """
    from unveil.planning.weights.diffuser import CLASSES, parameters
    from unveil.planning.weights.diffuser_folder import epochs, read_checkpoint
    from unveil.planning.weights.diffuser_models import found_experiments

    lines: list[str] = []
    for experiment in found_experiments(folder):
        read = read_checkpoint(experiment, epoch)
        it = read.original
        goal = ", start and goal known" if it.loader == LOADER else ""
        target = f", predicts {it.predicts}"
        if it.kind == "values":
            target = f"; discount {it.discount}, termination penalty {it.termination_penalty}"
        attention, normalizer = "yes" if it.attention else "no", it.normalizer or "not recorded"
        sizes, stored = f"{it.actions} actions, {it.observations} observations", map(str, epochs(experiment))
        rows = {
            "network": f"{CLASSES[it.kind]}, {parameters(it):,} parameters",
            "trajectories": f"{sizes}, horizon {it.horizon}{goal}",
            "diffusion": f"{it.diffusion_steps} steps, cosine{target}",
            "shape": f"width {it.width}, multiples {it.multiples}, attention {attention}",
            "epochs": f"{', '.join(stored)} (read: {read.epoch}, at step {read.step:,})",
            "weights": "raw" if read.averaged is None else "raw and averaged (EMA)",
            "data set": it.dataset or "not recorded",
            "normaliser": f"{normalizer}; its statistics are in the data set, not here: give --dataset to "
            "convert",
        }
        lines += [str(experiment), *(f"  {name:<13} {text}" for name, text in rows.items()), ""]
    return "\n".join(lines).rstrip()


def convert_diffuser(folder: Path, out: Path, epoch: str, raw: bool, dataset: str | None) -> str:
    """Write a run of unveil for each experiment, at the same path below `out`; returns the text to print.

    Raises:
        UnveilError: weights that are not there, a foreign data set, or a folder that holds something else.
    """
    from unveil.planning.weights.diffuser_folder import read_checkpoint
    from unveil.planning.weights.diffuser_models import (
        chosen_weights,
        found_experiments,
        learn_normalization,
        model_of,
    )
    from unveil.runs.checkpoints import check_free, write_converted

    lines: list[str] = []
    for experiment in found_experiments(folder):
        read = read_checkpoint(experiment, epoch)
        chosen = chosen_weights(experiment, read, ema=not raw)
        place = out if experiment == folder else out / experiment.relative_to(folder)
        described = our_config(read.original, normalized=dataset is not None)
        check_free(place, described)
        models = {"network": model_of(read.original, read.raw), "ema": model_of(read.original, chosen)}
        if dataset is not None:
            learn_normalization(models["network"], read.original, rows_of(read.original, dataset))
            models["ema"].normalization.load_state_dict(models["network"].normalization.state_dict())
        state = {"step": read.step, "epoch": read.epoch, "weights": "raw" if raw else "ema", "origin": ORIGIN}
        write_converted(place, f"checkpoint-{read.epoch}", described, models, state)
        units = (
            "with the statistics of its data"
            if dataset
            else "without statistics: plans in normalised units only (--dataset)"
        )
        weights = f"epoch {read.epoch}, {'raw' if raw else 'averaged'} weights"
        lines.append(f"{place}: {described['recipe']}, {weights}, {units}")
    return "\n".join(lines)
