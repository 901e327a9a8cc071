"""Everything a network is told besides x_t and t."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Condition:
    """A batch of conditions; every field is optional, and a network reads the fields it was built for.

    Args:
        label: (B,) class.
        vector: (B, D), joins the time embedding: an observation, pooled text, an image embedding.
        tokens: (B, N, D) for cross-attention.
        token_valid: (B, N) bool, which tokens are real.
        concat: (B, C, *E) joins the channels: a low resolution, a mask.
        concat_level: (B,) noise level of `concat` (noise-conditioning augmentation).
        valid: (B, L) bool, real positions: ragged prompts, several horizons in one batch.
        places: (B, L) whole numbers, where the positions of x stand in their sequence; by default 0, 1, ...
        prefix: clean context from `network.prefill`, a tensor or tuple of tensors with the batch on axis 0.
    """

    label: Tensor | None = None
    vector: Tensor | None = None
    tokens: Tensor | None = None
    token_valid: Tensor | None = None
    concat: Tensor | None = None
    concat_level: Tensor | None = None
    valid: Tensor | None = None
    places: Tensor | None = None
    prefix: object = None

    def cat(self, other: "Condition") -> "Condition":
        """Both batches, one after the other.

        Raises:
            ValueError: a field is given in one and missing in the other.
        """
        joined: dict[str, object] = {}
        for field in fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if (mine is None) != (theirs is None):
                raise ValueError(
                    f"Condition.cat: {field.name} is given on one side only; give a null value on the other"
                )
            joined[field.name] = _cat(mine, theirs)
        return _condition(joined)

    def repeat(self, count: int) -> "Condition":
        """Each row `count` times in a row: row i becomes rows i * count .. i * count + count - 1."""
        return self._map(lambda value: value.repeat_interleave(count, dim=0))

    def drop(self, rows: Tensor, null: "Condition") -> "Condition":
        """The rows marked in `rows` (B,) bool replaced by those of `null` (same fields, batch 1 or B): per-sample dropping for CFG."""
        chosen: dict[str, object] = {}
        for field in fields(self):
            mine, empty = getattr(self, field.name), getattr(null, field.name)
            if (mine is None) != (empty is None):
                raise ValueError(
                    f"Condition.drop: {'the null condition lacks' if empty is None else 'only the null condition has'} {field.name}"
                )
            chosen[field.name] = _drop(rows, mine, empty)
        return _condition(chosen)

    def rows(self, start: int, stop: int) -> "Condition":
        """Rows start .. stop - 1."""
        return self._map(lambda value: value[start:stop])

    def _map(self, change: Callable[[Tensor], Tensor]) -> "Condition":
        return _condition({field.name: _apply(change, getattr(self, field.name)) for field in fields(self)})


def _condition(values: dict[str, Any]) -> Condition:
    return Condition(**values)


def _apply(change: Callable[[Tensor], Tensor], value: object) -> object:
    if isinstance(value, tuple):
        return tuple(_apply(change, part) for part in value)
    return change(value) if isinstance(value, Tensor) else value


def _drop(rows: Tensor, mine: object, empty: object) -> object:
    if isinstance(mine, tuple) and isinstance(empty, tuple):
        return tuple(_drop(rows, a, b) for a, b in zip(mine, empty, strict=True))
    if isinstance(mine, Tensor) and isinstance(empty, Tensor):
        return torch.where(rows.reshape(rows.shape + (1,) * (mine.ndim - 1)), empty.expand_as(mine), mine)
    if mine is None:
        return None
    raise ValueError(
        f"Condition.drop: cannot drop rows of {type(mine).__name__}; tensors and tuples of them can"
    )


def _cat(mine: object, theirs: object) -> object:
    if isinstance(mine, tuple) and isinstance(theirs, tuple):
        return tuple(_cat(a, b) for a, b in zip(mine, theirs, strict=True))
    return torch.cat([mine, theirs]) if isinstance(mine, Tensor) and isinstance(theirs, Tensor) else mine
