"""The settings of a cascade: which upsamplers enlarge the images of a model, and how; free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from unveil.checks import Bounds, check_fields


@dataclass(frozen=True)
class Cascade:
    """Upsamplers that enlarge the images in turn. Ho et al. 2022, "Cascaded diffusion models".

    Raises:
        ValueError: a value of another type or out of range, by name, or settings without effect.
    """

    upsampler: tuple[str, ...] = ()
    """upsamplers that enlarge the images in turn (a cascade), each a run folder, checkpoint folder or name of
    a packaged model that was trained with `upsample`; they get the classes and prompts that they know, and
    noise of `noise_level` if they were trained with `concat=lowres`"""
    upsampler_steps: Annotated[int, Bounds(1)] = 20
    """number of steps of each upsampler"""
    upsampler_scale: Annotated[float, Bounds(0, below=True)] = 1.0
    """scale of classifier-free guidance of each upsampler, which needs less than the first model; 1 disables
    it"""

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.upsampler:
            for name in ("upsampler_steps", "upsampler_scale"):
                if getattr(self, name) != getattr(Cascade, name):
                    raise ValueError(f"`{name}` is for a cascade; give `upsampler`")
