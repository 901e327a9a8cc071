"""Low-rank adapters of an image model of text: which layers of U-Net and text encoder they change, and their
updates. Hu et al. 2022; the layers are those of diffusers' and kohya's trainings."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from torch import Tensor, nn

from unveil.checks import Bounds, check_fields
from unveil.image.model import ImageModel
from unveil.image.networks.blocks2d import Attention2d, Double2d, Halve2d, ResidualConv2d
from unveil.image.networks.t5 import T5Encoder
from unveil.image.networks.text_encoder import TextAttention
from unveil.image.networks.transformer2d import CrossAttention, SpatialTransformer2d
from unveil.image.networks.unet2d import UNet2d
from unveil.network.lora import LoRA, LowRank, adapt, merge_lora, strip_lora

Part = Literal["unet", "text_encoder"]
PARTS: tuple[Part, ...] = ("unet", "text_encoder")
Layers = dict[Part, dict[str, LoRA]]
"""Rank and scale of each adapted layer, by part and by our path of the layer in it."""


@dataclass(frozen=True)
class AdapterShape:
    """Which layers are adapted, W x + (alpha / rank) B A x, and with which rank.

    Args:
        rank: of linear layers and 1 x 1 convolutions.
        alpha: the scale of all updates is alpha / rank.
        layers: "attention": queries, keys, values and outputs of all attention; "transformer": all linear
            layers and 1 x 1 convolutions of the transformers as well, as kohya's scripts do.
        conv_rank: rank of the 3 x 3 convolutions of residual blocks and changes of the sides, whose other
            layers then have adapters of `rank` (LoCon); 0: none of these.
        text_encoder: adapt the text encoder, too.
    """

    rank: Annotated[int, Bounds(1)] = 4
    alpha: Annotated[float, Bounds(0, above=True, below=True)] = 4.0
    layers: Literal["attention", "transformer"] = "attention"
    conv_rank: Annotated[int, Bounds(0)] = 0
    text_encoder: bool = False

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def linear(self) -> LoRA:
        """Rank and scale of linear layers and 1 x 1 convolutions."""
        return LoRA(self.rank, self.alpha)

    @property
    def convolution(self) -> LoRA:
        """Rank and scale of 3 x 3 convolutions: the scale of the others."""
        return LoRA(self.conv_rank, self.alpha * self.conv_rank / self.rank)


def adapted_layers(model: ImageModel, shape: AdapterShape) -> Layers:
    """The layers of a model that adapters of a shape change.

    Raises:
        ValueError: a model without text or of another network than `UNet2d`, or a text encoder that cannot be
            adapted.
    """
    network = model.denoiser.network
    if not isinstance(network, UNet2d) or model.text is None:
        raise ValueError("adapters are for U-Nets that read text, and this model does not")
    found: Layers = {"unet": dict(_of_unet(network, shape)), "text_encoder": {}}
    if shape.text_encoder:
        encoder = model.text.network
        if isinstance(encoder, T5Encoder):
            raise ValueError("`text_encoder`: a T5 encoder cannot be adapted; leave it out")
        names = dict.fromkeys(_of_text(encoder, shape.layers == "transformer"), shape.linear)
        if not names:
            raise ValueError("`text_encoder`: it has no transformer blocks to adapt; leave it out")
        found["text_encoder"] = names
    return found


def add_adapters(model: ImageModel, layers: Layers) -> nn.Module:
    """Adapt layers of a model in place, freeze all other weights, and return what to train.

    B = 0 at first, so that the model is unchanged, bit for bit. It is in evaluation mode afterwards: dropout
    is off.

    Args:
        layers: of `adapted_layers`.
    Returns:
        The matrices A and B as a module tree, with names such as `unet.down.0.1.qkv.lora_A.weight`.
    """
    assert model.text is not None
    model.requires_grad_(False)
    tree = nn.Module()
    tree.add_module("unet", adapt(model.denoiser.network, layers["unet"]))
    if layers["text_encoder"]:
        model.text.unfreeze()
        tree.add_module("text_encoder", adapt(model.text.network, layers["text_encoder"]))
    else:
        model.text.freeze()
    model.eval()
    return tree


def updates(layers: Layers, weights: Mapping[str, Tensor]) -> dict[Part, dict[str, LowRank]]:
    """The updates of trained adapters, by part and by our path of the layer.

    Args:
        weights: a state dict of what `add_adapters` returned.
    """
    return {
        part: {
            path: LowRank(
                weights[f"{part}.{path}.lora_A.weight"], weights[f"{part}.{path}.lora_B.weight"], lora.alpha
            )
            for path, lora in layers[part].items()
        }
        for part in PARTS
    }


def settle(model: ImageModel) -> None:
    """Merge the adapters into the weights, and make the layers plain again."""
    assert model.text is not None
    for part in (model.denoiser.network, model.text.network):
        merge_lora(part)
        strip_lora(part)
    model.text.freeze()


def _of_unet(network: UNet2d, shape: AdapterShape) -> Iterator[tuple[str, LoRA]]:
    for name, module in network.named_modules():
        if isinstance(module, Attention2d):
            for inner in ("qkv", "merge", *(["text.1"] if module.text is not None else [])):
                yield f"{name}.{inner}", shape.linear
        elif isinstance(module, SpatialTransformer2d) and shape.layers == "transformer":
            for inner, layer in module.named_modules():
                if isinstance(layer, nn.Linear | nn.Conv2d):
                    yield f"{name}.{inner}", shape.linear
        elif isinstance(module, CrossAttention) and shape.layers == "attention":
            for inner in ("to_q", "to_k", "to_v", "to_out.0"):
                yield f"{name}.{inner}", shape.linear
        elif shape.conv_rank and isinstance(module, ResidualConv2d | Halve2d | Double2d):
            for inner, layer in module.named_modules():
                if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3):
                    yield f"{name}.{inner}", shape.convolution
                elif isinstance(layer, nn.Linear | nn.Conv2d):
                    yield f"{name}.{inner}", shape.linear


def _of_text(encoder: nn.Module, feedforward: bool) -> Iterator[str]:
    for name, module in encoder.named_modules():
        if isinstance(module, TextAttention):
            yield from (f"{name}.{inner}" for inner in ("query", "key", "value", "merge"))
        elif feedforward and name.endswith((".rise", ".fall")) and isinstance(module, nn.Linear):
            yield name
