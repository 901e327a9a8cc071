"""Read Stable Diffusion 1 and 2 and their autoencoders: a folder of diffusers, or one .safetensors or .ckpt.

`find_stable_diffusion` looks at names and headers only. The components are then read one by one,
memory-mapped where the file is a safetensors file.
"""

from pathlib import Path
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from unveil.errors import UnveilError
from unveil.files.reading import reading
from unveil.image.latents.latent import Latents
from unveil.image.networks.autoencoder import Autoencoder
from unveil.image.networks.clip import ClipText
from unveil.image.networks.unet2d import UNet2d
from unveil.image.weights import stable_diffusion_autoencoder as autoencoders
from unveil.image.weights import stable_diffusion_unet as unets
from unveil.image.weights.clip import clip_text, from_open_clip
from unveil.image.weights.stable_diffusion_description import FoundAutoencoder, FoundStableDiffusion, Predicts
from unveil.image.weights.stable_diffusion_files import PICKLES, contents, read_sources, read_stored
from unveil.image.weights.stable_diffusion_folder import class_of, find_autoencoder_folder, find_folder
from unveil.image.weights.stable_diffusion_single import find_autoencoder_file, find_single, is_single
from unveil.network.condition import Condition

Network = TypeVar("Network", bound=nn.Module)
SUFFIXES = (".safetensors", *PICKLES)
MEASURED_AT, CORRELATED = 999.0, 0.5
"""The last time of the table, where there is next to nothing but noise; correlation above which noise is
meant."""


def is_stable_diffusion(path: Path) -> bool:
    """Whether a path is a model of Stable Diffusion's family or its autoencoder; only headers are read."""
    if path.is_dir():
        return class_of(path / "unet") == unets.CLASS or class_of(path) == autoencoders.CLASS
    if path.suffix not in SUFFIXES or not path.is_file():
        return False
    try:
        stored = contents(path).stored
    except UnveilError:
        return False
    return is_single(stored) or _is_autoencoder(stored)


def find_stable_diffusion(
    path: Path, *, variant: str | None = None, averaged: bool = True, predicts: Predicts | None = None
) -> FoundStableDiffusion:
    """Find a model's components and say what they are; no numbers are read.

    Args:
        path: a pipeline's folder, or a file.
        variant: of a folder's files: "fp16" ...; "": those without; None: those without, if they are there.
        averaged: take the averaged weights (EMA) of the U-Net where there are raw ones, too.
        predicts: what the U-Net of a single file predicts; None: see `predicted`.
    Raises:
        UnveilError: missing, damaged, truncated, components of different models, or a variant of the networks
            that ours are not.
    """
    if path.is_dir():
        return find_folder(path, variant, averaged)
    it = contents(path)
    if not is_single(it.stored):
        what = "an autoencoder alone" if _is_autoencoder(it.stored) else "no model of Stable Diffusion"
        raise UnveilError(f"{path}: {what}; needed is a file with model.diffusion_model.* in it")
    return find_single(path, it, averaged, predicts)


def find_autoencoder(path: Path, *, variant: str | None = None) -> FoundAutoencoder:
    """Find the autoencoder in its own folder, in a pipeline's, or in a file; no numbers are read.

    Raises:
        UnveilError: as `find_stable_diffusion`.
    """
    if path.is_dir():
        return find_autoencoder_folder(path / "vae" if (path / "vae").is_dir() else path, variant)
    return find_autoencoder_file(path, contents(path))


def read_unet(
    found: FoundStableDiffusion, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> UNet2d:
    """The frozen U-Net.

    Args:
        dtype: dtype of the weights; None keeps that of the files, which are then memory-mapped on the CPU.
    Raises:
        UnveilError: a file is damaged, or numbers do not fit into float16.
    """
    with torch.device("meta"):
        network = UNet2d(found.described.unet)
    return _loaded(network, read_sources(found.unet, device, dtype))


def read_latents(
    found: FoundStableDiffusion | FoundAutoencoder,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> Latents:
    """The frozen autoencoder with the scale of its codes; arguments and errors as of `read_unet`."""
    if isinstance(found, FoundAutoencoder):
        shape, scale = found.shape, found.scale
    else:
        shape, scale = found.described.autoencoder, found.described.scale
    with torch.device("meta"):
        network = Autoencoder(shape)
    loaded = _loaded(network, read_sources(found.autoencoder, device, dtype))
    return Latents(loaded, scale).to(device).eval()


def read_text(
    found: FoundStableDiffusion, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> ClipText:
    """The frozen text encoder; arguments and errors as of `read_unet`."""
    inside = {it.name: it.stored for it in found.text.stored.values()}
    tensors = read_stored(inside, device, dtype)
    named: dict[str, Tensor] = {name: tensors[it.name] for name, it in found.text.stored.items()}
    with reading(found.place, "a text encoder that cannot be used"):
        return clip_text(from_open_clip(named) if found.text.open_clip else named, found.described.text)


def _loaded(network: Network, tensors: dict[str, Tensor]) -> Network:
    network.load_state_dict(tensors, assign=True)
    return network.requires_grad_(False).eval()


def measured_prediction(network: UNet2d, seed: int = 0) -> tuple[Literal["eps", "v"], float]:
    """Whether a U-Net predicts eps or v, by its answer to pure noise at the last time, and its correlation
    with the noise: near 1 for eps; v = alpha eps - sigma x_0 is -x_0 there, so about 0.

    The text is all zeros. For the single files of version 2, which do not say what they predict.
    """
    weight = next(network.parameters())
    generator = torch.Generator(device="cpu").manual_seed(seed)
    noise = torch.randn((1, network.shape.channels, 32, 32), generator=generator).to(weight)
    cond = Condition(tokens=torch.zeros((1, 77, network.shape.context)).to(weight))
    with torch.no_grad():
        out = network(noise, torch.full((1,), MEASURED_AT).to(weight), cond)
    pair = torch.stack([noise.flatten().double(), out.flatten().double()])
    correlation = float(torch.corrcoef(pair)[0, 1])
    return ("eps" if correlation > CORRELATED else "v"), correlation


def _is_autoencoder(stored: object) -> bool:
    names = set(stored) if isinstance(stored, dict) else set[str]()
    return bool({"decoder.conv_in.weight", "first_stage_model.decoder.conv_in.weight"} & names)
