"""Normalisation of features by limits, or by mean and standard deviation; stored with the weights."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from unveil.network.scales import constant_scale, is_constant


class Normalization(nn.Module):
    """x = 2 (row - low) / (high - low) - 1, which maps `low` to -1 and `high` to 1.

    If low and high are the limits of the data, this is Diffuser's `LimitsNormalizer`; if they are the mean
    minus and plus one standard deviation, its `GaussianNormalizer`. A nearly constant feature
    (`scales.is_constant`) is divided by 1, or by more if its value is huge, so that it becomes about 0.
    `least` and `most` are the limits of the normalised data, for clipping; infinite before `learn`.
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
        """Whether `least` and `most` are known; checkpoints of jannerm/diffuser do not contain them."""
        return bool(torch.isfinite(self.least).all())

    def learn(
        self, rows: Float[np.ndarray, "N D"], kind: Literal["limits", "gaussian"], published: bool = False
    ) -> tuple[int, ...]:
        """Compute `low`, `high`, `least` and `most` from data; all statistics are computed in float64.

        Args:
            rows: data in their own units.
            kind: "limits": smallest and largest value; "gaussian": mean -+ one standard deviation.
            published: as in released normalisers, features are constant if their range is below 1e-6.
        Returns:
            The features that vary, but so little that they count as constant.
        Raises:
            ValueError: there are no rows, or a number is not finite.
        """
        if not len(rows):
            raise ValueError("normalization: there must be at least one row of data, got none")
        least, most = rows.min(0).astype(np.float64), rows.max(0).astype(np.float64)
        if not np.isfinite(least + most).all():
            raise ValueError(
                f"normalization: feature {np.flatnonzero(~np.isfinite(least + most))[0]} "
                "holds numbers that are not finite"
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
        """Normalise (..., D) to about [-1, 1]; `features` are those in the rows if they are not all D."""
        # halves, so that their difference does not overflow
        low, high = self.low[features] / 2.0, self.high[features] / 2.0
        return 2.0 * ((rows / 2.0 - low) / (high - low)) - 1.0

    def denormalized(self, x: Tensor, features: slice = slice(None)) -> Tensor:
        """Map normalised (..., D) back to the data's units."""
        low, high = self.low[features], self.high[features]
        return low + (x + 1.0) * (high / 2.0 - low / 2.0)
