"""Write a model as others read it: diffusers' folder, or one file with CompVis' names."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor

from unveil.errors import UnveilError
from unveil.files.atomic import replacing
from unveil.image.data.tokenizer import Tokenizer
from unveil.image.latents.latent import Latents
from unveil.image.networks.autoencoder import Autoencoder
from unveil.image.networks.clip import ClipText
from unveil.image.networks.unet2d import UNet2d
from unveil.image.weights import stable_diffusion_autoencoder as autoencoders
from unveil.image.weights import stable_diffusion_unet as unets
from unveil.image.weights.clip import clip_tensors, to_open_clip, write_clip
from unveil.image.weights.stable_diffusion_description import (
    BETAS,
    STEPS,
    UPSCALER_BETAS,
    StableDiffusion,
    Use,
    betas_of,
)
from unveil.image.weights.stable_diffusion_folder import CONFIG, SCHEDULER, STEM
from unveil.image.weights.stable_diffusion_single import AUTOENCODER, CLIP, OPEN_CLIP, UNET

PIPELINES: dict[Use, str] = {
    "text to image": "StableDiffusionPipeline",
    "inpainting": "StableDiffusionInpaintPipeline",
    "depth to image": "StableDiffusionDepth2ImgPipeline",
    "x4 upscaler": "StableDiffusionUpscalePipeline",
    "editing": "StableDiffusionInstructPix2PixPipeline",
}
LOW_RES: dict[str, object] = {
    "_class_name": "DDPMScheduler",
    "_diffusers_version": "0.21.0",
    "beta_start": UPSCALER_BETAS[0],
    "beta_end": UPSCALER_BETAS[1],
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": STEPS,
    "prediction_type": "epsilon",
    "clip_sample": True,
    "variance_type": "fixed_small",
}
TARGETS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}


class Networks(NamedTuple):
    """The networks of a model."""

    unet: UNet2d
    latents: Latents
    text: ClipText


def write_folder(
    folder: Path,
    described: StableDiffusion,
    networks: Networks,
    tokenizer: Tokenizer,
    scheduler: Mapping[str, object] | None = None,
) -> None:
    """Write a pipeline's folder, component by component, in the dtypes that the networks have.

    Args:
        folder: must not exist, or be empty.
        scheduler: config of diffusers' scheduler; None: one is made for the description.
    Raises:
        UnveilError: something is in the way, the model is none that diffusers' pipelines have, or the
            tokenizer is not CLIP's. Nothing is half-written.
    """
    if described.use not in PIPELINES:
        raise UnveilError(f"{folder}: models for {described.use} cannot be written as a folder of diffusers")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UnveilError(f"{folder}: is in the way; give a name that is free")
    unet, latents, text = networks
    codes, size = _autoencoder(latents), described.size
    partial = folder.with_name(f".{folder.name}.tmp-{os.getpid()}")
    try:
        sides = size // codes.shape.factor
        names, config = unets.diffusers_names(unet.shape), unets.config_of_shape(unet.shape, sides)
        _component(partial / "unet", config, _renamed(unet, names))
        names = autoencoders.diffusers_names(codes.shape)
        config = autoencoders.config_of_shape(codes.shape, described.scale, size)
        _component(partial / "vae", config, _renamed(codes, names))
        write_clip(text, tokenizer, partial)
        config = dict(scheduler) if scheduler else scheduler_config(described)
        _json(partial / "scheduler" / SCHEDULER, config)
        if described.use == "x4 upscaler":  # of the noise on the small picture
            _json(partial / "low_res_scheduler" / SCHEDULER, LOW_RES)
        _json(partial / "model_index.json", _index(described, str(config["_class_name"])))
        if folder.is_dir():
            folder.rmdir()
        os.replace(partial, folder)
    except OSError as error:
        raise UnveilError(f"{folder}: cannot write ({error.strerror or error})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_single(file: Path, described: StableDiffusion, networks: Networks) -> None:
    """Write one .safetensors file with CompVis' names, in the dtypes that the networks have.

    The text encoder of version 2 has 23 blocks there, as diffusers writes it: the last one of OpenCLIP, which
    Stable Diffusion does not use, is not in our networks.

    Raises:
        UnveilError: the file is no .safetensors, or cannot be written; nothing is half-written.
    """
    if file.suffix != ".safetensors":
        raise UnveilError(f"{file}: a single file is written as .safetensors; give such a name")
    unet, latents, text = networks
    codes = _autoencoder(latents)
    tensors = _under(UNET, _renamed(unet, unets.compvis_names(unet.shape)))
    names, projections = autoencoders.compvis_names(codes.shape), ("q", "k", "v", "proj_out")
    for name, value in _renamed(codes, names).items():
        # attention is of 1 x 1 convolutions there
        conv = value.ndim == 2 and name.split(".")[-2] in projections
        tensors[AUTOENCODER + name] = value[:, :, None, None] if conv else value
    if text.shape.quick:
        tensors |= _under(CLIP, clip_tensors(text))
    else:
        tensors |= _under(OPEN_CLIP, to_open_clip(text))
    tensors |= schedule_buffers(described.betas)
    metadata = {
        "format": "pt",
        "modelspec.architecture": f"stable-diffusion-v{described.version}",
        "modelspec.prediction_type": "v" if described.predicts == "v" else "epsilon",
    }
    with replacing(file) as partial:
        save_file({name: value.detach().contiguous() for name, value in tensors.items()}, partial, metadata)


def schedule_buffers(betas: tuple[float, ...]) -> dict[str, Tensor]:
    """The twelve tables of CompVis' `register_schedule`, computed in float64, as float32."""
    beta = torch.tensor(betas, dtype=torch.float64)
    alpha = 1.0 - beta
    bar = alpha.cumprod(0)
    before = torch.cat([torch.ones(1, dtype=torch.float64), bar[:-1]])
    variance = beta * (1.0 - before) / (1.0 - bar)
    tables = {
        "betas": beta,
        "alphas_cumprod": bar,
        "alphas_cumprod_prev": before,
        "sqrt_alphas_cumprod": bar.sqrt(),
        "sqrt_one_minus_alphas_cumprod": (1.0 - bar).sqrt(),
        "log_one_minus_alphas_cumprod": (1.0 - bar).log(),
        "sqrt_recip_alphas_cumprod": (1.0 / bar).sqrt(),
        "sqrt_recipm1_alphas_cumprod": (1.0 / bar - 1.0).sqrt(),
        "posterior_variance": variance,
        "posterior_log_variance_clipped": variance.clamp(min=1e-20).log(),
        "posterior_mean_coef1": beta * before.sqrt() / (1.0 - bar),
        "posterior_mean_coef2": (1.0 - before) * alpha.sqrt() / (1.0 - bar),
    }
    return {name: table.float() for name, table in tables.items()}


