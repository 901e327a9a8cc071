"""The U-Net of Stable Diffusion under three names: ours, diffusers' and CompVis' (the single files).

Its residual blocks, time embedding and changes of the sides are those of other releases, whose tables of
names are used here; inside transformers all three names are the same. So every table follows from a shape.
"""

import re

import torch

from unveil.image.networks.unet2d import UNet2d, UNet2dShape
from unveil.image.weights import diffusers, openai

VECTOR = {"vector.0": "class_embedding.linear_1", "vector.2": "class_embedding.linear_2"}
COMPVIS_VECTOR = {"vector.0": "label_emb.0.0", "vector.2": "label_emb.0.2"}
TRANSFORMER = re.compile(r"((?:down|up)\.\d+\.1|middle\.1)\.(.+)")


def unet_parameters(shape: UNet2dShape) -> dict[str, tuple[int, ...]]:
    """The shape of each parameter of our U-Net, by our names; nothing is allocated.

    Raises:
        ValueError: numbers that do not fit.
    """
    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in UNet2d(shape).state_dict().items()}


def diffusers_names(shape: UNet2dShape) -> dict[str, str]:
    """Our names of all parameters to those of diffusers' `UNet2DConditionModel`."""
    return _full(shape, diffusers.names(shape) | VECTOR, f".{diffusers.ATTENTION['norm']}")


def compvis_names(shape: UNet2dShape) -> dict[str, str]:
    """Our names of all parameters to CompVis', without the prefix `model.diffusion_model.`."""
    return _full(shape, openai.names(shape) | COMPVIS_VECTOR, f".{openai.ATTENTION['norm']}")


def _full(shape: UNet2dShape, modules: dict[str, str], norm: str) -> dict[str, str]:
    """Parameters by a table of modules; a transformer lies where the table has an attention, whose name ends
    in `norm`."""
    found: dict[str, str] = {}
    for name in unet_parameters(shape):
        inside = TRANSFORMER.fullmatch(name)
        if inside:
            found[name] = f"{modules[f'{inside[1]}.norm'].removesuffix(norm)}.{inside[2]}"
        else:
            module, _, end = name.rpartition(".")
            found[name] = f"{modules[module]}.{end}"
    return found
