"""Write runs that have Stable Diffusion's networks, such as a fine-tuned one, in its own layouts."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from unveil.errors import UnveilError
from unveil.image.recipes.load import load_models, open_image
from unveil.image.recipes.stable_diffusion import Precision

if TYPE_CHECKING:
    from unveil.image.model import ImageModel
    from unveil.image.weights.stable_diffusion_description import StableDiffusion
    from unveil.image.weights.stable_diffusion_writing import Networks


def write_run(path: str, out: Path, layout: Literal["diffusers", "single"], dtype: Precision) -> str:
    """Write a run, or one of `unveil train lora` merged into its base, as diffusers or one file has it.

    Args:
        path: a run or checkpoint folder.
        dtype: of the U-Net and the text encoder; "stored": float32. The autoencoder is float32.
    Returns:
        what is printed.
    Raises:
        UnveilError: its networks are not Stable Diffusion's, it is a learned word, or something is in the
            way; nothing is half-written.
    """
    import torch

    from unveil.files.atomic import check_output
    from unveil.image.weights.stable_diffusion_writing import write_folder, write_single

    opened = open_image(path)
    if opened.tuned is not None and opened.tuned.config["recipe"] == "inversion":
        raise UnveilError(
            f"{path} is a learned word: other programs read its learned_embeds.safetensors beside its base, "
            f"{opened.tuned.config['base']}, which can be converted"
        )
    model = load_models(opened, None, "cpu")[0]
    described, networks = described_model(model, path)
    kind: torch.dtype = torch.float32 if dtype == "stored" else getattr(torch, dtype)
    networks.unet.to(kind)
    networks.text.to(kind)
    assert model.text is not None
    if layout == "diffusers":
        write_folder(out, described, networks, model.text.tokenizer)
    else:  # which has no tokenizer
        check_output(out)
        write_single(out, described, networks)
    it = described
    return (
        f"{out}: {path} as Stable Diffusion {it.version}.x, {it.use}, {it.size} x {it.size}, predicts "
        f"{it.predicts}\nnext: unveil weights inspect {shlex.quote(str(out))}"
    )


def described_model(model: ImageModel, path: str) -> tuple[StableDiffusion, Networks]:
    """What an image model is as one of Stable Diffusion's family, and its networks.

    Raises:
        UnveilError: its networks or its noise schedule are others.
    """
    from unveil.image.networks.autoencoder import Autoencoder
    from unveil.image.networks.clip import ClipText
    from unveil.image.networks.unet2d import UNet2d
    from unveil.image.weights.stable_diffusion_description import StableDiffusion, use_of
    from unveil.image.weights.stable_diffusion_writing import Networks

    unet, text, latents, shape = model.denoiser.network, model.text, model.latent, model.shape
    other = f"{path}: its networks are not Stable Diffusion's, so that no other program could read them"
    if not isinstance(unet, UNet2d) or unet.shape.cross != "transformer" or shape.schedule != "betas":
        raise UnveilError(other)
    if text is None or not isinstance(text.encoder, ClipText):
        raise UnveilError(other)
    if latents is None or not isinstance(latents.network, Autoencoder):
        raise UnveilError(other)
    codes = latents.network.shape
    try:
        use = use_of(unet.shape)
    except ValueError as error:
        raise UnveilError(f"{path}: {error}") from error
    version, predicts = 2 if unet.shape.linear_projection else 1, shape.predicts
    if predicts not in ("eps", "x0", "v"):
        raise UnveilError(f"{path}: predicts {predicts}, which Stable Diffusion's layouts cannot say")
    side = shape.size * codes.factor
    described = StableDiffusion(
        version=version,
        use=use,
        unet=unet.shape,
        autoencoder=codes,
        text=text.encoder.shape,
        predicts=predicts,
        reason="the run's config.json",
        betas=tuple(shape.betas),
        scale=float(f"{float(latents.scale):.7g}"),  # stored as float32
        size=side,
    )
    return described, Networks(unet, latents, text.encoder)
