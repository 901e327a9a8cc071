"""Write the images of `unveil sample image`, and say how they were sampled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from unveil.image.recipes.config import EvalImage, SampleImage
    from unveil.image.recipes.watching import Watched

ANIMATED = 64  # images of an animation


def write_images(
    config: SampleImage,
    pixels: np.ndarray,
    columns: int,
    text: str,
    infotexts: Sequence[str],
    watched: Watched | None,
) -> None:
    """Replace the images of an earlier run by these; `text` goes into each, and its infotext."""
    from unveil.files.pictures import write_animation, write_picture
    from unveil.image.evaluation.pages import grid
    from unveil.image.recipes.reproduce import clear
    from unveil.image.recipes.watching import at_least

    clear(config.out)
    write_picture(config.out / "grid.png", grid(pixels, columns if columns > 1 else 0), text)
    for k, image in enumerate(pixels):
        write_picture(config.out / f"{k:04d}.png", image.transpose(1, 2, 0), text, infotexts[k])
    if watched is not None:
        shown = [at_least(frame, *pixels.shape[2:]) for frame in watched.frames()]
        frames = [grid(frame, least=64) for frame in (*shown, pixels[:ANIMATED])]
        write_animation(config.out / "denoising.gif", frames)


def protocol(config: SampleImage | EvalImage) -> str:
    """How images are sampled, in words."""
    from unveil.image.recipes.config import SampleImage

    settings = config.settings
    parts = [settings.solver, settings.respacing or f"{settings.steps} steps", f"scale {settings.scale}"]
    if config.classifier:
        parts.append(f"classifier scale {settings.classifier_scale} on the {settings.classifier_form}")
    if isinstance(config, SampleImage) and config.clip_model:
        parts.append(f"CLIP scale {settings.clip_scale} on the {settings.classifier_form}")
    if isinstance(config, SampleImage) and config.restore:
        parts.append(f"restore {config.restore}, noise {config.noise}")
    return ", ".join(parts)