def scheduler_config(described: StableDiffusion) -> dict[str, object]:
    """The config of a scheduler of diffusers: PNDM for version 1, else DDIM, as in the published folders."""
    config: dict[str, object] = {
        "_class_name": "PNDMScheduler" if described.version == 1 else "DDIMScheduler",
        "_diffusers_version": "0.21.0",
        "num_train_timesteps": len(described.betas),
        "prediction_type": TARGETS[described.predicts],
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
        "timestep_spacing": "leading",
        "clip_sample": False,
    }
    first, last = UPSCALER_BETAS if described.use == "x4 upscaler" else BETAS
    config |= {"beta_start": first, "beta_end": last, "beta_schedule": "scaled_linear"}
    if len(described.betas) != STEPS or described.betas != betas_of(described.use):
        config["trained_betas"] = list(described.betas)
    return config


def _index(described: StableDiffusion, scheduler: str) -> dict[str, object]:
    index: dict[str, object] = {
        "_class_name": PIPELINES[described.use],
        "_diffusers_version": "0.21.0",
        "scheduler": ["diffusers", scheduler],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", unets.CLASS],
        "vae": ["diffusers", autoencoders.CLASS],
    }
    if described.use == "depth to image":
        return index | {"depth_estimator": [None, None], "feature_extractor": [None, None]}
    if described.use == "x4 upscaler":
        return index | {"low_res_scheduler": ["diffusers", "DDPMScheduler"], "max_noise_level": 350}
    index |= {"safety_checker": [None, None], "feature_extractor": [None, None]}
    return index | {"requires_safety_checker": False}


def _autoencoder(latents: Latents) -> Autoencoder:
    if not isinstance(latents.network, Autoencoder):
        raise UnveilError(
            f"{type(latents.network).__name__} is no autoencoder of Stable Diffusion; only those are written"
        )
    return latents.network


def _renamed(network: UNet2d | Autoencoder, names: Mapping[str, str]) -> dict[str, Tensor]:
    return {names[name]: value for name, value in network.state_dict().items()}


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in tensors.items()}


def _component(folder: Path, config: Mapping[str, object], tensors: Mapping[str, Tensor]) -> None:
    _json(folder / CONFIG, config)
    with replacing(folder / f"{STEM}.safetensors") as partial:
        save_file({k: v.detach().contiguous() for k, v in tensors.items()}, partial, {"format": "pt"})


def _json(file: Path, value: Mapping[str, object]) -> None:
    with replacing(file) as partial:
        partial.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
