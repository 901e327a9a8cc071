"""The rule by which a feature counts as constant, and the scale by which it is then divided."""

import numpy as np
from jaxtyping import Bool, Float

# relative and absolute range below which a feature is constant: `range_eps` of real-stanford/diffusion_policy
NEARLY = 1e-4
RESOLVED = 2.0**-20  # relative range below which a difference is rounding: eight steps of float32


def is_constant(width: Float[np.ndarray, " D"], size: Float[np.ndarray, " D"]) -> Bool[np.ndarray, " D"]:
    """Whether features count as constant.

    They do if their range is below 1e-4 and below 1e-4 of their size (a gripper at 0.08 m with 5e-6 m of
    noise), or at most 2^-20 of their size, which float32 does not resolve. Numbers from 0 to 1e-9 do vary.

    Args:
        width: range of each feature, or twice its standard deviation.
        size: largest absolute value of each feature.
    """
    width, size = np.asarray(width, np.float64), np.asarray(size, np.float64)
    return ((width < NEARLY) & (width < NEARLY * size)) | (width <= RESOLVED * size)


def constant_scale(middle: Float[np.ndarray, " D"]) -> Float[np.ndarray, " D"]:
    """The divisor of constant features with the value `middle`.

    It is 1; above 1024 it is the next power of two above 2^-10 of the value, which float32 resolves.
    """
    size = np.maximum(np.abs(np.asarray(middle, np.float64)) * 2.0**-10, 1.0)
    return np.exp2(np.ceil(np.log2(size)))
