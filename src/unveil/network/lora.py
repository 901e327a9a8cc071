"""Low-rank adaptation: a frozen linear map and a small change of it, W x + (alpha / rank) B A x. Hu et al. 2022 (LoRA), section 4.1."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from numbers import Integral, Real
from typing import Any, cast

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class LoRA:
    """What is adapted, and how much.

    Args:
        rank: of the change B A.
        alpha: its scale is alpha / rank.
        targets: last parts of the names of linear maps; every one so named is adapted. A name that ends the path of a map alone, such as
            "ff_out" of blocks, does not take a map of that name outside the blocks, such as the head.
    Raises:
        ValueError: rank < 1, alpha not above 0, or no targets.
    """

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "attn_out")

    def __post_init__(self) -> None:
        rank, alpha, targets = cast(tuple[Any, Any, Any], (self.rank, self.alpha, self.targets))
        if isinstance(rank, bool) or not isinstance(rank, Integral) or rank < 1:
            raise ValueError(f"LoRA: rank must be a whole number, at least 1, got {rank!r}")
        if isinstance(alpha, bool) or not isinstance(alpha, Real) or not 0.0 < float(alpha) < inf:
            raise ValueError(f"LoRA: alpha must be a finite number above 0, got {alpha!r}")
        if (
            isinstance(targets, str)
            or not targets
            or not all(isinstance(target, str) and target for target in targets)
        ):
            raise ValueError(
                f"LoRA: targets must be a list of names of linear maps, such as ('q_proj', 'v_proj'), got {targets!r}"
            )

    @property
    def scale(self) -> float:
        """alpha / rank."""
        return self.alpha / self.rank


class AdaptedLinear(nn.Module):
    """base(x) + scale B A x, with A (rank, in) and B (out, rank); B starts at zero, so that nothing changes at first.

    A is drawn as `nn.Linear` draws, from torch's global generator, as all first weights are.
    """

    def __init__(self, base: nn.Linear, lora: LoRA) -> None:
        super().__init__()
        self.base, self.scale = base.requires_grad_(False), lora.scale
        place = base.weight.device
        self.lora_A = nn.Linear(base.in_features, lora.rank, bias=False, device=place)
        self.lora_B = nn.Linear(lora.rank, base.out_features, bias=False, device=place)
        nn.init.zeros_(self.lora_B.weight)
        self.before: Tensor | None = None

    @property
    def merged(self) -> bool:
        """Whether the change is in the base's matrix."""
        return self.before is not None

    def forward(self, x: Tensor) -> Tensor:
        out = self.base(x)
        if self.merged:
            return out
        return out + self.scale * self.lora_B(self.lora_A(x.to(self.lora_A.weight.dtype))).to(out.dtype)

    @torch.no_grad()
    def merge(self) -> None:
        """W + scale B A in place of W, which is kept: forwards cost nothing more. In the matrix's type, the sum in float32 or finer."""
        if not self.merged:
            self.before = self.base.weight.data
            change = self.scale * (self.lora_B.weight.double() @ self.lora_A.weight.double())
            self.base.weight.data = (self.before.double() + change).to(self.before.dtype)

    def unmerge(self) -> None:
        """The very matrix that was there, bit for bit."""
        if self.before is not None:
            self.base.weight.data, self.before = self.before, None


def add_lora(network: nn.Module, lora: LoRA) -> nn.Module:
    """Adapt linear maps of a network in place, freeze all its other weights, and return what is to be trained.

    Returns:
        A module tree of A's and B's alone, the network's own, with parameters such as `blocks.0.q_proj.lora_A.weight`: its state is an
        adapter's, and small.
    Raises:
        ValueError: the network is adapted already, or has no linear map of a target's name.
    """
    if any(True for _ in adapted(network)):
        raise ValueError("this network is adapted already; merge and strip it first")
    wanted = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and "." in name and name.rsplit(".", 1)[1] in lora.targets
    }
    lacking = [target for target in lora.targets if not any(name.endswith(f".{target}") for name in wanted)]
    if lacking:
        raise ValueError(f"LoRA: the network has no linear map named {', '.join(lacking)}")
    network.requires_grad_(False)
    for name, module in wanted.items():
        parent, _, last = name.rpartition(".")
        setattr(network.get_submodule(parent), last, AdaptedLinear(module, lora))
    return adapters(network)


def adapters(network: nn.Module) -> nn.Module:
    """The A's and B's of an adapted network as a module tree of their own; they are shared with it."""
    tree = nn.Module()
    for name, module in adapted(network):
        here = tree
        for part in name.split("."):
            if not hasattr(here, part):
                here.add_module(part, nn.Module())
            here = here.get_submodule(part)
        here.add_module("lora_A", module.lora_A)
        here.add_module("lora_B", module.lora_B)
    return tree


def adapted(network: nn.Module) -> Iterator[tuple[str, AdaptedLinear]]:
    """The adapted maps of a network, by name."""
    return ((name, module) for name, module in network.named_modules() if isinstance(module, AdaptedLinear))


def merge_lora(network: nn.Module) -> None:
    """Merge every change; see `AdaptedLinear.merge`."""
    for _, module in adapted(network):
        module.merge()


def unmerge_lora(network: nn.Module) -> None:
    """Take every change out again, exactly."""
    for _, module in adapted(network):
        module.unmerge()


def strip_lora(network: nn.Module) -> None:
    """Plain linear maps again, with the change in them if it is merged; what was there before is let go."""
    for name, module in list(adapted(network)):
        parent, _, last = name.rpartition(".")
        setattr(network.get_submodule(parent), last, module.base)
