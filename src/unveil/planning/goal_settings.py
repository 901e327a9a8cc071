"""Settings of the planner of goals. Free of torch and numpy."""

from dataclasses import dataclass
from typing import Annotated, Literal

from unveil.checks import Bounds, check_fields

Count = Annotated[int, Bounds(1)]


@dataclass(frozen=True)
class GoalSettings:
    """How plans to a goal are sampled and followed.

    Raises:
        ValueError: a value of another type or out of range, by name.
    """

    steps: Count = 5
    """denoising steps per plan (DDIM)"""
    temperature: Annotated[float, Bounds(0, below=True)] = 0.5
    """factor on the initial noise; smaller values give more typical and less varied plans"""
    act_steps: Count = 1
    """actions of a plan that are done before the next plan"""
    pace: Literal["hurried", "brisk", "usual"] = "brisk"
    """length of a plan, as a quantile of the number of steps that the data need to the goal: hurried is 0.1,
    brisk 0.25, usual 0.5"""
    shortest: Count = 4
    """environment steps of the shortest plan; plans have multiples of it as length"""
    clip: bool = True
    """clamp the denoiser's estimates to the smallest and largest values in the data"""
    rows: Count = 1024
    """largest batch of the network, in plans; lower it where memory is short"""

    def __post_init__(self) -> None:
        check_fields(self)
