"""Use Stable Diffusion's models as image models: load, inspect, and write them in every layout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from unveil.errors import UnveilError

if TYPE_CHECKING:
    import torch

    from unveil.image.data.tokenizer import Tokenizer
    from unveil.image.model import ImageModel
    from unveil.image.shape import ImageShape
    from unveil.image.weights.stable_diffusion_description import FoundStableDiffusion, StableDiffusion
    from unveil.image.weights.stable_diffusion_writing import Networks

SAMPLED = ("text to image", "inpainting", "depth to image", "x4 upscaler")
Precision = Literal["float32", "float16", "bfloat16", "stored"]


def load_stable_diffusion(
    path: Path,
    device: str = "auto",
    *,
    dtype: Precision = "float32",
    variant: str | None = None,
    raw: bool = False,
    predicts: Literal["eps", "v"] | None = None,
) -> ImageModel:
    """Load a folder of diffusers or a single file, component by component; no code in them is run.

    Args:
        dtype: of the U-Net and the text encoder; "stored": that of the files. The autoencoder is float32.
        variant: of a folder's files, such as "fp16"; None: those without, if they are there.
        raw: take the weights themselves, not their average, where both are there.
        predicts: what the U-Net of a single file predicts, where the file does not say it.
    Raises:
        UnveilError: it cannot be read or used.
    """
    from unveil.image.weights.stable_diffusion import find_stable_diffusion

    found = find_stable_diffusion(path, variant=variant, averaged=not raw, predicts=predicts)
    return model_of_found(found, device, dtype)


def model_of_found(found: FoundStableDiffusion, device: str, dtype: Precision) -> ImageModel:
    """The image model of files whose headers were read."""
    check_use(found.described)
    return model_with(found.described, networks_of(found, device, dtype), tokenizer_of(found))


def networks_of(found: FoundStableDiffusion, device: str, dtype: Precision) -> Networks:
    """Read the networks, one after another; the autoencoder in float32 unless `dtype` is "stored"."""
    import torch

    from unveil.image.weights.stable_diffusion import read_latents, read_text, read_unet
    from unveil.image.weights.stable_diffusion_writing import Networks
    from unveil.runs.device import find_device

    place = find_device(device)
    kind: torch.dtype | None = None if dtype == "stored" else getattr(torch, dtype)
    codes = None if dtype == "stored" else torch.float32
    unet, latents = read_unet(found, place, kind), read_latents(found, place, codes)
    return Networks(unet, latents, read_text(found, place, kind))


def model_with(it: StableDiffusion, networks: Networks, tokenizer: Tokenizer) -> ImageModel:
    """The image model of networks of Stable Diffusion."""
    from unveil.image.model import ImageModel
    from unveil.image.prompts.text_conditioning import TextConditioning

    text = TextConditioning(tokenizer, networks.text, pooled=False, frozen=True, restore=True)
    return ImageModel(shape_of_stable(it), networks.unet, text, networks.latents).eval()


def check_use(it: StableDiffusion) -> None:
    """Refuse models that need more than this version gives them.

    Raises:
        UnveilError: a model that edits pictures or makes variations of them.
    """
    if it.use not in SAMPLED:
        raise UnveilError(f"a model of Stable Diffusion for {it.use}; {', '.join(SAMPLED)} can be sampled")


def shape_of_stable(it: StableDiffusion) -> ImageShape:
    """The shape of our model; its network's shape is the description's."""
    from unveil.image.shape import ImageShape

    unet = it.unet
    return ImageShape(
        size=it.size // it.autoencoder.factor,
        channels=unet.channels,
        width=unet.width,
        multiples=unet.multiples,
        blocks=unet.blocks,
        attention=(),
        groups=unet.groups,
        scale_shift=unet.scale_shift,
        stem=1,
        schedule="betas",
        diffusion_steps=len(it.betas),
        predicts=it.predicts,
        betas=it.betas,
        context=unet.context,
        concat=unet.concat,
    )


def tokenizer_of(found: FoundStableDiffusion) -> Tokenizer:
    """The tokenizer in the model's folder; for files without one, CLIP's own if it is installed."""
    from unveil.image.data.tokenizer_files import CLIP_END, read_clip_tokenizer

    text = found.described.text
    pad = None if found.tokenizer is not None else CLIP_END if text.quick else "!"
    return read_clip_tokenizer(found.tokenizer, text.length, pad)


def inspect_stable_diffusion(path: Path) -> str:
    """Describe a model or an autoencoder alone, for people; only headers are read."""
    from unveil.image.weights.stable_diffusion import find_stable_diffusion
    from unveil.image.weights.stable_diffusion_description import described_lines

    found = find_stable_diffusion(path)
    usable = "yes: unveil.load(PATH), --checkpoint PATH, unveil weights convert PATH OUT"
    if found.described.use not in SAMPLED:
        usable = f"to be converted only; {', '.join(SAMPLED)} can be sampled"
    rows = [*described_lines(found), ("usable", usable)]
    return "\n".join([str(path), *(f"  {name:<13} {text}" for name, text in rows)])


def convert_stable_diffusion(path: Path, out: Path, raw: bool, layout: str, dtype: Precision) -> str:
    """Write a model in another layout; returns what is printed.

    Args:
        layout: "ours", a run folder; "diffusers", a pipeline's folder; "single", one .safetensors file.
    Raises:
        UnveilError: it cannot be read, or something is in the way; nothing is half-written.
    """
    import shlex

    from unveil.files.atomic import check_output
    from unveil.image.weights.stable_diffusion import find_stable_diffusion
    from unveil.image.weights.stable_diffusion_writing import write_folder, write_single

    found = find_stable_diffusion(path, averaged=not raw)
    networks = networks_of(found, "cpu", dtype)
    if layout == "ours":
        write_ours(out, found.described, model_with(found.described, networks, tokenizer_of(found)))
    elif layout == "diffusers":
        write_folder(out, found.described, networks, tokenizer_of(found), found.scheduler)
    else:  # which has no tokenizer
        check_output(out)
        write_single(out, found.described, networks)
    it, place = found.described, shlex.quote(str(out))
    return (
        f"{out}: Stable Diffusion {it.version}.x, {it.use}, {it.size} x {it.size}, predicts {it.predicts} "
        f'({it.reason})\nnext: unveil sample image --checkpoint {place} --prompt "a photo of a cat" -n 1'
    )


def write_ours(out: Path, it: StableDiffusion, model: ImageModel) -> None:
    """Write a run folder: config.json, a checkpoint, the autoencoder and the tokenizer.

    Raises:
        UnveilError: the folder holds something else.
    """
    import json
    from dataclasses import asdict

    from unveil.files.atomic import replacing
    from unveil.files.digest import digest
    from unveil.image.networks.clip import ClipText
    from unveil.image.recipes.latents import write_latents
    from unveil.image.recipes.prompts import FILE
    from unveil.runs.checkpoints import check_free, write_converted

    assert model.text is not None and model.latent is not None
    assert isinstance(model.text.encoder, ClipText)
    fields = asdict(model.shape)
    del fields["classes"]
    described: dict[str, object] = {
        "recipe": "image",
        "origin": f"Stable Diffusion {it.version}.x",
        "names": [],
        "captions": "clip",
        "encoder": "clip",
        "clip": asdict(model.text.encoder.shape),
        "unet": asdict(it.unet),
        **fields,
    }
    check_free(out, described)
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / FILE) as partial:
        partial.write_text(model.text.tokenizer.written(), encoding="utf-8")
    described |= {"tokenizer_digest": digest(out / FILE), "autoencoder": write_latents(model.latent, out)}
    config = json.loads(json.dumps(described))
    write_converted(out, "checkpoint-0", config, {"ema": model}, {"step": 0, "origin": described["origin"]})
