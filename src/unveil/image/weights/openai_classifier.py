"""Read classifiers of noisy images of OpenAI's guided-diffusion: `.pt` state dicts.

Dhariwal & Nichol 2021, section 4; `EncoderUNetModel` there: the first half of the U-Net with attention
pooling. Such a file says nothing of the diffusion whose noise it knows, nor how many of its blocks stand
between two levels: they are flags, as of the U-Nets.
"""

from collections.abc import Mapping

from torch import Tensor

from unveil.image.weights.description import Classifier2dShape, DescribedImages, axes, checked, under
from unveil.image.weights.openai import (
    DEFAULTS,
    RELEASE,
    agree,
    first_half,
    ordered,
    table,
    way_down,
    whole,
    yes,
)

HEAD_WIDTH = 64  # of all attention; there is no flag for it
POOLS = {  # a tensor of each and its axes
    "attention": ("out.2.positional_embedding", 2),
    "adaptive": ("out.3.weight", 4),
    "spatial_v2": ("out.3.weight", 2),
    "spatial": ("out.2.weight", 2),
}


def is_classifier(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a state dict of these releases has no way up."""
    return not any(name.startswith("output_blocks.") for name in tensors)


def describe(tensors: Mapping[str, Tensor], flags: Mapping[str, str]) -> DescribedImages:
    """Describe a classifier by its tensors and its flags, which must agree.

    Raises:
        ValueError: a variant that our networks do not have.
    """
    it = DEFAULTS | dict(flags)
    pool = [name for name, (end, count) in POOLS.items() if end in tensors and tensors[end].ndim == count]
    if not pool:
        raise ValueError("it has neither a U-Net's output blocks nor a classifier's pool")
    if pool[0] != "attention":
        raise ValueError(f"it is a classifier with classifier_pool {pool[0]}; only attention can be read")
    if "noised" in it and not yes(it, "noised"):
        raise ValueError("it is a classifier of clean images (noised False), which cannot guide")
    time = axes(tensors, "time_embed.0.weight", 2)[1]
    channels = axes(tensors, "input_blocks.0.0.weight", 4)[1]
    classes = axes(tensors, "out.2.c_proj.weight", 3)[0]
    positions = axes(tensors, "out.2.positional_embedding", 2)[1] - 1
    if classes < 2:
        raise ValueError(f"it has {classes} class, and at least 2 are needed")
    size, blocks, count = whole(it, "image_size"), whole(it, "classifier_depth"), _count(tensors)
    levels, rest = divmod(count + 1, blocks + 1)
    fits = blocks > 0 and not rest and 1 <= levels <= 8 and not size % 2 ** (levels - 1)
    if not fits or positions != (size // 2 ** (levels - 1)) ** 2:
        raise ValueError(
            f"its {count} blocks and pool of {positions} positions are not of image_size {size} and "
            f"classifier_depth {blocks}; give both flags"
        )
    convolutions = [i for i in range(1, count + 1) if f"input_blocks.{i}.0.op.weight" in tensors]
    if convolutions and convolutions != [k * (blocks + 1) for k in range(1, levels)]:
        raise ValueError(f"its levels have not {blocks} blocks each (classifier_depth)")
    sizes, attention, scale_shift = way_down(tensors, levels, blocks)
    if any(number % sizes[0] for number in sizes):
        raise ValueError(
            f"its levels have {', '.join(map(str, sizes))} channels, not all multiples of the first's"
        )
    network = Classifier2dShape(
        size,
        channels,
        classes,
        sizes[0],
        tuple(number // sizes[0] for number in sizes),
        blocks,
        attention,
        HEAD_WIDTH,
        scale_shift=scale_shift,
        big_gan=levels > 1 and not convolutions,
        groups=32,
        norm_epsilon=1e-5,
        time_width=time,
        cosine_first=True,
        inclusive=False,
    )
    implied: dict[str, bool | int | str] = {
        "classifier_pool": "attention",
        "classifier_width": time,
        "classifier_use_scale_shift_norm": network.scale_shift,
    } | ({"classifier_resblock_updown": network.big_gan} if levels > 1 else {})
    agree(implied, it)
    betas, scale = table(it)
    sampler = "guides a model's samples towards a class"
    return checked(DescribedImages(RELEASE, network, size, betas, "class", scale, sampler))


def pooled(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with queries first.

    Attention is always in the older order, see `ordered`, the pool's always in the newer one; its matrix is
    divided into that of the query and that of keys and values."""
    found = ordered(tensors, 1, HEAD_WIDTH, older=True)
    channels = axes(tensors, "out.2.positional_embedding", 2)[0]
    found["out.2.positional_embedding"] = found["out.2.positional_embedding"].T
    for end in ("weight", "bias"):
        if (value := found.pop(f"out.2.qkv_proj.{end}", None)) is None or len(value) != 3 * channels:
            raise ValueError(f"out.2.qkv_proj.{end} is missing, or has not {3 * channels} rows")
        value = value.flatten(1) if value.ndim > 1 else value
        found[f"out.2.query.{end}"], found[f"out.2.key_value.{end}"] = value[:channels], value[channels:]
    found["out.2.c_proj.weight"] = found["out.2.c_proj.weight"].flatten(1)
    return found


def names(shape: Classifier2dShape) -> dict[str, str]:
    """Our modules to theirs, after `pooled`."""
    pool = {"place": "positional_embedding", "query": "query", "key_value": "key_value"}
    half = first_half(len(shape.multiples), shape.blocks)
    return half | under("pool", "out.2", pool) | {"leave": "out.2.c_proj"}


def _count(tensors: Mapping[str, Tensor]) -> int:
    """Number of input blocks after the first convolution, with those that halve the sides."""
    count = 0
    while any(f"input_blocks.{count + 1}.0.{part}.weight" in tensors for part in ("in_layers.0", "op")):
        count += 1
    return count
