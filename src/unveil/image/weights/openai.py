"""Read U-Nets of OpenAI's improved-diffusion and guided-diffusion, upsamplers too: `.pt` state dicts.

Such a file does not record the diffusion, the heads and the order of attention: they are flags of the
scripts, known here for the released files by their names, and given for others as one gave them there.
"""

from collections.abc import Mapping
from math import gcd

from torch import Tensor

from unveil.image.weights.description import DescribedImages, UNet2dShape, axes, checked, under
from unveil.process.schedule import cosine_betas, linear_betas

RELEASE = "openai/guided-diffusion or improved-diffusion"
IMPROVED = (
    "--num_channels 128 --num_res_blocks 3 --learn_sigma True --diffusion_steps 4000 --noise_schedule cosine"
)
ADM = "--learn_sigma True --num_channels 256 --num_head_channels 64 --resblock_updown True"
UPSAMPLER = (
    "--learn_sigma True --class_cond True --num_channels 192 --num_res_blocks 2 --resblock_updown True"
)
LSUN = "--image_size 256 --num_heads 1 --learn_sigma True --use_scale_shift_norm False"
RELEASED = {  # as their READMEs have them
    "64x64_diffusion": "--image_size 64 --learn_sigma True --noise_schedule cosine --num_channels 192 "
    "--num_head_channels 64 --resblock_updown True --use_new_attention_order True",
    "128x128_diffusion": "--image_size 128 --learn_sigma True --num_channels 256 --num_heads 4 "
    "--resblock_updown True",
    "256x256_diffusion": f"--image_size 256 {ADM}",
    "256x256_diffusion_uncond": f"--image_size 256 {ADM}",
    "512x512_diffusion": f"--image_size 512 {ADM}",
    "lsun_bedroom": f"--image_size 256 {ADM}",
    "lsun_cat": f"--image_size 256 {ADM}",
    "lsun_horse": f"--image_size 256 {ADM}",
    "lsun_horse_nodropout": f"--image_size 256 {ADM}",
    "64_256_upsampler": f"--large_size 256 --small_size 64 --num_heads 4 {UPSAMPLER}",
    "128_512_upsampler": f"--large_size 512 --small_size 128 --num_head_channels 64 {UPSAMPLER}",
    "64x64_classifier": "--image_size 64 --classifier_depth 4 --noise_schedule cosine",
    "128x128_classifier": "--image_size 128",
    "256x256_classifier": "--image_size 256",
    "512x512_classifier": "--image_size 512",
    "imagenet64_uncond_100M_1500K": f"--image_size 64 {IMPROVED} --rescale_timesteps True",
    "imagenet64_uncond_vlb_100M_1500K": f"--image_size 64 {IMPROVED} --rescale_timesteps True",
    "imagenet64_cond_270M_250K": "--image_size 64 --num_channels 192 --num_res_blocks 3 --learn_sigma True "
    "--class_cond True --diffusion_steps 4000 --noise_schedule cosine --rescale_timesteps False",
    "cifar10_uncond_50M_500K": f"--image_size 32 {IMPROVED} --rescale_timesteps True",
    "cifar10_uncond_vlb_50M_500K": f"--image_size 32 {IMPROVED} --rescale_timesteps True",
    "lsun_uncond_100M_1200K_bs128": LSUN,
    "lsun_uncond_100M_2400K_bs64": LSUN,
}
# of both repositories; rescale_timesteps differs, and only matters where there are not 1000 steps
DEFAULTS = {
    "image_size": "64",
    "large_size": "256",
    "small_size": "64",
    "classifier_depth": "2",
    "num_heads": "4",
    "num_head_channels": "-1",
    "num_heads_upsample": "-1",
    "use_new_attention_order": "False",
    "diffusion_steps": "1000",
    "noise_schedule": "linear",
    "predict_xstart": "False",
}
TENSORS = """num_channels num_res_blocks learn_sigma class_cond use_scale_shift_norm resblock_updown
    classifier_width classifier_pool classifier_resblock_updown classifier_use_scale_shift_norm"""
