"""torch.compile where it is faster, measured once for each input shape."""

from collections.abc import Callable
from time import perf_counter

import torch
from torch import Tensor


class Measured:
    """Run a function as it is or compiled, whichever is faster for the input's shapes.

    A compilation takes seconds to minutes. Without a compiler, or if compilation fails, the plain function is
    used. Torch keeps at most 8 compilations of one function.
    """

    def __init__(self, run: Callable[..., object], repeats: int = 5) -> None:
        self.run, self.repeats = run, repeats
        self.chosen: dict[object, Callable[..., object]] = {}

    def __call__(self, *inputs: Tensor) -> object:
        key = torch.is_grad_enabled(), *((x.shape, x.dtype, x.device) for x in inputs)
        if key not in self.chosen:
            self.chosen[key] = faster(self.run, inputs, self.repeats)
        return self.chosen[key](*inputs)


def faster(run: Callable[..., object], inputs: tuple[Tensor, ...], repeats: int = 5) -> Callable[..., object]:
    """`run` or its compilation for exactly these shapes, by the shortest of `repeats` alternating calls."""
    compiled = torch.compile(run, dynamic=False)
    try:
        compiled(*inputs)
    except Exception:  # no C++ compiler, or an unsupported operation: use the plain function
        return run
    best = {run: float("inf"), compiled: float("inf")}
    for _ in range(repeats):
        for each in best:
            began = perf_counter()
            each(*inputs)
            best[each] = min(best[each], perf_counter() - began)
    return min(best, key=lambda each: best[each])
