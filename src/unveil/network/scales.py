"""When numbers count as constant, and what they are divided by then."""

import numpy as np
from jaxtyping import Bool, Float

NEARLY = 1e-4  # of a number's size, and in its own units: real-stanford/diffusion_policy's smallest range (`range_eps`)
RESOLVED = 2.0**-20  # of a number's size: eight steps of float32, below which a range is rounding


def is_constant(width: Float[np.ndarray, " D"], size: Float[np.ndarray, " D"]) -> Bool[np.ndarray, " D"]:
    """Whether numbers of that range (or twice their deviation) and that largest absolute value count as constant.

    They do where the range is less than 1e-4 and less than 1e-4 of their size: a gripper at 0.08 m with 5e-6 m of noise; or less than 2^-20
    of their size, which float32 does not resolve. Small units alone are no reason: numbers of 1e-9 that reach from 0 to 1e-9 vary.
    """
    width, size = np.asarray(width, np.float64), np.asarray(size, np.float64)
    return ((width < NEARLY) & (width < NEARLY * size)) | (width <= RESOLVED * size)


def constant_scale(middle: Float[np.ndarray, " D"]) -> Float[np.ndarray, " D"]:
    """What a constant is divided by: 1, or for constants beyond 1024 the power of two next above 2^-10 of them, which float32 resolves."""
    size = np.maximum(np.abs(np.asarray(middle, np.float64)) * 2.0**-10, 1.0)
    return np.exp2(np.ceil(np.log2(size)))