"""Names of flags that follow from the tensors, too."""
UNUSED = """attention_resolutions channel_mult dropout use_checkpoint use_fp16 use_kl rescale_learned_sigmas
    sigma_small timestep_respacing model_path batch_size num_samples use_ddim clip_denoised lr ema_rate
    microbatch schedule_sampler weight_decay data_dir classifier_attention_resolutions classifier_use_fp16
    classifier_scale classifier_path base_samples val_data_dir iterations anneal_lr log_interval eval_interval
    save_interval"""
"""Names of flags that do not matter here."""
RESIDUAL = {
    "first_norm": "in_layers.0",
    "first": "in_layers.2",
    "about": "emb_layers.1",
    "second_norm": "out_layers.0",
    "second": "out_layers.3",
    "skip": "skip_connection",
}
ATTENTION = {"norm": "norm", "qkv": "qkv", "merge": "proj_out"}
KNOWN = {*DEFAULTS, *TENSORS.split(), *UNUSED.split(), "rescale_timesteps", "noised"}


def is_unet(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is of these releases: a U-Net or a classifier."""
    return "time_embed.0.weight" in tensors and "input_blocks.0.0.weight" in tensors


def read_flags(text: str, stem: str) -> dict[str, str]:
    """Flags of the scripts: those of `text`, or those of the released file with this name.

    Raises:
        ValueError: neither, or an unknown flag.
    """
    if not text and stem not in RELEASED:
        raise ValueError(
            "it says nothing of its images' size, noise schedule and heads, and is none of the released "
            "files; "
            'give the flags of its training, such as --flags "image_size=64 num_heads=4 diffusion_steps=4000 '
            'noise_schedule=cosine"'
        )
    words = (text or RELEASED[stem]).replace("=", " ").split()
    if len(words) % 2:
        raise ValueError("its flags are not pairs of a name and a value")
    found = {name.lstrip("-"): value for name, value in zip(words[::2], words[1::2], strict=True)}
    if unknown := [name for name in found if name not in KNOWN]:
        raise ValueError(f"there is no flag {unknown[0][:40]} in openai's scripts")
    return found


def describe(tensors: Mapping[str, Tensor], flags: Mapping[str, str]) -> DescribedImages:
    """Describe a model by its tensors and its flags, which must agree.

    Raises:
        ValueError: a variant that our networks do not have.
    """
    it = DEFAULTS | dict(flags)
    time, inputs = axes(tensors, "time_embed.0.weight", 2)[1], axes(tensors, "input_blocks.0.0.weight", 4)[1]
    outputs = axes(tensors, "out.2.weight", 4)[0]
    enlarges = is_upsampler(tensors)
    channels = inputs // 2 if enlarges else inputs
    if outputs not in (channels, 2 * channels):
        raise ValueError(f"it makes {outputs} channels of {inputs}")
    size, upsample = _sizes(it, flags, enlarges)
    levels, blocks, big_gan = levels_of(tensors)
    sizes, attention, scale_shift = way_down(tensors, levels, blocks)
    labels = axes(tensors, "label_emb.weight", 2)[0] if "label_emb.weight" in tensors else 0
    heads, head_width = whole(it, "num_heads"), max(whole(it, "num_head_channels"), 0)
    if whole(it, "num_heads_upsample") not in (-1, heads):
        raise ValueError("its attention has other heads going up than going down (num_heads_upsample)")
    unit = gcd(*sizes)
    network = UNet2dShape(
        channels,
        unit,
        tuple(n // unit for n in sizes),
        blocks,
        attention,
        head_width,
        labels,
        scale_shift=scale_shift,
        big_gan=big_gan,
        learned_variance=outputs == 2 * channels,
        groups=32,
        norm_epsilon=1e-5,
        heads=heads,
        time_width=time,
        cosine_first=True,
        inclusive=False,
        concat=channels if enlarges else 0,
    )
    implied = {
        "num_channels": time,
        "num_res_blocks": blocks,
        "learn_sigma": network.learned_variance,
        "class_cond": labels > 0,
        "use_scale_shift_norm": network.scale_shift,
    } | ({"resblock_updown": network.big_gan} if levels > 1 else {})
    agree(implied, it)
    betas, scale = table(it)
    predicts = "x0" if yes(it, "predict_xstart") else "eps"
    variance = "learned variance" if network.learned_variance else "fixed large variance (--variance large)"
    sampler = f"ancestral, {variance}, clipped"
    return checked(DescribedImages(RELEASE, network, size, betas, predicts, scale, sampler, upsample))


def levels_of(tensors: Mapping[str, Tensor]) -> tuple[int, int, bool]:
    """Number of levels, of blocks per level, and whether sides change inside residual blocks.

    Raises:
        ValueError: levels are unlike each other.
    """
    rising = [j for j in range(_count(tensors, "output_blocks")) if _rises(tensors, j) is not None]
    blocks = rising[0] if rising else _count(tensors, "output_blocks") - 1
    levels = len(rising) + 1
    if blocks < 1 or levels > 8 or rising != [(k + 1) * (blocks + 1) - 1 for k in range(levels - 1)]:
        raise ValueError("its levels have unlike numbers of blocks")
    kinds = {_rises(tensors, j) for j in rising}
    if len(kinds) > 1:
        raise ValueError("its sides change by convolutions at some levels, by residual blocks at others")
    return levels, blocks, kinds == {"block"}


def way_down(
    tensors: Mapping[str, Tensor], levels: int, blocks: int
) -> tuple[list[int], tuple[int, ...], bool]:
    """Channels of each level on the way down, the levels with attention, and whether AdaGN is used."""
    starts = [1 + k * (blocks + 1) for k in range(levels)]
    sizes = [axes(tensors, f"input_blocks.{i}.0.out_layers.0.weight", 1)[0] for i in starts]
    rows = axes(tensors, "input_blocks.1.0.emb_layers.1.weight", 2)[0]
    attention = tuple(k for k, i in enumerate(starts) if f"input_blocks.{i}.1.qkv.weight" in tensors)
    return sizes, attention, rows == 2 * sizes[0]


def agree(implied: Mapping[str, bool | int | str], flags: Mapping[str, str]) -> None:
    """Refuse flags that the tensors contradict.

    Raises:
        ValueError: the first of them.
    """
    for name, value in implied.items():
        known = (str(value).lower(), str(int(value)) if not isinstance(value, str) else value)
        if name in flags and flags[name].lower() not in known:
            raise ValueError(f"its tensors say {name} {value}, the flags {flags[name][:20]}")


def table(flags: Mapping[str, str]) -> tuple[tuple[float, ...], float]:
    """The betas of the flags, and the factor of the time input, the index of an entry counted from 0.

    Raises:
        ValueError: an unknown schedule, or another number of steps than 1000 without `rescale_timesteps`.
    """
    steps, schedule = whole(flags, "diffusion_steps"), flags["noise_schedule"]
    if schedule not in ("linear", "cosine") or not 1 < steps <= 100_000:
        raise ValueError(
            f"its noise_schedule is {schedule[:40]} of {steps} steps; linear and cosine are known"
        )
    if steps != 1000 and "rescale_timesteps" not in flags:
        raise ValueError(
            "with another number of steps than 1000, such as 4000, the flag rescale_timesteps is needed: "
            "True by default in improved-diffusion"
        )
    scale = 1000.0 / steps if "rescale_timesteps" in flags and yes(flags, "rescale_timesteps") else 1.0
    betas = cosine_betas(steps) if schedule == "cosine" else linear_betas(steps, 0.1 / steps, 20.0 / steps)
    return tuple(betas.tolist()), scale


def is_upsampler(tensors: Mapping[str, Tensor]) -> bool:
    """Whether its input has twice the channels of its output: a noisy image and an enlarged one."""
    inputs, outputs = axes(tensors, "input_blocks.0.0.weight", 4)[1], axes(tensors, "out.2.weight", 4)[0]
    return inputs in (2, 6) and outputs in (inputs, inputs // 2)


def _sizes(it: Mapping[str, str], given: Mapping[str, str], enlarges: bool) -> tuple[int, int]:
    """Side of the images, and the enlargement of an upsampler."""
    foreign, kind = ("large_size", "small_size"), "no upsampler; its flag is image_size"
    if enlarges:
        foreign, kind = ("image_size",), "an upsampler, whose flags are large_size and small_size"
    if wrong := [name for name in foreign if name in given]:
        raise ValueError(f"its flags have {wrong[0]}, but it is {kind}")
    if not enlarges:
        return whole(it, "image_size"), 1
    large, small = whole(it, "large_size"), whole(it, "small_size")
    if not 0 < small < large or large % small:
        raise ValueError(f"its small_size {small} does not divide its large_size {large}")
    return large, large // small


def ordered(tensors: Mapping[str, Tensor], heads: int, head_width: int, older: bool) -> dict[str, Tensor]:
    """Attention's convolutions as matrices; queries of all heads first, where the older order has each head's
    q, k, v together.

    Args:
        heads: of attention where `head_width` is 0.
    """
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        head, _, end = name.rpartition(".")
        if head.endswith((".qkv", ".proj_out")) and end == "weight" and value.ndim == 3:
            value = value[:, :, 0]
        if head.endswith(".qkv") and older and value.ndim and not len(value) % 3:
            count = len(value) // 3 // head_width if head_width else heads
            if not count or len(value) % (3 * count):
                raise ValueError(f"{name} has {len(value)} rows, which {count} heads do not divide")
            value = value.unflatten(0, (count, 3, -1)).transpose(0, 1).flatten(0, 2)
        found[name] = value
    return found


def names(shape: UNet2dShape) -> dict[str, str]:
    """Our modules to theirs, after `ordered`."""
    levels = len(shape.multiples)
    table = first_half(levels, shape.blocks) | {"label": "label_emb", "leave": "out.2"}
    at = 0
    for j in range(levels * (shape.blocks + 1)):
        table |= _residual(f"up.{at}.0", f"output_blocks.{j}.0")
        table |= under(f"up.{at}.1", f"output_blocks.{j}.1", ATTENTION)
        at += 1
        level = levels - 1 - j // (shape.blocks + 1)
        if level and not (j + 1) % (shape.blocks + 1):
            table |= _residual(f"up.{at}.0", f"output_blocks.{j}.{1 + (level in shape.attention)}", "conv")
            at += 1
    return table


def first_half(levels: int, blocks: int) -> dict[str, str]:
    """Our modules to theirs: the time, the way down, the middle, and the last norm."""
    table = {"time.0": "time_embed.0", "time.2": "time_embed.2", "enter": "input_blocks.0.0", "norm": "out.0"}
    for i in range(levels * (blocks + 1) - 1):
        table |= _residual(f"down.{i}.0", f"input_blocks.{i + 1}.0", "op")
        table |= under(f"down.{i}.1", f"input_blocks.{i + 1}.1", ATTENTION)
    table |= _residual("middle.0", "middle_block.0") | _residual("middle.2", "middle_block.2")
    return table | under("middle.1", "middle_block.1", ATTENTION)


def _residual(ours: str, theirs: str, conv: str = "") -> dict[str, str]:
    return under(ours, theirs, RESIDUAL | {"conv": conv})


def _rises(tensors: Mapping[str, Tensor], block: int) -> str | None:
    """The module by which an output block doubles the sides at its end, if it does."""
    for place in (1, 2):
        if f"output_blocks.{block}.{place}.conv.weight" in tensors:
            return "convolution"
        if f"output_blocks.{block}.{place}.in_layers.0.weight" in tensors:
            return "block"
    return None


def _count(tensors: Mapping[str, Tensor], name: str) -> int:
    count = 0
    while f"{name}.{count}.0.in_layers.0.weight" in tensors:
        count += 1
    return count


def whole(flags: Mapping[str, str], name: str) -> int:
    """A flag that is a number; -1 stands for none.

    Raises:
        ValueError: it is none, or too large.
    """
    try:
        value = int(flags[name])
    except ValueError as error:
        raise ValueError(f"its flag {name} is {flags[name][:20]}, not a whole number") from error
    if not (0 < value < 10**6 or value == -1):
        raise ValueError(f"its flag {name} is {value}")
    return value


def yes(flags: Mapping[str, str], name: str) -> bool:
    """A flag that is True or False.

    Raises:
        ValueError: it is neither.
    """
    if flags[name].lower() not in ("true", "false", "1", "0", "yes", "no", "t", "f", "y", "n"):
        raise ValueError(f"its flag {name} is {flags[name][:20]}, neither True nor False")
    return flags[name].lower() in ("true", "1", "yes", "t", "y")
