"""Recognise image models of other programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from unveil.image.recipes.convert import convert_images, inspect_images, load_images
from unveil.image.recipes.glide import convert_glide, inspect_glide, load_glide
from unveil.image.recipes.glide_clip import convert_glide_clip, inspect_glide_clip, load_glide_clip
from unveil.image.recipes.karlo import inspect_karlo, load_karlo, refuse_conversion
from unveil.image.recipes.stable_diffusion import (
    convert_stable_diffusion,
    inspect_stable_diffusion,
    load_stable_diffusion,
)
from unveil.runs.recognised import Reading, Recognised

if TYPE_CHECKING:
    from unveil.image.classifier import ImageClassifier
    from unveil.image.clip_model import ClipModel
    from unveil.image.model import ImageModel
    from unveil.image.unclip.unclip import Unclip


def recognise(path: Path) -> Recognised | None:
    """Recognise a folder of diffusers, Stable Diffusion in one file, unCLIP, GLIDE, or a .pt file of OpenAI
    or lucidrains; None for anything else."""
    from unveil.image.weights.glide import is_glide, stored_in
    from unveil.image.weights.glide_clip import tower_of
    from unveil.image.weights.karlo import is_karlo
    from unveil.image.weights.releases import is_image
    from unveil.image.weights.stable_diffusion import is_stable_diffusion

    if is_stable_diffusion(path):
        return _stable_diffusion(path)
    if is_karlo(path):
        return _karlo(path)
    stored = stored_in(path)
    if is_glide(stored):
        return _glide(path)
    if tower_of(stored) is not None:
        return _glide_clip(path)
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


def _glide(path: Path) -> Recognised:
    loader: Callable[..., ImageModel] = load_glide

    def load(device: str, seed: int, **settings: object) -> ImageModel:
        return loader(path, device, **settings)

    def inspect(reading: Reading) -> str:
        return inspect_glide(path, reading.size)

    def convert(out: Path, reading: Reading) -> str:
        return convert_glide(path, out, reading.tokenizer, reading.size)

    return Recognised(load, inspect, convert)


def _glide_clip(path: Path) -> Recognised:
    loader: Callable[..., ClipModel] = load_glide_clip

    def load(device: str, seed: int, **settings: object) -> ClipModel:
        return loader(path, device, **settings)

    def inspect(reading: Reading) -> str:
        return inspect_glide_clip(path)

    def convert(out: Path, reading: Reading) -> str:
        return convert_glide_clip(path, out, reading.tokenizer)

    return Recognised(load, inspect, convert)


def _karlo(path: Path) -> Recognised:
    loader: Callable[..., Unclip] = load_karlo

    def load(device: str, seed: int, **settings: object) -> Unclip:
        return loader(path, device, **settings)

    def inspect(reading: Reading) -> str:
        return inspect_karlo(path)

    def convert(out: Path, reading: Reading) -> str:
        return refuse_conversion(path)

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
