"""Low-rank adaptation (LoRA) of linear layers: W x + (alpha / rank) B A x. Hu et al. 2022, section 4.1."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from unveil.checks import Bounds, whole, within


@dataclass(frozen=True)
class LoRA:
    """The rank, scale and target layers of an adapter.

    Args:
        rank: rank of the update B A.
        alpha: the update is scaled by alpha / rank.
        targets: last parts of the names of linear layers; all layers of submodules with these names are
            adapted. A layer directly in the network is not: "ff_out" of blocks excludes a head of that name.
    Raises:
        ValueError: rank is below 1, alpha is not above 0, or targets is empty.
    """

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "attn_out")

    def __post_init__(self) -> None:
        whole("LoRA: rank", self.rank)
        within("LoRA: alpha", self.alpha, Bounds(0, above=True, below=True))
        targets = cast(tuple[object, ...], self.targets)
        if (
            isinstance(targets, str)
            or not targets
            or not all(isinstance(target, str) and target for target in targets)
        ):
            raise ValueError(
                "LoRA: targets must be a list of names of linear layers, such as ('q_proj', 'v_proj'), "
                f"got {targets!r}"
            )

    @property
    def scale(self) -> float:
        """alpha / rank."""
        return self.alpha / self.rank


class AdaptedLinear(nn.Module):
    """base(x) + scale B A x, with A (rank, in) and B (out, rank).

    B starts at zero, so that the output is unchanged at first. A is initialised as in `nn.Linear`, from
    torch's global generator like all initial weights.
    """

    def __init__(self, base: nn.Linear, lora: LoRA) -> None:
        super().__init__()
        self.base, self.scale = base.requires_grad_(False), lora.scale
        device = base.weight.device
        self.lora_A = nn.Linear(base.in_features, lora.rank, bias=False, device=device)
        self.lora_B = nn.Linear(lora.rank, base.out_features, bias=False, device=device)
        nn.init.zeros_(self.lora_B.weight)
        self.before: Tensor | None = None

    @property
    def merged(self) -> bool:
        """Whether the update is merged into the matrix of the base layer."""
        return self.before is not None

    def forward(self, x: Tensor) -> Tensor:
        out = self.base(x)
        if self.merged:
            return out
        return out + self.scale * self.lora_B(self.lora_A(x.to(self.lora_A.weight.dtype))).to(out.dtype)

    @torch.no_grad()
    def merge(self) -> None:
        """Replace W by W + scale B A, so that the forward pass has no extra cost; W is kept for `unmerge`.

        The sum is computed in float64 and stored in the dtype of W.
        """
        if not self.merged:
            self.before = self.base.weight.data
            change = self.scale * (self.lora_B.weight.double() @ self.lora_A.weight.double())
            self.base.weight.data = (self.before.double() + change).to(self.before.dtype)

    def unmerge(self) -> None:
        """Restore the original W, bit for bit."""
        if self.before is not None:
            self.base.weight.data, self.before = self.before, None


def add_lora(network: nn.Module, lora: LoRA) -> nn.Module:
    """Adapt linear layers of a network in place, freeze all other weights, and return the adapter to train.

    Returns:
        A module tree that holds only the network's matrices A and B, with names such as
        `blocks.0.q_proj.lora_A.weight`; its state dict is the adapter.
    Raises:
        ValueError: the network is adapted already, or has no linear layer of a target's name.
    """
    if any(True for _ in adapted(network)):
        raise ValueError("LoRA: the network is adapted already; merge and strip it first")
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
    """The matrices A and B of an adapted network as a module tree; they are shared with the network."""
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
    """The adapted layers of a network, with their names."""
    return ((name, module) for name, module in network.named_modules() if isinstance(module, AdaptedLinear))


def merge_lora(network: nn.Module) -> None:
    """Merge the updates of all adapted layers; see `AdaptedLinear.merge`."""
    for _, module in adapted(network):
        module.merge()


def unmerge_lora(network: nn.Module) -> None:
    """Restore the original matrices of all adapted layers, bit for bit."""
    for _, module in adapted(network):
        module.unmerge()


def strip_lora(network: nn.Module) -> None:
    """Replace adapted layers by their plain linear layers, which contain the update if it is merged."""
    for name, module in list(adapted(network)):
        parent, _, last = name.rpartition(".")
        setattr(network.get_submodule(parent), last, module.base)
