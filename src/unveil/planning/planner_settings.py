"""How paths are planned and followed."""

from dataclasses import dataclass, field
from typing import Any

from unveil.checks import kind, number, whole
from unveil.planning.pursuit import PursuitGains

LADDER = (
    (1, 1),
    (2, 1),
    (2, 2),
    (3, 2),
    (3, 4),
    (4, 4),
    (4, 8),
    (6, 8),
    (8, 16),
    (12, 32),
)  # (steps, candidates), rising cost


@dataclass(frozen=True)
class PlannerSettings:
    """How plans are made and followed.

    Args:
        candidates: paths that are sampled for one plan, each with its own horizon.
        pace: the horizons lie between these multiples of the data's median travel time. Below 1 it asks for trips faster than the data's:
            the shorter the horizon, the straighter the path, until samples leave the data and are not chosen.
        steps: DDIM steps.
        temperature: factor on the initial noise.
        warm_start: the time t from which a given-up plan is denoised again, instead of 1.
        gains: the executor's.
    """

    candidates: int = 2
    pace: tuple[float, float] = (0.75, 0.9)
    steps: int = 2
    temperature: float = 0.5
    warm_start: float = 0.6
    gains: PursuitGains = field(default_factory=PursuitGains)

    def __post_init__(self) -> None:
        whole("PlannerSettings: candidates", self.candidates)
        whole("PlannerSettings: steps", self.steps)
        number("PlannerSettings: temperature", self.temperature, 0.0)
        if not 0.0 < number("PlannerSettings: warm_start", self.warm_start) <= 1.0:
            raise ValueError(f"PlannerSettings: warm_start must lie in (0, 1], got {self.warm_start}")
        kind("PlannerSettings: gains", self.gains, PursuitGains)
        given: Any = self.pace
        pace: Any = given if isinstance(given, tuple | list) else ()
        if len(pace) != 2 or min(number("PlannerSettings: pace", part) for part in pace) <= 0.0:
            raise ValueError(
                f"PlannerSettings: pace must be two numbers above 0, the shortest and the longest, got {given!s:.60}"
            )
