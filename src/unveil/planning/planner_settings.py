"""Settings of the planner of paths and of the controller that follows its plans. Free of torch and numpy."""

from dataclasses import dataclass, field
from typing import Annotated

from unveil.checks import Bounds, check_fields, kind

LADDER = ((1, 1), (2, 1), (2, 2), (3, 2), (3, 4), (4, 4), (4, 8), (6, 8), (8, 16), (12, 32))
"""(steps, candidates) in the order of their cost: what a budget of wall time chooses from."""

Positive = Annotated[float, Bounds(0, above=True, below=True)]
AtLeast0 = Annotated[float, Bounds(0, below=True)]


@dataclass(frozen=True)
class PursuitGains:
    """Gains and limits of pure pursuit, which follows a plan while acting.

    The force is gain * (target - position) - damping * velocity.

    Raises:
        ValueError: a value of another type or out of range, by name.
    """

    gain: AtLeast0 = 12.5
    """gain of pure pursuit, per cell of distance between the target point and the body"""
    damping: AtLeast0 = 1.2
    """damping of pure pursuit, per cell/s of velocity"""
    look_ahead: AtLeast0 = 0.95
    """distance in cells, along the path, from its nearest point to the target point"""
    hold_gain: AtLeast0 = 10.0
    """gain within `hold_radius` of the goal"""
    hold_damping: AtLeast0 = 1.0
    """damping within `hold_radius` of the goal"""
    hold_radius: AtLeast0 = 0.5
    """distance in cells from the goal within which the body is held at the goal"""
    stray: AtLeast0 = 0.6
    """distance in cells from the path beyond which the plan is given up"""
    patience: Annotated[int, Bounds(1)] = 30
    """environment steps without progress after which the plan is given up"""
    touch: AtLeast0 = 0.2
    """distance in cells within which a waypoint counts as passed"""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class PlannerSettings:
    """How paths are planned and followed.

    Raises:
        ValueError: a value of another type or out of range, by name.
    """

    candidates: Annotated[int, Bounds(1)] = 2
    """number of paths sampled per plan, each with its own horizon; the fastest that stays near the data is
    chosen"""
    pace: tuple[Positive, Positive] = (0.75, 0.9)
    """shortest and longest horizon, as multiples of the data's median travel time; below 1 plans are faster
    and straighter than the data, until samples leave the data and are no longer chosen"""
    steps: Annotated[int, Bounds(1)] = 2
    """denoising steps per plan (DDIM)"""
    temperature: AtLeast0 = 0.5
    """factor on the initial noise; smaller values give more typical and less varied paths"""
    warm_start: Annotated[float, Bounds(0, 1, above=True)] = 0.6
    """diffusion time from which a plan that was given up is denoised again; 1 starts from pure noise; only
    while acting, not for a single plan"""
    gains: PursuitGains = field(default_factory=PursuitGains)

    def __post_init__(self) -> None:
        kind("`gains`", self.gains, PursuitGains)
        check_fields(self)
