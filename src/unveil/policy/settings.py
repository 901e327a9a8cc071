"""Settings of acting, for command line, Python and PNG text alike. Imports no torch."""

from dataclasses import dataclass
from typing import Annotated, Literal

from unveil.checks import Bounds, check_fields

Delayed = Literal["wait", "naive", "prefix", "soft", "hard"]
"""What a policy does while its next chunk is computed; see `realtime.py`."""


@dataclass(frozen=True)
class PolicySettings:
    """Settings of the sampling and execution of chunks.

    Raises:
        ValueError: a value of another type or out of range, by name.
    """

    solver: Literal["ddim", "euler", "ddpm", "dpmpp", "heun", "consistency"] | None = None
    """sampler; by default ddim (for flow matching this is Euler's method), for distilled students
    consistency"""
    sampling_steps: Annotated[int, Bounds(1)] | None = None
    """denoising steps per decision; by default 10, for distilled students 2"""
    n_action: Annotated[int, Bounds(1)] | None = None
    """actions to execute per chunk; by default as trained, or fewer if a chunk holds no more after a delay"""
    temperature: Annotated[float, Bounds(0, below=True)] = 1.0
    """factor on the initial noise; smaller values give more typical and less varied actions"""

    def __post_init__(self) -> None:
        check_fields(self)
