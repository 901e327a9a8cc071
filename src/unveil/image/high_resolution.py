"""The settings of a second pass at a larger size, and their names in A1111's web UI; free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from unveil.checks import Bounds, check_fields

Upscaler = Literal[
    "latent",
    "latent_antialiased",
    "latent_bicubic",
    "latent_bicubic_antialiased",
    "latent_nearest",
    "bicubic",
    "lanczos",
    "nearest",
]
UPSCALERS: dict[Upscaler, str] = {
    "latent": "Latent",
    "latent_antialiased": "Latent (antialiased)",
    "latent_bicubic": "Latent (bicubic)",
    "latent_bicubic_antialiased": "Latent (bicubic antialiased)",
    "latent_nearest": "Latent (nearest)",
    "bicubic": "Bicubic",
    "lanczos": "Lanczos",
    "nearest": "Nearest",
}
"""Names in infotext; "Bicubic" is a name of ours."""


@dataclass(frozen=True)
class HighResolution:
    """A second pass: images of the first are enlarged, noised and denoised again.

    It makes images larger than those of the training, which one pass would fill with repetitions. "Hires.
    fix" of A1111's web UI.

    Raises:
        ValueError: a value of another type or out of range, or settings without effect.
    """

    hires: Annotated[float, Bounds(1, 16)] = 1.0
    """factor by which the images of a first pass are enlarged for a second pass (high-resolution fix), such
    as 2; 1: no second pass"""
    hires_steps: Annotated[int, Bounds(0)] = 0
    """number of steps of the second pass; 0: as many as `steps`"""
    hires_strength: Annotated[float, Bounds(0, 1, above=True)] = 0.7
    """denoising strength of the second pass; larger values change the images more. Its `hires_steps` are the
    last ones of `hires_steps` / strength"""
    hires_upscaler: Upscaler = "latent"
    """what enlarges the images between the passes: interpolation of the codes (latent ..., which needs a
    `hires_strength` above 0.5), or of the pixels"""

    def __post_init__(self) -> None:
        check_fields(self)
        default = type(self)
        for name in ("hires_steps", "hires_strength", "hires_upscaler"):
            if self.hires == 1.0 and getattr(self, name) != getattr(default, name):
                raise ValueError(f"`{name}` applies to the second pass; give `hires`, such as 2")

    def steps_of(self, steps: int) -> tuple[int, int]:
        """The number of steps of the second pass, and of the whole sampling whose last ones they are.

        Args:
            steps: of the first pass.
        """
        second = self.hires_steps or steps
        return second, int(second / min(self.hires_strength, 0.999))
