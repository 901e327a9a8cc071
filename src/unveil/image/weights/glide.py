"""Read the U-Nets of glide-text2im: base, upsampler, and both for inpainting, each with its text transformer.

Nichol et al. 2021. A file is a flat state dict without a config, which its names and shapes describe: the
U-Net has the names of guided-diffusion's, with `encoder_kv` in every attention. What they do not say (heads
of 64 channels, attention down to a side of 8, the noise schedules) is that of the released files.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from unveil.errors import UnveilError
from unveil.files.reading import reading
from unveil.files.shards import Stored
from unveil.image.networks.glide_text import GlideText, GlideTextShape
from unveil.image.networks.unet2d import UNet2d, UNet2dShape
from unveil.image.weights.description import DescribedImages, axes, checked, renamed
from unveil.image.weights.openai import levels_of, names, ordered, way_down
from unveil.image.weights.stable_diffusion_files import PICKLES, contents, read_stored
from unveil.process.schedule import cosine_betas, linear_betas

RELEASE = "openai/glide-text2im"
SUFFIXES = (".safetensors", *PICKLES)
Kind = Literal["base", "upsampler", "inpainting", "inpainting upsampler"]
KINDS: dict[int, Kind] = {3: "base", 6: "upsampler", 7: "inpainting", 10: "inpainting upsampler"}
"""By the channels of the input: x; with the enlarged image; with the known image and the mask; with all."""
HEAD_WIDTH, COARSEST, STEPS, UPSAMPLE = 64, 8, 1000, 4
TEXT = ("transformer", "token_embedding", "positional_embedding", "padding_embedding", "final_ln")


@dataclass(frozen=True)
class Glide:
    """What a file of GLIDE is.

    Args:
        images: the U-Net and the diffusion.
        text: the text transformer.
        tensors, parameters: their numbers in the file.
        reason: how the kind was recognised, for people.
    """

    kind: Kind
    images: DescribedImages
    text: GlideTextShape
    tensors: int
    parameters: int
    reason: str

    @property
    def unet(self) -> UNet2dShape:
        """The shape of the U-Net."""
        assert isinstance(self.images.network, UNet2dShape)
        return self.images.network

    @property
    def inpaints(self) -> bool:
        """Whether it sees the known part of an image."""
        return self.kind.startswith("inpainting")


class FoundGlide(NamedTuple):
    """A file of GLIDE whose header was read."""

    file: Path
    described: Glide
    stored: Mapping[str, Stored]


class GlideTensors(NamedTuple):
    """The parameters of the U-Net and of the text transformer, under our names."""

    unet: dict[str, Tensor]
    text: dict[str, Tensor]


def stored_in(path: Path) -> Mapping[str, Stored]:
    """Names and forms of the tensors of a file of weights; none if it is something else."""
    if path.suffix not in SUFFIXES or not path.is_file():
        return {}
    try:
        return contents(path).stored
    except UnveilError:
        return {}


def is_glide(stored: Mapping[str, Stored]) -> bool:
    """Whether names of tensors are those of a U-Net of GLIDE."""
    return {"time_embed.0.weight", "transformer_proj.weight", "token_embedding.weight"} <= stored.keys()


def find_glide(file: Path, size: int = 0) -> FoundGlide:
    """Say what a file of GLIDE is; only its header is read.

    Args:
        size: side of its images in pixels; 0: that of the released files, whose coarsest attention has a side
            of 8.
    Raises:
        UnveilError: missing, truncated, damaged, or a variant that ours is not.
    """
    stored = contents(file).stored
    blank = {name: torch.empty(it.shape, device="meta") for name, it in stored.items()}
    with reading(file, "a model of GLIDE that cannot be used"):
        return FoundGlide(file, describe_glide(blank, size), stored)


def describe_glide(tensors: Mapping[str, Tensor], size: int = 0) -> Glide:
    """Describe a model by its tensors, which may be on `meta`.

    Raises:
        ValueError: a variant that our networks do not have.
    """
    inputs, outputs = axes(tensors, "input_blocks.0.0.weight", 4)[1], axes(tensors, "out.2.weight", 4)[0]
    if inputs not in KINDS or outputs != 6:
        raise ValueError(f"it reads {inputs} channels and makes {outputs}; GLIDE's read 3, 6, 7 or 10")
    kind = KINDS[inputs]
    levels, blocks, big_gan = levels_of(tensors)
    sizes, attention, scale_shift = way_down(tensors, levels, blocks)
    vocabulary, width = axes(tensors, "token_embedding.weight", 2)
    length = axes(tensors, "positional_embedding", 2)[0]
    axes(tensors, "padding_embedding", 2)
    layers = 0
    while f"transformer.resblocks.{layers}.attn.c_qkv.weight" in tensors:
        layers += 1
    unit = gcd(*sizes)
    unet = UNet2dShape(
        3,
        unit,
        tuple(number // unit for number in sizes),
        blocks,
        attention,
        HEAD_WIDTH,
        scale_shift=scale_shift,
        big_gan=big_gan,
        learned_variance=True,
        groups=32,
        norm_epsilon=1e-5,
        concat=inputs - 3,
        time_width=axes(tensors, "time_embed.0.weight", 2)[1],
        cosine_first=True,
        inclusive=False,
        context=width,
        vector=width,
        token_norm=False,
        linear_vector=True,
    )
    enlarges = kind.endswith("upsampler")
    side = size or COARSEST * 2 ** (levels - 1)
    betas = linear_betas(STEPS) if enlarges else cosine_betas(STEPS)
    sampler = "DDIM, fast27, noise x 0.997" if enlarges else "ancestral, 100 steps, scale 3"
    if kind == "inpainting":
        sampler = "ancestral, 100 steps, scale 5"
    if kind == "inpainting upsampler":
        sampler = "ancestral, fast27, noise x 0.997"
    upsample = UPSAMPLE if enlarges else 1
    images = DescribedImages(
        RELEASE, unet, side, tuple(betas.tolist()), "eps", 1.0, f"{sampler}, learned variance", upsample
    )
    reason = f"its first layer reads {inputs} channels, and transformer_proj maps its text to the time"
    text = GlideTextShape(vocabulary, length, width, layers, max(1, width // HEAD_WIDTH))
    parameters = sum(value.numel() for value in tensors.values())
    return Glide(kind, checked(images), text, len(tensors), parameters, reason)


def read_glide(found: FoundGlide) -> GlideTensors:
    """The parameters of a file, float32.

    Raises:
        UnveilError: damaged, or not the tensors of such a model.
    """
    tensors = read_stored(found.stored)
    with reading(found.file, "a model of GLIDE that cannot be used"):
        return placed_glide(found.described, tensors)


def placed_glide(described: Glide, tensors: Mapping[str, Tensor]) -> GlideTensors:
    """Tensors of GLIDE under our names.

    Raises:
        ValueError: a tensor is missing, unexpected, of another shape or not finite.
    """
    unet = described.unet
    words = {name: value for name, value in tensors.items() if name.split(".")[0] in TEXT}
    others = {name: value for name, value in tensors.items() if name not in words}
    table = names(unet) | {"vector": "transformer_proj"}
    attention = {ours: theirs for ours, theirs in table.items() if ours.endswith(".qkv")}
    table |= {
        f"{a.removesuffix('qkv')}text.1": f"{b.removesuffix('qkv')}encoder_kv" for a, b in attention.items()
    }
    with torch.device("meta"):
        network, encoder = UNet2d(unet), GlideText(described.text)
    inside = {
        name: _by_kind(name, value) for name, value in ordered(others, 1, HEAD_WIDTH, older=True).items()
    }
    ours = renamed(inside, table, network, torch.float32)
    return GlideTensors(
        ours, renamed(_apart(words, described.text), _text_names(described.text), encoder, torch.float32)
    )


def _by_kind(name: str, value: Tensor) -> Tensor:
    """Keys and values of the text: those of all heads first, where GLIDE has each head's together."""
    if not name.rpartition(".")[0].endswith(".encoder_kv"):
        return value
    if not value.ndim or len(value) % (2 * HEAD_WIDTH):
        raise ValueError(f"{name} has {len(value)} rows, which heads of {HEAD_WIDTH} do not divide")
    rows = value[:, :, 0] if value.ndim == 3 else value
    return rows.unflatten(0, (-1, 2, HEAD_WIDTH)).transpose(0, 1).flatten(0, 2)


def _apart(words: Mapping[str, Tensor], shape: GlideTextShape) -> dict[str, Tensor]:
    """The text's tensors with queries, keys and values apart, where GLIDE has each head's together."""
    found = dict(words)
    for name, value in words.items():
        if ".attn.c_qkv." not in name:
            continue
        if len(value) != 3 * shape.width:
            raise ValueError(f"{name} has {len(value)} rows, needed are {3 * shape.width}")
        rows = value.unflatten(0, (shape.heads, 3, -1))
        for k, part in enumerate(("query", "key", "value")):
            found[name.replace("c_qkv", part)] = rows[:, k].flatten(0, 1)
        del found[name]
    return found


def _text_names(shape: GlideTextShape) -> dict[str, str]:
    """Our modules and parameters to theirs, after `_apart`."""
    table = {
        "words": "token_embedding",
        "positions": "positional_embedding",
        "padding": "padding_embedding",
        "norm": "final_ln",
    }
    inside = {"first_norm": "ln_1", "attend.merge": "attn.c_proj", "second_norm": "ln_2"}
    inside |= {"rise": "mlp.c_fc", "fall": "mlp.c_proj"}
    inside |= {f"attend.{part}": f"attn.{part}" for part in ("query", "key", "value")}
    for layer in range(shape.layers):
        for ours, theirs in inside.items():
            table[f"blocks.{layer}.{ours}"] = f"transformer.resblocks.{layer}.{theirs}"
    return table
