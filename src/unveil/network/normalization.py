"""Normalisation of rows of numbers: by mean and deviation, or by limits; learned from data, stored with the weights."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from unveil.network.scales import constant_scale, is_constant


class Normalization(nn.Module):
    """x = 2 (row - low) / (high - low) - 1: `low` becomes -1 and `high` 1.

    With the data's limits this is the published `LimitsNormalizer`, with the mean minus and plus one deviation the `GaussianNormalizer`.
    A feature that hardly changes (`scales.is_constant`) is divided by 1, or by more if it is huge, so that it becomes 0. `least` and `most`
    are the smallest and largest normalised values in the data, for clipping; infinite where no data were seen.
    """

    low: Tensor
    high: Tensor
    least: Tensor
    most: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("least", torch.full((features,), -torch.inf))
        self.register_buffer("most", torch.full((features,), torch.inf))
        self.register_buffer("low", -torch.ones(features))
        self.register_buffer("high", torch.ones(features))

    @property
    def learned(self) -> bool:
        """Whether data were seen: checkpoints of jannerm/diffuser alone do not hold these statistics."""
        return bool(torch.isfinite(self.least).all())

    def learn(
        self, rows: Float[np.ndarray, "N D"], kind: Literal["limits", "gaussian"], published: bool = False
    ) -> tuple[int, ...]:
        """Set `low` and `high` from data in their own units; all statistics are taken in float64.

        Args:
            published: as the released normalisers do, only what does not change at all counts as constant.
        Returns:
            The features that vary by so little that they count as constant: worth a note.
        Raises:
            ValueError: no rows, or a number that is not finite.
        """
        if not len(rows):
            raise ValueError("normalization: no rows to learn from")
        least, most = rows.min(0).astype(np.float64), rows.max(0).astype(np.float64)
        if not np.isfinite(least + most).all():
            raise ValueError(
                f"normalization: feature {np.flatnonzero(~np.isfinite(least + most))[0]} holds numbers that are not finite"
            )
        if kind == "limits":
            low, high = least, most
        else:
            mean, deviation = rows.mean(0, dtype=np.float64), rows.std(0, dtype=np.float64)
            low, high = mean - deviation, mean + deviation
        constant = (
            high - low < 1e-6
            if published
            else is_constant(high - low, np.maximum(np.abs(least), np.abs(most)))
        )
        middle = (low + high) / 2.0
        half = constant_scale(middle)
        self.low.copy_(torch.from_numpy(np.where(constant, middle - half, low)))
        self.high.copy_(torch.from_numpy(np.where(constant, middle + half, high)))
        self.least.copy_(self.normalized(torch.from_numpy(least).to(self.low)))
        self.most.copy_(self.normalized(torch.from_numpy(most).to(self.low)))
        return tuple(np.flatnonzero(constant & (most > least)).tolist())

    def normalized(self, rows: Tensor, features: slice = slice(None)) -> Tensor:
        """(..., D) in the data's units to about [-1, 1]; `features` if the rows hold only some of the D."""
        low, high = (
            self.low[features] / 2.0,
            self.high[features] / 2.0,
        )  # halves, whose difference does not overflow
        return 2.0 * ((rows / 2.0 - low) / (high - low)) - 1.0

    def denormalized(self, x: Tensor, features: slice = slice(None)) -> Tensor:
        """(..., D) back to the data's units."""
        low, high = self.low[features], self.high[features]
        return low + (x + 1.0) * (high / 2.0 - low / 2.0)
