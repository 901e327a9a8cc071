"""What an application offers to `unveil export`: a module to record, its inputs, and the library's result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from unveil.checks import Bounds, check_fields

if TYPE_CHECKING:
    from torch import Tensor, nn

    Inputs = Mapping[str, Tensor]


@dataclass(frozen=True)
class Sampling:
    """How an exported policy or planner samples.

    Raises:
        ValueError: a value of another type or out of range, by name.
    """

    solver: Literal["ddim", "euler", "ddpm", "dpmpp", "heun", "consistency"] | None = None
    """sampler of a policy; by default the policy's own"""
    steps: Annotated[int, Bounds(1)] | None = None
    """denoising steps of a policy or a planner, all of which are written into the graph; by default those
    that `unveil.load` gives it"""

    def __post_init__(self) -> None:
        check_fields(self)


class Exportable(NamedTuple):
    """A module that can be recorded as a graph.

    Args:
        module: (inputs in their order) -> a tensor for each name of `outputs`.
        draw: batch size -> inputs by name, from a generator of a fixed seed.
        outputs: names of the results.
        axes: input -> axis -> name of a dynamic size, or (factor, name): a multiple of a dynamic size.
        library: inputs -> what the library computes from them, one tensor per output.
        described: what the file says about itself: inputs, outputs and settings.
        notes: sentences about what is not in the graph.
    """

    module: nn.Module
    draw: Callable[[int], dict[str, Tensor]]
    outputs: tuple[str, ...]
    axes: Mapping[str, Mapping[int, str | tuple[int, str]]]
    library: Callable[[Inputs], tuple[Tensor, ...]]
    described: Mapping[str, Any]
    notes: tuple[str, ...] = ()
