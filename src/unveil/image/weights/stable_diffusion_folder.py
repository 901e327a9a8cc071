"""Find the components of Stable Diffusion in a folder of diffusers."""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from unveil.errors import UnveilError
from unveil.files.json_objects import JsonObject, read_object
from unveil.files.reading import reading
from unveil.image.networks.clip import ClipTextShape
from unveil.image.networks.unet2d import UNet2dShape
from unveil.image.weights import stable_diffusion_autoencoder as autoencoders
from unveil.image.weights import stable_diffusion_unet as unets
from unveil.image.weights.clip import PREFIX
from unveil.image.weights.diffusers_config import PREDICTS
from unveil.image.weights.diffusers_config import betas_of as betas_of_scheduler
from unveil.image.weights.stable_diffusion_description import (
    FoundAutoencoder,
    FoundStableDiffusion,
    StableDiffusion,
    TextSource,
    betas_of,
    check_parts,
    use_of,
)
from unveil.image.weights.stable_diffusion_files import named, sources, weights_in
from unveil.image.weights.text_encoders import read_text_shape

STEM, CONFIG, SCHEDULER = "diffusion_pytorch_model", "config.json", "scheduler_config.json"
READ = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
RAW = "non_ema"


def class_of(folder: Path) -> str:
    """The class that a folder's config.json names, or ""."""
    try:
        return str(read_object(folder / CONFIG).get("_class_name", "")) if (folder / CONFIG).is_file() else ""
    except UnveilError:
        return ""


def find_folder(folder: Path, variant: str | None, averaged: bool) -> FoundStableDiffusion:
    """The model in a pipeline's folder.

    Args:
        variant: "fp16" ...; see `weights_in`.
        averaged: False: the weights of the U-Net before averaging, which some folders have as `non_ema`.
    Raises:
        UnveilError: a component or a shard is missing, a file is damaged, components of different models, or
            a variant that our networks do not have.
    """
    unet_folder, index = folder / "unet", folder / "model_index.json"
    for name in READ[:3]:
        if not (folder / name / CONFIG).is_file():
            raise UnveilError(
                f"{folder}: a pipeline of diffusers without {name}/{CONFIG}; copy this folder, too"
            )
    configs = {name: read_object(folder / name / CONFIG) for name in READ[:2]}
    raw = bool(list(unet_folder.glob(f"{STEM}.{RAW}.*")))
    stored = weights_in(unet_folder, STEM, variant if averaged or not raw else RAW)
    autoencoder = find_autoencoder_folder(folder / "vae", variant)
    text = named(weights_in(folder / "text_encoder", "model", variant), text_name)
    scheduler = read_object(folder / "scheduler" / SCHEDULER) if (folder / "scheduler").is_dir() else {}
    text_shape = read_text_shape(folder / "text_encoder" / CONFIG)
    with reading(folder, "a model of diffusers that cannot be used"):
        if not isinstance(text_shape, ClipTextShape):
            raise ValueError("its text encoder is not CLIP")
        if (kind := class_of(unet_folder)) != unets.CLASS:
            raise ValueError(f"its U-Net is a {kind[:40]}; {unets.CLASS} can be read")
        unet = unets.shape_of_config(configs["unet"])
        check_parts(unet, autoencoder.shape, text_shape)
        found = sources("unet", named(stored, str), unets.diffusers_names(unet), unets.parameters(unet))
        described = _described(unet, autoencoder, text_shape, scheduler, configs["unet"])
    components = read_object(index) if index.is_file() else {}
    left_out = [name for name, kind in components.items() if isinstance(kind, list) and name not in READ]
    kept = [name for name in left_out if any(cast(list[object], components[name]))]
    weights = "averaged (EMA) and raw" if raw else "one set"
    if raw:
        weights += f"; the {'averaged' if averaged else 'raw'} ones are read"
    tokenizer = folder / "tokenizer" if (folder / "tokenizer").is_dir() else None
    return FoundStableDiffusion(
        folder,
        "folder of diffusers",
        described,
        found,
        autoencoder.autoencoder,
        TextSource(text, open_clip=False),
        weights,
        tokenizer,
        scheduler,
        tuple(kept),
    )


def find_autoencoder_folder(folder: Path, variant: str | None) -> FoundAutoencoder:
    """The `AutoencoderKL` in a folder.

    Raises:
        UnveilError: as `find_folder`.
    """
    config, stored = read_object(folder / CONFIG), weights_in(folder, STEM, variant)
    with reading(folder, "an autoencoder that cannot be used"):
        if (kind := class_of(folder)) != autoencoders.CLASS:
            raise ValueError(f"it is a {kind[:40]}; {autoencoders.CLASS} can be read")
        shape, scale = autoencoders.shape_of_config(config)
        names = autoencoders.diffusers_names(shape)
        found = sources("vae", named(stored, autoencoder_name), names, autoencoders.parameters(shape))
    return FoundAutoencoder(folder, "folder of diffusers", shape, scale, found)


def autoencoder_name(name: str) -> str:
    """Today's name of a tensor of diffusers' autoencoder."""
    for old, new in autoencoders.OLDER.items():
        name = name.replace(old, new)
    return name


def text_name(name: str) -> str | None:
    """The name of a tensor of CLIP without `text_model.`; None: it is no parameter."""
    return None if name.endswith("position_ids") else name.removeprefix(PREFIX)


def _described(
    unet: UNet2dShape,
    autoencoder: FoundAutoencoder,
    text: ClipTextShape,
    scheduler: JsonObject,
    config: Mapping[str, object],
) -> StableDiffusion:
    version, use = 1 + unet.linear_projection, use_of(unet)
    stated = str(scheduler.get("prediction_type", "epsilon"))
    if stated not in PREDICTS:
        raise ValueError(f"its scheduler says prediction_type {stated[:40]}; {', '.join(PREDICTS)} are known")
    reason = f"prediction_type {stated} of its scheduler" if scheduler else "no scheduler in the folder"
    side = config.get("sample_size")
    size = (side if isinstance(side, int) else 64) * autoencoder.shape.factor
    betas = betas_of_scheduler(scheduler) if scheduler else betas_of(use)
    return StableDiffusion(
        version, use, unet, autoencoder.shape, text, PREDICTS[stated], reason, betas, autoencoder.scale, size
    )
