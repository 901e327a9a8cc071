"""The settings of sampled images as other programs read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unveil.image.recipes.config import SampleImage
    from unveil.image.settings import ImageSettings


def infotexts(
    config: SampleImage,
    settings: ImageSettings,
    prompts: Sequence[str] | None,
    count: int,
    sides: tuple[int, int],
) -> list[str]:
    """The infotext of each of `count` images; "" without prompts.

    Args:
        sides: height and width of the images, of the first pass if there are two.
    """
    from unveil.image.high_resolution import UPSCALERS
    from unveil.image.prompts.infotext import infotext
    from unveil.image.sampler_names import sampler_and_schedule

    if prompts is None:
        return [""] * count
    sampler, schedule = sampler_and_schedule(settings.solver, settings.grid)
    negative = settings.negative if isinstance(settings.negative, str) else ""
    said: dict[str, object] = {
        "Steps": settings.steps,
        "Sampler": sampler,
        "Schedule type": schedule,
        "CFG scale": settings.scale,
        "Size": f"{sides[1]}x{sides[0]}",
        "Model": config.checkpoint,
        "Version": "unveil",
    }
    if config.task == "img2img":
        said["Denoising strength"] = settings.strength
    high = config.high
    if high.hires > 1.0:
        said |= {"Denoising strength": high.hires_strength, "Hires upscale": f"{high.hires:g}"}
        said |= {"Hires steps": high.hires_steps} if high.hires_steps else {}
        said["Hires upscaler"] = UPSCALERS[high.hires_upscaler]
    if config.variation:
        said["Variation seed strength"] = config.variation
    written = [config.prompt[k % len(config.prompt)] for k in range(count)]  # with the tags of LoRA
    varied = bool(config.variation)
    return [
        infotext(
            text,
            negative,
            said
            | {"Seed": config.job.seed + (0 if varied else k)}
            | ({"Variation seed": config.variation_seed + k} if varied else {}),
        )
        for k, text in enumerate(written)
    ]
