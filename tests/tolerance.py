"""How far a float32 result may be from a golden one that another program, or another processor, computed."""

import numpy as np
import torch
from torch import Tensor

ROUNDING = 2.0**-24  # half the distance of float32 numbers around 1: what one rounding may be off, relative


def golden_close(got: Tensor | np.ndarray, wanted: Tensor | np.ndarray, roundings: int = 256) -> None:
    """|got - wanted| <= roundings * 2^-24 * max |wanted|.

    Relative to the largest number compared, since sums cancel: a small entry is a difference of large ones.
    Other kernels sum in another order, which is at most one rounding more for each addition on the way: 256
    is far above what a network of some twenty layers shows (about 30 measured) and far below any mistake (a
    flipped sign or a wrong step is off by 10^-2 and more).
    """
    got, wanted = torch.as_tensor(got).detach().double(), torch.as_tensor(wanted).double()
    assert got.shape == wanted.shape, (got.shape, wanted.shape)
    far, size = float((got - wanted).abs().max()), float(wanted.abs().max())
    assert far <= roundings * ROUNDING * size, (
        f"{far / (ROUNDING * size):.0f} roundings of float32 away at size {size:.3g}, allowed {roundings}"
    )
