"""Low-rank adaptation (LoRA) of linear layers and convolutions: W x + (alpha / rank) B A x.

Hu et al. 2022, section 4.1. Of a convolution, A is a convolution of the same kernel to `rank` channels, and B
a 1 x 1 convolution from them ("LoCon").
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import cast

import torch
from torch import Tensor, nn

from unveil.checks import Bounds, flag, whole, within

Layer = nn.Linear | nn.Conv2d


@dataclass(frozen=True)
class LoRA:
    """The rank, scale and target layers of an adapter.

    Args:
        rank: rank of the update B A.
        alpha: the update is scaled by alpha / rank.
        targets: last parts of the names of linear layers; all layers of submodules with these names are
            adapted. A layer directly in the network is not: "ff_out" of blocks excludes a head of that name.
        rank_stabilized: the update is scaled by alpha / sqrt(rank) instead (Kalajdzievski 2023).
    Raises:
        ValueError: rank is below 1, alpha is not above 0, or targets is empty.
    """

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "attn_out")
    rank_stabilized: bool = False

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
        flag("LoRA: rank_stabilized", self.rank_stabilized)

    @property
    def scale(self) -> float:
        """alpha / rank, or alpha / sqrt(rank)."""
        return self.alpha / (sqrt(self.rank) if self.rank_stabilized else self.rank)


@dataclass(frozen=True, eq=False)
class LowRank:
    """A given update of a layer's weight, (alpha / rank) B A, as files hold it.

    Args:
        down: A, (rank, in) of a linear layer or (rank, in, h, w) of a convolution.
        up: B, (out, rank) or (out, rank, 1, 1).
        alpha: the update is scaled by alpha / rank.
    Raises:
        ValueError: the two do not belong together, or `alpha` is not finite.
    """

    down: Tensor
    up: Tensor
    alpha: float

    def __post_init__(self) -> None:
        down, up = tuple(self.down.shape), tuple(self.up.shape)
        if len(down) not in (2, 4) or len(up) not in (2, 4) or up[2:] not in ((), (1, 1)):
            raise ValueError(f"LowRank: down {down} and up {up} are no matrices of linear layers")
        if down[0] != up[1] or 0 in down + up:
            raise ValueError(f"LowRank: down {down} and up {up} do not belong together")
        if not isfinite(self.alpha):
            raise ValueError(f"LowRank: alpha must be finite, got {self.alpha}")

    @property
    def rank(self) -> int:
        """Rank of the update."""
        return self.down.shape[0]

    @property
    def scale(self) -> float:
        """alpha / rank."""
        return self.alpha / self.rank

    def delta(self) -> Tensor:
        """The change of the weight, in float64: (out, in), or (out, in, h, w).

        Of a convolution it is sum_r up[o, r] down[r, i, y, x], which is what the two convolutions do.
        """
        return self.scale * _product(self.up, self.down)


class AdaptedLinear(nn.Module):
    """base(x) + scale B A x, with A (rank, in) and B (out, rank), or convolutions of the base's kernel and of
    1 x 1.

    B starts at zero, so that the output is unchanged at first. A is initialised as in `nn.Linear`, from
    torch's global generator like all initial weights.

    Args:
        base: a linear layer or a convolution; its weights are frozen.
        lora: rank and scale.
    Raises:
        ValueError: a convolution in groups.
    """

    def __init__(self, base: Layer, lora: LoRA) -> None:
        super().__init__()
        self.base, self.scale = base.requires_grad_(False), lora.scale
        device = base.weight.device
        self.lora_A, self.lora_B = _matrices(base, lora.rank, device)
        nn.init.zeros_(self.lora_B.weight)
        self.before: Tensor | None = None

    @property
    def merged(self) -> bool:
        """Whether the update is merged into the matrix of the base layer."""
        return self.before is not None

    def forward(self, x: Tensor) -> Tensor:
        """
        Args:
            x: as the base takes it; a 1 x 1 convolution also takes tokens (B, P, in) and returns
                (B, P, out), because spatial transformers apply it to the positions of a map.
        """
        if isinstance(self.base, nn.Conv2d) and x.ndim == 3:
            return self(x.transpose(1, 2)[..., None])[..., 0].transpose(1, 2)
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
            change = self.scale * _product(self.lora_B.weight, self.lora_A.weight)
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
    _check_plain(network)
    wanted = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and "." in name and name.rsplit(".", 1)[1] in lora.targets
    }
    lacking = [target for target in lora.targets if not any(name.endswith(f".{target}") for name in wanted)]
    if lacking:
        raise ValueError(f"LoRA: the network has no linear map named {', '.join(lacking)}")
    return adapt(network, dict.fromkeys(wanted, lora))


def adapt(network: nn.Module, layers: Mapping[str, LoRA]) -> nn.Module:
    """Adapt layers under any names in place, each with its own rank and scale, and freeze all other weights.

    Args:
        layers: paths of linear layers or convolutions in the network; `targets` is not read.
    Returns:
        The adapter to train, as `add_lora`.
    Raises:
        ValueError: the network is adapted already, or there is no such layer at a path.
    """
    _check_plain(network)
    network.requires_grad_(False)
    made = {name: AdaptedLinear(_layer(network, name), lora) for name, lora in layers.items()}
    for name, module in made.items():
        _replace(network, name, module)
    return adapters(network)


def attach(network: nn.Module, updates: Mapping[str, LowRank]) -> nn.Module:
    """Adapt layers in place with given updates, which take effect at once; see `combined` for several.

    `merge_lora` then removes the cost of the forward pass, and `remove_lora` restores the network.

    Args:
        updates: by the path of the layer in the network.
    Returns:
        The adapter, as `add_lora`; its matrices are float32.
    Raises:
        ValueError: as `adapt`, or an update of other sizes than its layer; the network is then unchanged.
    """
    _check_plain(network)
    fitting = {name: fitted(update, _layer(network, name), name) for name, update in updates.items()}
    tree = adapt(network, {name: LoRA(update.rank, 1.0) for name, update in fitting.items()})
    for name, module in adapted(network):
        module.scale = fitting[name].scale
        with torch.no_grad():
            module.lora_A.weight.copy_(fitting[name].down)
            module.lora_B.weight.copy_(fitting[name].up)
    return tree


def combined(adapters: Sequence[tuple[Mapping[str, LowRank], float]]) -> dict[str, LowRank]:
    """Several adapters, each times a factor, as one of the sum of their ranks.

        sum_k w_k s_k B_k A_k = (w_1 s_1 B_1, w_2 s_2 B_2, ...) (A_1; A_2; ...)

    Args:
        adapters: updates by the path of the layer, and the adapter's factor.
    Raises:
        ValueError: two updates of a layer have different sizes.
    """
    found: dict[str, list[tuple[LowRank, float]]] = {}
    for updates, factor in adapters:
        for name, update in updates.items():
            found.setdefault(name, []).append((update, factor))
    return {name: _stacked(name, parts) for name, parts in found.items()}


def fitted(update: LowRank, layer: Layer, name: str) -> LowRank:
    """The update with the axes of the layer: files hold 1 x 1 convolutions as matrices, too, and vice versa.

    Raises:
        ValueError: other sizes than the layer's.
    """
    kernel = tuple(layer.weight.shape[2:])
    down, up = update.down, update.up
    if kernel in ((), (1, 1)) and down.shape[2:] in ((), (1, 1)):
        down = down.reshape(*down.shape[:2], *kernel)
    up = up.reshape(*up.shape[:2], *(1 for _ in kernel))
    sizes = (up.shape[0], *down.shape[1:])
    if sizes != tuple(layer.weight.shape):
        raise ValueError(f"LoRA: the update of {name} is {sizes}, its layer {tuple(layer.weight.shape)}")
    return LowRank(down, up, update.alpha)


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
    """Replace adapted layers by their plain layers, which contain the update if it is merged."""
    for name, module in list(adapted(network)):
        _replace(network, name, module.base)


def remove_lora(network: nn.Module) -> None:
    """Restore the layers that were adapted, bit for bit, merged or not."""
    unmerge_lora(network)
    strip_lora(network)


def _check_plain(network: nn.Module) -> None:
    if any(True for _ in adapted(network)):
        raise ValueError("LoRA: the network is adapted already; merge and strip it first")


def _product(up: Tensor, down: Tensor) -> Tensor:
    """B A in float64: (out, in[, h, w])."""
    return (up.flatten(1).double() @ down.flatten(1).double()).reshape(up.shape[0], *down.shape[1:])


def _layer(network: nn.Module, name: str) -> Layer:
    try:
        layer = network.get_submodule(name)
    except AttributeError as error:
        raise ValueError(f"LoRA: the network has no layer {name}") from error
    if not isinstance(layer, Layer):
        raise ValueError(f"LoRA: {name} is neither a linear layer nor a 2-D convolution")
    return layer


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, module)


def _matrices(base: Layer, rank: int, device: torch.device) -> tuple[Layer, Layer]:
    if isinstance(base, nn.Linear):
        return (
            nn.Linear(base.in_features, rank, bias=False, device=device),
            nn.Linear(rank, base.out_features, bias=False, device=device),
        )
    if base.groups != 1:
        raise ValueError(f"LoRA: a convolution in {base.groups} groups cannot be adapted")
    down = nn.Conv2d(
        base.in_channels,
        rank,
        cast(tuple[int, int], base.kernel_size),
        cast(tuple[int, int], base.stride),
        cast(tuple[int, int], base.padding),
        cast(tuple[int, int], base.dilation),
        bias=False,
        padding_mode=base.padding_mode,
        device=device,
    )
    return down, nn.Conv2d(rank, base.out_channels, 1, bias=False, device=device)


def _stacked(name: str, parts: Sequence[tuple[LowRank, float]]) -> LowRank:
    axes = max(part.down.ndim for part, _ in parts)
    downs = [part.down.reshape(*part.down.shape, *(1,) * (axes - part.down.ndim)) for part, _ in parts]
    ups = [part.up.flatten(1).float() * (factor * part.scale) for part, factor in parts]
    if len({(len(up), *down.shape[1:]) for up, down in zip(ups, downs, strict=True)}) > 1:
        raise ValueError(f"LoRA: the updates of {name} are for layers of different sizes")
    down, up = torch.cat([down.float() for down in downs]), torch.cat(ups, dim=1)
    return LowRank(down, up, float(len(down)))
