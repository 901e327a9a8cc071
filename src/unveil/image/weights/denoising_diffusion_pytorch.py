"""Read milestones of denoising-diffusion-pytorch, `model-<n>.pt` of its `Trainer`.

Such a file has `model`, the state dict of a `GaussianDiffusion` with its table of betas, `ema`, `step` and
the optimizer, which is not read. What the network's output means follows from the loss's weights, which are a
buffer; the images' side is in no tensor.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from unveil.image.weights.description import DescribedImages, LinearUNet2dShape, axes, checked, under

RELEASE = "lucidrains/denoising-diffusion-pytorch"
AVERAGE = "ema_model."
RESIDUAL = {
    "about": "mlp.1",
    "first": "block1.proj",
    "first_norm.gain": "block1.norm.g",
    "second": "block2.proj",
    "second_norm.gain": "block2.norm.g",
    "skip": "res_conv",
}
ATTENTION = {"norm.gain": "norm.g", "memory": "mem_kv", "qkv": "to_qkv", "merged_norm.gain": "to_out.1.g"}


def is_milestone(tensors: Mapping[str, Tensor]) -> bool:
    """Whether `model` of a file is a `GaussianDiffusion`, of any network."""
    return "betas" in tensors and any(name.startswith("model.") for name in tensors)


def describe(tensors: Mapping[str, Tensor], size: int) -> DescribedImages:
    """Describe a model by the tensors of a `GaussianDiffusion`.

    Args:
        size: side of its images in pixels.
    Raises:
        ValueError: a variant that our networks do not have.
    """
    if size < 1:
        raise ValueError(
            "it does not say its images' size; give `size`, the image_size of its GaussianDiffusion"
        )
    if "model.init_conv.weight" not in tensors or "model.downs.0.2.mem_kv" not in tensors:
        raise ValueError(
            "its network is not the Unet of version 1.10 or later (init_conv, mem_kv); older ones and others "
            "are not read"
        )
    if "model.time_mlp.0.weights" in tensors:
        raise ValueError("its time goes through random or learned frequencies, which are not read")
    width, inputs = axes(tensors, "model.init_conv.weight", 4)[:2]
    outputs = axes(tensors, "model.final_conv.weight", 4)[0]
    if inputs == 2 * outputs:
        raise ValueError("it is conditional on its own last belief (self_condition), ours is not")
    if outputs not in (inputs, 2 * inputs):
        raise ValueError(f"it makes {outputs} channels of {inputs}")
    levels = 0
    while f"model.downs.{levels}.2.mem_kv" in tensors:
        levels += 1
    full = tuple(f"model.downs.{k}.2.to_out.weight" in tensors for k in range(levels))
    memories = [axes(tensors, f"model.downs.{k}.2.mem_kv", 4) for k in range(levels)]
    ends = [f"model.downs.{k}.3.{'1.' if k + 1 < levels else ''}weight" for k in range(levels)]
    network = LinearUNet2dShape(
        inputs,
        axes(tensors, "model.time_mlp.1.weight", 2)[1],
        (width, *(axes(tensors, name, 4)[0] for name in ends)),
        tuple(shape[1] for shape in memories),
        tuple(shape[3] if whole else shape[2] for shape, whole in zip(memories, full, strict=True)),
        full,
        learned_variance=outputs == 2 * inputs,
    )
    axes(tensors, "betas", 1)
    betas = tensors["betas"].double()
    target, sampler = predicts(betas, tensors), "ancestral or ddim, clipped; its images are in -1 .. 1"
    return checked(DescribedImages(RELEASE, network, size, tuple(betas.tolist()), target, 1.0, sampler))


def predicts(betas: Tensor, tensors: Mapping[str, Tensor]) -> Literal["eps", "x0", "v"]:
    """The prediction target by the weights of the loss: 1 of noise, SNR of x_0, SNR / (1 + SNR) of v, where
    min-SNR does not bound them.

    Raises:
        ValueError: no such weights.
    """
    axes(tensors, "loss_weight", 1)
    weight, kept = tensors["loss_weight"].double(), (1.0 - betas).cumprod(0)
    snr = kept / (1.0 - kept)
    middle = (snr > 0.2) & (snr < 0.8)  # a bound below 0.8 is nowhere used
    if len(weight) == len(snr) and bool(middle.any()):
        for name, wanted in (("eps", torch.ones_like(snr)), ("x0", snr), ("v", snr / (1.0 + snr))):
            if torch.allclose(weight[middle], wanted[middle], rtol=1e-3):
                return name  # pyright: ignore[reportReturnType]
    raise ValueError("its loss_weight does not say whether it predicts noise, x0 or v")


def network_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The network's tensors in our shapes: gains (C, 1, 1), memories with the width last."""
    own = {n.removeprefix("model."): value for n, value in tensors.items() if n.startswith("model.")}
    found: dict[str, Tensor] = {}
    for name, value in own.items():
        if name.endswith(".g") and value.ndim == 4 and len(value) == 1:
            value = value[0]
        if name.endswith(".mem_kv") and value.ndim == 4 and name.replace("mem_kv", "to_out.0.weight") in own:
            value = value.transpose(-1, -2)
        found[name] = value
    return found


def names(shape: LinearUNet2dShape) -> dict[str, str]:
    """Our modules to theirs, after `network_tensors`."""
    table = {"time.0": "time_mlp.1", "time.2": "time_mlp.3", "enter": "init_conv", "leave": "final_conv"}

    def attention(full: bool) -> dict[str, str]:
        return ATTENTION | {"merge": "to_out" if full else "to_out.0"}

    levels = len(shape.full)
    for k in range(levels):
        change = ".1" if k + 1 < levels else ""
        for ours, theirs, full in (
            (f"down.{k}", f"downs.{k}", shape.full[k]),
            (f"up.{k}", f"ups.{k}", shape.full[-1 - k]),
        ):
            table |= under(f"{ours}.0", f"{theirs}.0", RESIDUAL) | under(f"{ours}.1", f"{theirs}.1", RESIDUAL)
            table |= under(f"{ours}.2", f"{theirs}.2", attention(full)) | {f"{ours}.3": f"{theirs}.3{change}"}
    for ours, theirs in (("middle.0", "mid_block1"), ("middle.2", "mid_block2"), ("last", "final_res_block")):
        table |= under(ours, theirs, RESIDUAL)
    return table | under("middle.1", "mid_attn", attention(full=True))
