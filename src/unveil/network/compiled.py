"""torch.compile where it pays: measured once on each real shape."""

from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch
from torch import Tensor


class Measured:
    """The function, or torch.compile's of it, whichever is faster on the shape at hand; a compilation takes from seconds to minutes.

    Without a compiler, or where one fails, it is the function. Torch keeps 8 compilations of one piece of code.
    """

    def __init__(self, run: Callable[..., Any], repeats: int = 5) -> None:
        self.run, self.repeats = run, repeats
        self.chosen: dict[object, Callable[..., Any]] = {}

    def __call__(self, *inputs: Tensor) -> Any:
        key = torch.is_grad_enabled(), *((x.shape, x.dtype, x.device) for x in inputs)
        if key not in self.chosen:
            self.chosen[key] = faster(self.run, inputs, self.repeats)
        return self.chosen[key](*inputs)


def faster(run: Callable[..., Any], inputs: tuple[Tensor, ...], repeats: int = 5) -> Callable[..., Any]:
    """`run` or its compilation for exactly these shapes, by the shortest of `repeats` alternating calls."""
    compiled = torch.compile(run, dynamic=False)
    try:
        compiled(*inputs)
    except Exception:  # no C++ compiler, an operation that it cannot: the plain function serves
        return run
    best = {run: float("inf"), compiled: float("inf")}
    for _ in range(repeats):
        for each in best:
            began = perf_counter()
            each(*inputs)
            best[each] = min(best[each], perf_counter() - began)
    return min(best, key=lambda each: best[each])
