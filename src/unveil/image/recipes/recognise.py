"""Recognise image models of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unveil.image.recipes.convert import convert_images, inspect_images, load_images
from unveil.runs.recognised import Reading, Recognised

if TYPE_CHECKING:
    from unveil.image.classifier import ImageClassifier
    from unveil.image.model import ImageModel


def recognise(path: Path) -> Recognised | None:
    """Recognise a folder of diffusers or a .pt file of OpenAI or lucidrains; None for anything else."""
    from unveil.image.weights.releases import is_image

    if not is_image(path):
        return None

    def load(device: str, seed: int, **settings: Any) -> ImageModel | ImageClassifier:
        return load_images(path, device, **settings)

    def inspect(reading: Reading) -> str:
        return inspect_images(path, reading.size, reading.flags)

    def convert(out: Path, reading: Reading) -> str:
        return convert_images(path, out, reading.raw, reading.size, reading.flags)

    return Recognised(load, inspect, convert)
