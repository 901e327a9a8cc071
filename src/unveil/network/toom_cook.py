"""Toom-Cook convolution with 5 taps: 8 instead of 20 products for 4 outputs.

For images the method is known as Winograd convolution. Let E_n be the matrix of 1, p, p^2, ... p^(n-1) at
seven points p and at infinity. The product of the polynomials with 4 coefficients a and 5 coefficients w is
E_8^-1 (E_4 a * E_5 w). This map is linear in a, and its transpose is the convolution

    y = E_4' (E_5 w * E_8^-T d),    d the 8 inputs that determine 4 outputs.

Its rounding error is about ten times that of the direct sum. Winograd 1980, chapter 5; Lavin & Gray 2016.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

TAPS, OUTPUTS, PRODUCTS = 5, 4, 8
POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)  # and infinity


@dataclass(frozen=True, eq=False)
class ToomCook:
    """A convolution from (B, H, C) to (B, H, O) with zero padding at both ends; H is a multiple of 4.

    Args:
        weight: (8, C, O), the taps evaluated at the points, E_5 w.
        back_weight: (8, O, C), the same for the gradient.
        spread: (8, 8), E_8^-T; its 4 middle columns (8, 4) if H = 4, since the other inputs are zeros.
        gather: (4, 8), E_4'.
        outputs: H.
    """

    weight: Tensor
    back_weight: Tensor
    bias: Tensor
    spread: Tensor
    gather: Tensor
    outputs: int

    def __call__(self, x: Tensor) -> Tensor:
        return self._convolved(x, self.weight, self.bias)

    def back(self, g: Tensor) -> Tensor:
        """The gradient with respect to the input, from that with respect to the output."""
        return self._convolved(g, self.back_weight, None)

    def _convolved(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.outputs > OUTPUTS:
            x = (
                F.pad(x, (0, 0, TAPS // 2, TAPS // 2))
                .unfold(1, PRODUCTS, OUTPUTS)
                .transpose(2, 3)
                .reshape(-1, PRODUCTS, x.shape[2])
            )
        products = torch.bmm(torch.matmul(self.spread, x).transpose(0, 1), weight).transpose(0, 1)
        gather = self.gather.expand(len(products), -1, -1)
        y = torch.bmm(gather, products) if bias is None else torch.baddbmm(bias, gather, products)
        return y.reshape(-1, self.outputs, weight.shape[2])


def toom_cook(weight: Tensor, bias: Tensor, places: int) -> ToomCook:
    """Lay out a convolution of weight (O, C, 5), bias (O,) and padding 2; `places` is H, a multiple of 4."""
    everywhere, taps, outputs = evaluated(PRODUCTS), evaluated(TAPS), evaluated(OUTPUTS)
    spread = torch.linalg.inv(everywhere).T
    if places == OUTPUTS:
        spread = spread[:, TAPS // 2 : TAPS // 2 + OUTPUTS]
    forward = torch.einsum("pk,ock->pco", taps, weight.cpu().double())
    backward = torch.einsum("pk,ock->poc", taps, weight.cpu().double().flip(2))
    forward, backward, spread, gather = (
        w.to(weight.device, weight.dtype).contiguous() for w in (forward, backward, spread, outputs.T)
    )
    return ToomCook(forward, backward, bias, spread, gather, places)


def evaluated(count: int) -> Tensor:
    """E_count (8, count), float64: powers 0 .. count - 1 of the points; at infinity, the highest alone."""
    points = torch.tensor(POINTS, dtype=torch.float64, device="cpu")
    powers = points[:, None] ** torch.arange(count, device="cpu")
    return torch.cat([powers, torch.eye(count, dtype=torch.float64, device="cpu")[-1:]])
