"""The condition of a network: all inputs besides x_t and t."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Condition:
    """A batch of conditions; every field is optional, and a network reads the fields that it was built for.

    Args:
        label: (B,), class indices.
        vector: (B, D), combined with the time embedding: an observation, pooled text, an image embedding.
        tokens: (B, N, D), keys and values of cross-attention.
        token_valid: (B, N) bool, false at padding of `tokens`.
        concat: (B, C, *E), concatenated with the channels of x: a low-resolution image, a mask.
        concat_level: (B,), noise level of `concat` (noise-conditioning augmentation).
        valid: (B, L) bool, false at padding of x, where prompts or horizons differ in length.
        places: (B, L), whole numbers, the position ids of x in its sequence; the default is 0, 1, ...
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
        """Concatenate two batches.

        Raises:
            ValueError: a field is None in only one of them.
        """
        joined: dict[str, object] = {}
        for field in fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if (mine is None) != (theirs is None):
                raise ValueError(
                    f"Condition.cat: only one batch has {field.name}; use a null value in the other one"
                )
            joined[field.name] = _cat(mine, theirs)
        return _condition(joined)

    def repeat(self, count: int) -> "Condition":
        """Repeat each row `count` times: row i becomes rows i * count .. i * count + count - 1."""
        return self._map(lambda value: value.repeat_interleave(count, dim=0))

    def drop(self, rows: Tensor, null: "Condition") -> "Condition":
        """Replace some rows by the null condition: dropout of conditions for classifier-free guidance.

        Args:
            rows: (B,) bool, the rows to replace.
            null: the null condition, with the same fields and batch size 1 or B.
        Raises:
            ValueError: a field is None in only one of the two conditions, or cannot be indexed by rows.
        """
        chosen: dict[str, object] = {}
        for field in fields(self):
            mine, empty = getattr(self, field.name), getattr(null, field.name)
            if (mine is None) != (empty is None):
                difference = "the null condition lacks" if empty is None else "only the null condition has"
                raise ValueError(f"Condition.drop: {difference} {field.name}")
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
        f"Condition.drop: cannot drop rows of {type(mine).__name__}; use a tensor or a tuple of tensors"
    )


def _cat(mine: object, theirs: object) -> object:
    if isinstance(mine, tuple) and isinstance(theirs, tuple):
        return tuple(_cat(a, b) for a, b in zip(mine, theirs, strict=True))
    return torch.cat([mine, theirs]) if isinstance(mine, Tensor) and isinstance(theirs, Tensor) else mine
