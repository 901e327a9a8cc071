"""The names that LoRA files have for the layers of an image model: those of Stable Diffusion, or of our own
modules."""

from torch import nn

from unveil.image.networks.clip import ClipText
from unveil.image.networks.unet2d import UNet2d
from unveil.image.weights.clip import clip_names
from unveil.image.weights.lora_names import TEXT_MODEL, BaseLayers, modules
from unveil.image.weights.stable_diffusion_unet import compvis_names, diffusers_names


def layers_of(network: UNet2d, encoder: nn.Module) -> BaseLayers:
    """The layers of a base: under diffusers' and CompVis' names for Stable Diffusion, and under our own paths
    for other models, such as `down.0.1.qkv`, or `text_model.blocks.0.attend.query` of the text encoder.

    Args:
        network: its U-Net, without adapters.
        encoder: its text encoder, without adapters.
    """
    if not isinstance(encoder, ClipText) or network.shape.cross != "transformer":
        return BaseLayers(_own(network, ""), _own(encoder, TEXT_MODEL))
    ours = diffusers_names(network.shape)
    compvis = {
        theirs.removesuffix(".weight"): ours[name].removesuffix(".weight")
        for name, theirs in compvis_names(network.shape).items()
        if theirs.endswith(".weight")
    }
    text = {theirs: mine for mine, theirs in clip_names(encoder.shape).items()}
    return BaseLayers(modules(ours), text, compvis)


def _own(network: nn.Module, prefix: str) -> dict[str, str]:
    return {
        prefix + name: name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }
