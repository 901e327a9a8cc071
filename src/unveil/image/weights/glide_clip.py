"""Read GLIDE's CLIP of noisy images: two flat state dicts without a config, one for each tower."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from unveil.errors import UnveilError
from unveil.files.reading import reading
from unveil.files.shards import Stored
from unveil.image.networks.glide_clip import (
    GlideClipImage,
    GlideClipImageShape,
    GlideClipText,
    GlideClipTextShape,
)
from unveil.image.weights.description import axes, renamed
from unveil.image.weights.glide import stored_in
from unveil.image.weights.stable_diffusion_files import contents, read_stored

HEAD_WIDTH = 64  # of both towers
LOGIT_SCALE = 100.0  # fixed, and not in the files
Tower = Literal["image", "text"]
Network = TypeVar("Network", bound=nn.Module)
BLOCK = {
    "first_norm.weight": "f_attn.ln.g",
    "first_norm.bias": "f_attn.ln.b",
    "attend.query.weight": "f_attn.f_q.w",
    "attend.query.bias": "f_attn.f_q.b",
    "attend.key.weight": "f_attn.f_k.w",
    "attend.value.weight": "f_attn.f_v.w",
    "attend.value.bias": "f_attn.f_v.b",
    "attend.merge.weight": "f_attn.f_c.w",
    "attend.merge.bias": "f_attn.f_c.b",
    "second_norm.weight": "f_mlp.ln.g",
    "second_norm.bias": "f_mlp.ln.b",
    "rise.weight": "f_mlp.f_1.w",
    "rise.bias": "f_mlp.f_1.b",
    "fall.weight": "f_mlp.f_2.w",
    "fall.bias": "f_mlp.f_2.b",
}
OUTPUT = {"norm.weight": "ln.g", "norm.bias": "ln.b", "projection.weight": "f.w"}
INPUT = {
    "image": {
        "patches.weight": "patch_proj",
        "times.weight": "w_t",
        "positions": "w_pos",
        "first_norm.weight": "ln.g",
        "first_norm.bias": "ln.b",
    },
    "text": {"words.weight": "w_voc", "positions": "w_pos"},
}


class FoundGlideClip(NamedTuple):
    """The two files of a CLIP, whose headers were read."""

    files: tuple[Path, Path]
    image: GlideClipImageShape
    text: GlideClipTextShape
    stored: tuple[Mapping[str, Stored], Mapping[str, Stored]]


def tower_of(stored: Mapping[str, Stored]) -> Tower | None:
    """Which tower names of tensors are those of; None: neither."""
    if "blocks.input.w_voc" in stored:
        return "text"
    return "image" if {"blocks.input.w_t", "blocks.input.patch_proj"} <= stored.keys() else None


def find_glide_clip(file: Path) -> FoundGlideClip:
    """Find both towers; the other one is beside `file`, its name with "text" for "image", or the reverse.

    Raises:
        UnveilError: the other is not there; damaged, truncated, or a variant that ours is not.
    """
    tower = tower_of(stored_in(file))
    words = ("image", "text") if tower == "image" else ("text", "image")
    other = file.with_name(file.name.replace(*words))
    if tower is None or tower_of(stored_in(other)) != words[1]:
        place = f"put the {words[1]} tower beside it, as {other.name}"
        if other == file:
            place = "name the files clip_image_enc.pt and clip_text_enc.pt"
        raise UnveilError(f"{file}: one tower of GLIDE's CLIP; {place}")
    files = (file, other) if tower == "image" else (other, file)
    stored = (contents(files[0]).stored, contents(files[1]).stored)
    blank = [{n: torch.empty(it.shape, device="meta") for n, it in part.items()} for part in stored]
    with reading(files[0], "a CLIP that cannot be used"):
        image = image_shape(blank[0])
    with reading(files[1], "a CLIP that cannot be used"):
        text = text_shape(blank[1])
        if image.embedding != text.embedding:
            raise ValueError(
                f"its embeddings have {text.embedding} numbers, those of {files[0].name} {image.embedding}"
            )
    return FoundGlideClip(files, image, text, stored)


def image_shape(tensors: Mapping[str, Tensor]) -> GlideClipImageShape:
    """The shape of an image tower.

    Raises:
        ValueError: a variant that ours is not.
    """
    width, colours, patch, _ = axes(tensors, "blocks.input.patch_proj", 4)
    side = round((axes(tensors, "blocks.input.w_pos", 2)[0] - 1) ** 0.5)
    if colours != 3 or width % HEAD_WIDTH:
        raise ValueError(
            f"its patches have {colours} colours and {width} numbers; 3 and a multiple of 64 are read"
        )
    steps, embedding = axes(tensors, "blocks.input.w_t", 2)[0], axes(tensors, "blocks.output.f.w", 2)[0]
    return GlideClipImageShape(
        side * patch, patch, width, _layers(tensors), width // HEAD_WIDTH, embedding, steps
    )


def text_shape(tensors: Mapping[str, Tensor]) -> GlideClipTextShape:
    """The shape of a text tower.

    Raises:
        ValueError: a variant that ours is not.
    """
    vocabulary, width = axes(tensors, "blocks.input.w_voc", 2)
    length, embedding = axes(tensors, "blocks.input.w_pos", 2)[0], axes(tensors, "blocks.output.f.w", 2)[0]
    if width % HEAD_WIDTH:
        raise ValueError(f"its tokens have {width} numbers; a multiple of 64 is read")
    return GlideClipTextShape(vocabulary, length, width, _layers(tensors), width // HEAD_WIDTH, embedding)


def read_glide_clip(found: FoundGlideClip) -> tuple[GlideClipImage, GlideClipText]:
    """Both towers, float32.

    Raises:
        UnveilError: damaged, or not the tensors of such a tower.
    """
    image, text = (read_stored(part) for part in found.stored)
    with reading(found.files[0], "a CLIP that cannot be used"):
        seeing = _filled(GlideClipImage(found.image), placed_tower(image, "image", found.image))
    with reading(found.files[1], "a CLIP that cannot be used"):
        return seeing, _filled(GlideClipText(found.text), placed_tower(text, "text", found.text))


def placed_tower(
    tensors: Mapping[str, Tensor], tower: Tower, shape: GlideClipImageShape | GlideClipTextShape
) -> dict[str, Tensor]:
    """Tensors of a tower under our names.

    Raises:
        ValueError: a tensor is missing, unexpected, of another shape or not finite.
    """
    table = {ours: f"blocks.input.{theirs}" for ours, theirs in INPUT[tower].items()}
    table |= {ours: f"blocks.output.{theirs}" for ours, theirs in OUTPUT.items()}
    for layer in range(shape.layers):
        table |= {
            f"blocks.{layer}.{ours}": f"blocks.block_{layer}.{theirs}" for ours, theirs in BLOCK.items()
        }
    with torch.device("meta"):
        empty = GlideClipImage(shape) if isinstance(shape, GlideClipImageShape) else GlideClipText(shape)
    return renamed(tensors, table, empty, torch.float32)


def _filled(network: Network, tensors: dict[str, Tensor]) -> Network:
    network.load_state_dict(tensors)
    return network.eval()


def _layers(tensors: Mapping[str, Tensor]) -> int:
    count = 0
    while f"blocks.block_{count}.f_attn.f_q.w" in tensors:
        count += 1
    return count
