"""A convolution of 5 taps with 8 products for 4 places instead of 20: Toom and Cook's, known for images as Winograd's.

With E_n the matrix of 1, p, p^2, ... p^(n-1) at seven points p and at infinity, 4 numbers a and 5 taps w have as their product of
polynomials E_8^-1 (E_4 a * E_5 w); the transpose of that map, which is linear in a, is the convolution

    y = E_4' (E_5 w * E_8^-T d),    d the 8 inputs that 4 outputs see.

Exact but for rounding: about ten times that of the plain sum. Winograd 1980, chapter 5; Lavin & Gray 2016.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

TAPS, OUTPUTS, PRODUCTS = 5, 4, 8
POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)  # and infinity


@dataclass(frozen=True, eq=False)
class ToomCook:
    """(B, places, C) to (B, places, O), with zeros beyond both ends; 4 divides the number of places.

    Args:
        weight: (8, C, O), the taps at the points.
        back_weight: (8, O, C), those of the gradient.
        spread: (8, 8), or (8, 4) if there are 4 places: the other inputs are zeros.
        gather: (4, 8).
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
        """The gradient to the input, given that to the output."""
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
    """From the weight (O, C, 5) and the bias (O,) of a convolution with padding 2, for a number of places that 4 divides."""
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
    """(8, count), float64: the powers below `count` of the seven points, and the highest of them at infinity."""
    points = torch.tensor(POINTS, dtype=torch.float64, device="cpu")
    powers = points[:, None] ** torch.arange(count, device="cpu")
    return torch.cat([powers, torch.eye(count, dtype=torch.float64, device="cpu")[-1:]])
