"""Experiments of jannerm/diffuser for locomotion: their config.json, and the rows from which their normaliser
takes statistics."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from unveil.errors import UnveilError
from unveil.planning.weights.diffuser_models import ORIGIN, normalizer_kind

if TYPE_CHECKING:
    import numpy as np

    from unveil.planning.weights.diffuser import Original


def locomotion_config(original: Original, normalized: bool) -> dict[str, object]:
    """The config.json of a converted run."""
    described = asdict(original)
    described["recipe"] = "locomotion" if described.pop("kind") == "diffusion" else "value"
    described["normalizer"] = normalizer_kind(original)
    if described["recipe"] == "locomotion":
        for name in ("discount", "termination_penalty", "normed"):
            del described[name]
    more = {"multiples": list(original.multiples), "normalized": normalized, "origin": ORIGIN}
    return {**described, **more}


def locomotion_rows(original: Original, dataset: str) -> np.ndarray:
    """Rows (N, actions + observations) from which Diffuser takes statistics: all steps of episodes that have
    an end, without padding.

    Raises:
        UnveilError: data of other sizes, or with a constant number, for the normaliser that does not support
            it.
    """
    import numpy as np

    from unveil.planning.data.source import read_episodes

    episodes = read_episodes(dataset)
    sizes = episodes.actions.shape[1], episodes.observations.shape[1]
    if sizes != (original.actions, original.observations):
        raise UnveilError(
            f"{dataset} has {sizes[0]} actions and {sizes[1]} observations, "
            f"the checkpoint {original.actions} and {original.observations}: another body, or another "
            "version of it"
        )
    marks = np.flatnonzero(episodes.terminals | episodes.timeouts)
    count = int(marks[-1]) + 1 if marks.size else len(episodes)
    rows = np.concatenate([episodes.actions[:count], episodes.observations[:count]], axis=1, dtype=np.float32)
    if original.normalizer == "SafeLimitsNormalizer" and bool((rows.min(0) == rows.max(0)).any()):
        raise UnveilError(
            f"{dataset}: a number that never changes, which the original's SafeLimitsNormalizer maps in a "
            "way not read here"
        )
    return rows
