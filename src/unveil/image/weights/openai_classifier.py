"""Classifiers of noisy images of openai's guided-diffusion: `.pt` files of one state dict, under our names.

Dhariwal & Nichol 2021, section 4; `EncoderUNetModel` there: the first half of the U-Net with attention
pooling. Such a file says nothing of the diffusion whose noise it knows, nor how many of its blocks stand
between two levels: they are flags, as of the U-Nets.
"""

from collections.abc import Mapping

from torch import Tensor

from unveil.image.weights.description import Classifier2dShape, DescribedImages, axes, check_images
from unveil.image.weights.openai import DEFAULTS, RELEASE, agree, first_half, ordered, table, whole, yes

HEAD_WIDTH = 64  # of all attention; there is no flag for it
POOLS = {  # a tensor of each and its axes
    "attention": ("out.2.positional_embedding", 2),
    "adaptive": ("out.3.weight", 4),
    "spatial_v2": ("out.3.weight", 2),
    "spatial": ("out.2.weight", 2),
}


def is_classifier(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a state dict of these releases ends in the middle."""
    return not any(name.startswith("output_blocks.") for name in tensors)


def describe(tensors: Mapping[str, Tensor], flags: Mapping[str, str]) -> DescribedImages:
    """What a classifier is, of its tensors and its flags, which must agree.

    Raises:
        ValueError: a variant that ours cannot be.
    """
    it = DEFAULTS | dict(flags)
    pool = [name for name, (end, count) in POOLS.items() if end in tensors and tensors[end].ndim == count]
    if not pool:
        raise ValueError("it has neither a U-Net's output blocks nor a classifier's pool")
    if pool[0] != "attention":
        raise ValueError(f"it is a classifier with classifier_pool {pool[0]}; only attention can be read")
    if "noised" in it and not yes(it, "noised"):
        raise ValueError("it is a classifier of clean images (noised False), which cannot guide")
    time, channels = (
        axes(tensors, "time_embed.0.weight", 2)[1],
        axes(tensors, "input_blocks.0.0.weight", 4)[1],
    )
    classes, places = (
        axes(tensors, "out.2.c_proj.weight", 3)[0],
        axes(tensors, "out.2.positional_embedding", 2)[1] - 1,
    )
    if classes < 2:
        raise ValueError(f"it tells {classes} class apart, and at least 2 are needed")
    size, blocks, count = whole(it, "image_size"), whole(it, "classifier_depth"), _count(tensors)
    levels, rest = divmod(count + 1, blocks + 1)
    if (
        blocks < 1
        or rest
        or not 1 <= levels <= 8
        or size % 2 ** (levels - 1)
        or places != (size // 2 ** (levels - 1)) ** 2
    ):
        raise ValueError(
            f"its {count} blocks and pool of {places} places are not of image_size {size} and classifier_depth {blocks}; give both flags"
        )
    convolutions = [i for i in range(1, count + 1) if f"input_blocks.{i}.0.op.weight" in tensors]
    if convolutions and convolutions != [k * (blocks + 1) for k in range(1, levels)]:
        raise ValueError(f"its levels have not {blocks} blocks each (classifier_depth)")
    starts = [1 + k * (blocks + 1) for k in range(levels)]
    sizes = [axes(tensors, f"input_blocks.{i}.0.out_layers.0.weight", 1)[0] for i in starts]
    if any(number % sizes[0] for number in sizes):
        raise ValueError(
            f"its levels have {', '.join(map(str, sizes))} channels, not all multiples of the first's"
        )
    about = axes(tensors, "input_blocks.1.0.emb_layers.1.weight", 2)[0]
    network = Classifier2dShape(
        size,
        channels,
        classes,
        sizes[0],
        tuple(number // sizes[0] for number in sizes),
        blocks,
        tuple(k for k, i in enumerate(starts) if f"input_blocks.{i}.1.qkv.weight" in tensors),
        HEAD_WIDTH,
        scale_shift=about == 2 * sizes[0],
        big_gan=levels > 1 and not convolutions,
        groups=32,
        norm_epsilon=1e-5,
        time_width=time,
        cosine_first=True,
        inclusive=False,
    )
    said: dict[str, bool | int | str] = {
        "classifier_pool": "attention",
        "classifier_width": time,
        "classifier_use_scale_shift_norm": network.scale_shift,
    } | ({"classifier_resblock_updown": network.big_gan} if levels > 1 else {})
    agree(said, it)
    betas, scale = table(it)
    found = DescribedImages(
        RELEASE, network, size, betas, "class", scale, "leads a model's samples towards a class"
    )
    check_images(found)
    return found


def pooled(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Attention as `ordered`, always in the older order; the pool's, always in the newer, as the query's rows
    and key's and value's."""
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
    pool = {
        "pool.place": "out.2.positional_embedding",
        "pool.query": "out.2.query",
        "pool.key_value": "out.2.key_value",
    }
    return first_half(len(shape.multiples), shape.blocks) | pool | {"leave": "out.2.c_proj"}


def _count(tensors: Mapping[str, Tensor]) -> int:
    """How many input blocks follow the first convolution, halving ones among them."""
    count = 0
    while any(f"input_blocks.{count + 1}.0.{part}.weight" in tensors for part in ("in_layers.0", "op")):
        count += 1
    return count
