"""Find the components of Stable Diffusion in one file with CompVis' names, and autoencoders alone."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch

from unveil.files.reading import reading
from unveil.files.shards import Stored
from unveil.image.latents.latent import STABLE_DIFFUSION
from unveil.image.networks.clip import ClipTextShape
from unveil.image.weights import stable_diffusion_autoencoder as autoencoders
from unveil.image.weights import stable_diffusion_unet as unets
from unveil.image.weights.clip import clip_shape_of, from_open_clip
from unveil.image.weights.stable_diffusion_description import (
    FoundAutoencoder,
    FoundStableDiffusion,
    Predicts,
    StableDiffusion,
    TextSource,
    Use,
    betas_of,
    check_parts,
    predicted,
    use_of,
)
from unveil.image.weights.stable_diffusion_files import (
    FileContents,
    Named,
    blank,
    named,
    read_stored,
    sources,
)
from unveil.image.weights.stable_diffusion_folder import autoencoder_name, text_name

UNET, AUTOENCODER, EMA = "model.diffusion_model.", "first_stage_model.", "model_ema."
CLIP, OPEN_CLIP = "cond_stage_model.transformer.", "cond_stage_model.model."
MARK = f"{UNET}input_blocks.0.0.weight"
SDXL = "conditioner.embedders."
UPSCALER_SCALE = 0.08333
LARGEST_YAML = 65_536


def is_single(stored: Mapping[str, Stored]) -> bool:
    """Whether a file holds a whole model under CompVis' names."""
    return MARK in stored


def find_single(
    file: Path, it: FileContents, averaged: bool, predicts: Predicts | None
) -> FoundStableDiffusion:
    """The model in a file.

    Args:
        it: what the file holds.
        averaged: where the file has averaged weights beside the raw ones, take these.
        predicts: what its U-Net predicts, which no tensor says; None: see `predicted`.
    Raises:
        UnveilError: a component is missing, components of different models, or a variant that our networks do
            not have.
    """
    stored = it.stored
    with reading(file, "a model in one file that cannot be used"):
        if any(name.startswith(SDXL) for name in stored):
            raise ValueError("it is Stable Diffusion XL; versions 1 and 2 can be read")
        has_average = any(name.startswith(f"{EMA}diffusion_model") for name in stored)
        plain = named(stored, lambda name: _after(UNET, name))
        unet = unets.shape_of_tensors(blank(plain))
        names = unets.compvis_names(unet)
        if has_average and averaged:
            averages = {f"{EMA}{f'diffusion_model.{name}'.replace('.', '')}": name for name in names.values()}
            plain = named(stored, averages.get)
        found = sources("U-Net", plain, names, unets.parameters(unet))
        version, use = 1 + unet.linear_projection, use_of(unet)
        autoencoder = _autoencoder(file, stored, AUTOENCODER, UPSCALER_SCALE if use == "x4 upscaler" else 0.0)
        text, text_shape = _text(stored)
        check_parts(unet, autoencoder.shape, text_shape)
        meaning, reason = predicted(version, use, predicts, it.metadata, _yaml(file), it.scalars)
        described = StableDiffusion(
            version,
            use,
            unet,
            autoencoder.shape,
            text_shape,
            meaning,
            reason,
            _betas(stored, use),
            autoencoder.scale,
            _size(version, use, meaning),
        )
    weights = "one set, which may be the averaged ones"
    if has_average:
        weights = f"averaged (EMA) and raw; the {'averaged' if averaged else 'raw'} ones are read"
    return FoundStableDiffusion(
        file, "single file", described, found, autoencoder.autoencoder, text, weights, None, {}
    )


def find_autoencoder_file(file: Path, it: FileContents) -> FoundAutoencoder:
    """The autoencoder in a file: of a whole model, or alone under CompVis' or diffusers' names.

    Raises:
        UnveilError: there is none, or a variant that ours does not have.
    """
    prefix = AUTOENCODER if any(name.startswith(AUTOENCODER) for name in it.stored) else ""
    with reading(file, "an autoencoder that cannot be used"):
        return _autoencoder(file, it.stored, prefix, 0.0)


def _autoencoder(file: Path, stored: Mapping[str, Stored], prefix: str, scale: float) -> FoundAutoencoder:
    """Tensors beside the encoder and the decoder, such as those of the loss, are left out."""
    parts = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
    inside = named(
        stored, lambda name: n if (n := _after(prefix, name)) is not None and n.startswith(parts) else None
    )
    shape = autoencoders.shape_of_tensors(blank(inside))
    names = autoencoders.compvis_names(shape)
    if any(".mid_block." in name for name in inside):
        names = autoencoders.diffusers_names(shape)
        inside = {autoencoder_name(name): it for name, it in inside.items()}
    found = sources("autoencoder", inside, names, autoencoders.parameters(shape))
    return FoundAutoencoder(file, "single file", shape, scale or STABLE_DIFFUSION, found)


def _text(stored: Mapping[str, Stored]) -> tuple[TextSource, ClipTextShape]:
    open_clip = named(stored, lambda name: _after(OPEN_CLIP, name))
    if open_clip:
        return TextSource(open_clip, True), clip_shape_of(from_open_clip(blank(open_clip)), quick=False)
    clip: dict[str, Named] = {}
    for name, it in named(stored, lambda name: _after(CLIP, name)).items():
        if (short := text_name(name)) is not None:
            clip[short] = it
    if not clip:
        raise ValueError("it has no text encoder; a file of only a U-Net is not a whole model")
    return TextSource(clip, False), clip_shape_of(blank(clip), quick=True)


def _betas(stored: Mapping[str, Stored], use: Use) -> tuple[float, ...]:
    """The table that the file holds, in float64 where it is the usual one."""
    usual = betas_of(use)
    if "betas" not in stored:
        return usual
    table = read_stored({"betas": stored["betas"]})["betas"].double()
    wanted = torch.tensor(usual, dtype=torch.float64)
    if table.shape == wanted.shape and bool(((table - wanted).abs() < 1e-3 * wanted).all()):
        return usual
    return tuple(table.flatten().tolist())


def _size(version: int, use: Use, predicts: Predicts) -> int:
    large = version == 2 and use in ("text to image", "image variations") and predicts == "v"
    return 768 if large else 512


def _yaml(file: Path) -> str:
    """The config beside a file, of the same name, as other programs have it."""
    beside = file.with_suffix(".yaml")
    if not beside.is_file() or beside.stat().st_size > LARGEST_YAML:
        return ""
    text = beside.read_text(encoding="utf-8", errors="replace")
    return text if re.search(r"^\s*model\s*:", text, re.MULTILINE) else ""


def _after(prefix: str, name: str) -> str | None:
    return name.removeprefix(prefix) if name.startswith(prefix) else None
