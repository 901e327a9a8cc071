"""How plans of block stacking are sampled. Free of torch."""

from dataclasses import dataclass
from typing import Annotated

from unveil.checks import Bounds, check_fields


@dataclass(frozen=True)
class StackingSettings:
    """How plans are sampled and chosen.

    Raises:
        ValueError: a value of another type or out of range, by name.
    """

    candidates: Annotated[int, Bounds(1)] = 8
    """number of plans that are sampled, of which the best is taken"""
    sampling_steps: Annotated[int, Bounds(1)] = 10
    """number of solver steps per plan"""
    scale: Annotated[float, Bounds(0, below=True)] = 1.0
    """scale of classifier-free guidance towards the goal; 1: none, 0: the goal is not told"""
    horizon: Annotated[int, Bounds(0)] = 0
    """rows of a plan; 0: those of the training"""

    def __post_init__(self) -> None:
        check_fields(self)
