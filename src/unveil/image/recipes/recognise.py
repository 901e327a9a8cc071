"""Recognise image models of other programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from unveil.image.recipes.convert import convert_images, inspect_images, load_images
from unveil.image.recipes.stable_diffusion import (
    convert_stable_diffusion,
    inspect_stable_diffusion,
    load_stable_diffusion,
)
from unveil.runs.recognised import Reading, Recognised

if TYPE_CHECKING:
    from unveil.image.classifier import ImageClassifier
    from unveil.image.model import ImageModel


def recognise(path: Path) -> Recognised | None:
    """Recognise a folder of diffusers, Stable Diffusion in one file, or a .pt file of OpenAI or lucidrains;
    None for anything else."""
    from unveil.image.weights.releases import is_image
    from unveil.image.weights.stable_diffusion import is_stable_diffusion

    if is_stable_diffusion(path):
        return _stable_diffusion(path)
    if not is_image(path):
        return None

    loader: Callable[..., ImageModel | ImageClassifier] = load_images

    def load(device: str, seed: int, **settings: object) -> ImageModel | ImageClassifier:
        return loader(path, device, **settings)

    def inspect(reading: Reading) -> str:
        return inspect_images(path, reading.size, reading.flags)

    def convert(out: Path, reading: Reading) -> str:
        return convert_images(path, out, reading.raw, reading.size, reading.flags)

    return Recognised(load, inspect, convert)


def _stable_diffusion(path: Path) -> Recognised:
    loader: Callable[..., ImageModel] = load_stable_diffusion

    def load(device: str, seed: int, **settings: object) -> ImageModel:
        return loader(path, device, **settings)

    def inspect(reading: Reading) -> str:
        return inspect_stable_diffusion(path)

    def convert(out: Path, reading: Reading) -> str:
        return convert_stable_diffusion(path, out, reading.raw, reading.layout, reading.dtype)

    return Recognised(load, inspect, convert)
