"""The condition of a network: all inputs besides x_t and t."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import cast

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Condition:
    """A batch of conditions; every field is optional, and a network reads the fields that it was built for.

    Args:
        label: (B,), class indices.
        vector: (B, D), combined with the time embedding: an observation, pooled text.
        tokens: (B, N, D), keys and values of cross-attention.
        token_valid: (B, N) bool, false at padding of `tokens`.
        concat: (B, C, *E), concatenated with the channels of x: a low-resolution image, a mask.
        concat_level: (B,), noise level of `concat` (noise-conditioning augmentation).
        valid: (B, L) bool, false at padding of x, where prompts or horizons differ in length.
        places: (B, L), whole numbers, the position ids of x in its sequence; the default is 0, 1, ...
        embedding: (B, E), the embedding of an image, which joins the time embedding and the tokens (unCLIP).
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
    embedding: Tensor | None = None
    prefix: object = None

    def cat(self, other: "Condition") -> "Condition":
        """Concatenate two batches.

        Raises:
            ValueError: a field is None in only one of them.
        """
        return self._paired("cat", other, lambda mine, theirs: torch.cat([mine, theirs]))

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

        def replaced(mine: Tensor, empty: Tensor) -> Tensor:
            return torch.where(rows.reshape(rows.shape + (1,) * (mine.ndim - 1)), empty.expand_as(mine), mine)

        for value in (getattr(self, field.name) for field in fields(self)):
            if not isinstance(value, Tensor | tuple | None):
                raise ValueError(
                    f"Condition.drop: cannot drop rows of {type(value).__name__}; "
                    "use a tensor or a tuple of tensors"
                )
        return self._paired("drop", null, replaced)

    def rows(self, start: int, stop: int) -> "Condition":
        """Rows start .. stop - 1."""
        return self._map(lambda value: value[start:stop])

    def at(self, rows: Tensor) -> "Condition":
        """Some rows, by index (N,) in any order."""
        return self._map(lambda value: value[rows])

    def _map(self, change: Callable[..., Tensor]) -> "Condition":
        return replace(self, **{it.name: _mapped(change, getattr(self, it.name)) for it in fields(self)})

    def _paired(self, name: str, other: "Condition", change: Callable[..., Tensor]) -> "Condition":
        values: dict[str, object] = {}
        for field in fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if (mine is None) != (theirs is None):
                lacking = "this" if mine is None else "the other"
                raise ValueError(
                    f"Condition.{name}: {lacking} condition lacks {field.name}; use a null value in it"
                )
            values[field.name] = _mapped(change, mine, theirs)
        return replace(self, **values)


def _mapped(change: Callable[..., Tensor], *values: object) -> object:
    """`change` of tensors, or of the corresponding parts of tuples; anything else stays as it is."""
    first = values[0]
    if isinstance(first, tuple):
        parts = cast(tuple[tuple[object, ...], ...], values)
        return tuple(_mapped(change, *corresponding) for corresponding in zip(*parts, strict=True))
    return change(*values) if isinstance(first, Tensor) else first
