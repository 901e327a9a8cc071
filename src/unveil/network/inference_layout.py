"""Validity of a network's fast layout: when to rebuild it, and when to use the plain network instead.

A fast layout copies weights in another order and caches results that depend on the weights alone. Both are
valid only as long as the weights do not change. A recorded graph (`torch.jit.trace`, `torch.compile`,
`torch.export`) would hold the cached results as constants.
"""

import copy
from collections.abc import Callable, Mapping
from itertools import chain
from operator import attrgetter

import torch
from torch import Tensor, nn

PROBED = 4  # numbers of each tensor that are compared, to detect writes that leave no other trace

_version = attrgetter("_version")


class Watch:
    """Detects whether a network's weights have changed since the last call.

    It compares the tensors themselves (replaced parameters and submodules), their memory (`.data = ...`,
    `.to(device)`), their version counters (optimizers, `load_state_dict`, every in-place operation), and a
    few numbers from the middle of each, for writes that autograd does not see (`p.data.mul_(...)`, a NumPy
    view). A write of the last kind that does not change these numbers is not detected: call `forget` after
    it. A call takes about 0.1 ms for 200 tensors.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.forget()

    def forget(self) -> None:
        """Make the next call of `changed` return True."""
        self._groups: list[Mapping[str, object]] = []
        self._held: list[object] = []  # keeps the objects alive, so that no other object gets their ids
        self._ids: list[int] = []
        self._memory: list[int] = []
        self._versions: list[int] = []
        self._tensors: list[Tensor] = []
        self._counted: list[Tensor] = []
        self._probes: list[list[Tensor]] = []
        self._numbers: list[Tensor] = []
        self._seen = False

    def changed(self) -> bool:
        """Whether the weights differ from those at the last call; True at the first call."""
        if self._seen and self._same():
            return False
        self._look()
        return True

    def _same(self) -> bool:
        return (
            list(map(id, chain.from_iterable(group.values() for group in self._groups))) == self._ids
            and list(map(Tensor.data_ptr, self._tensors)) == self._memory
            and list(map(_version, self._counted)) == self._versions
            and all(torch.equal(torch.cat(p), n) for p, n in zip(self._probes, self._numbers, strict=True))
        )

    def _look(self) -> None:
        modules = list(self.network.modules())
        self._groups = [vars(m)[name] for m in modules for name in ("_modules", "_parameters", "_buffers")]
        self._held = list(chain.from_iterable(group.values() for group in self._groups))
        self._ids = list(map(id, self._held))
        self._tensors = [value for value in self._held if isinstance(value, Tensor)]
        self._counted = [value for value in self._tensors if not value.is_inference()]
        self._memory, self._versions = (
            list(map(Tensor.data_ptr, self._tensors)),
            list(map(_version, self._counted)),
        )
        kinds: dict[object, list[Tensor]] = {}  # `torch.cat` needs one dtype and device
        for value in self._tensors:
            if value.numel():
                kinds.setdefault((value.dtype, value.device), []).append(_middle(value))
        self._probes = list(kinds.values())
        self._numbers = [torch.cat(p) for p in self._probes]
        self._seen = True

    def __deepcopy__(self, memo: dict[int, object]) -> "Watch":
        return Watch(copy.deepcopy(self.network, memo))

    def __reduce__(self) -> tuple[type["Watch"], tuple[nn.Module]]:
        return Watch, (self.network,)


def plain_serves(fast: nn.Module, plain: nn.Module, x: Tensor, *, gradient_of_x: bool = False) -> bool:
    """Whether a call must use the plain network.

    It must in training mode, while a graph is recorded (tracing, compiling, exporting), and if autograd may
    need a gradient that the fast layout does not provide.

    Args:
        gradient_of_x: the layout provides the gradient with respect to x; then only gradients with respect to
            the weights need the plain network.
    """
    if fast.training or recording():
        return True
    if not torch.is_grad_enabled() or (gradient_of_x and x.requires_grad):
        return False
    return x.requires_grad or any(p.requires_grad for p in plain.parameters())


def recording() -> bool:
    """Whether `torch.jit.trace`, `torch.compile` or `torch.export` is recording a graph.

    In a recorded graph, numbers read from tensors become constants.
    """
    return torch.jit.is_tracing() or torch.compiler.is_compiling()


def share_names(fast: nn.Module) -> None:
    """Save and load the weights of `fast.plain` under their names in the plain network; load `plain.` too."""
    fast.register_state_dict_post_hook(_saved)
    fast.register_load_state_dict_pre_hook(_loaded)


def _saved(fast: nn.Module, state: dict[str, object], prefix: str, metadata: object) -> None:
    _renamed(state, prefix + "plain.", lambda name: prefix + name)


def _loaded(fast: nn.Module, state: dict[str, object], prefix: str, *rest: object) -> None:
    own = fast.get_submodule("plain").state_dict().keys()
    _renamed(state, prefix, lambda name: f"{prefix}plain.{name}" if name in own else prefix + name)


def _renamed(state: dict[str, object], prefix: str, name: Callable[[str], str]) -> None:
    """Rename the entries whose names begin with the prefix, in place and in order."""
    items = list(state.items())
    state.clear()
    state.update(
        {name(key.removeprefix(prefix)) if key.startswith(prefix) else key: value for key, value in items}
    )


def _middle(value: Tensor) -> Tensor:
    """A detached view of a few numbers of a tensor."""
    own = value.detach()
    if own.is_contiguous():
        flat = own.view(-1)
        start = max(0, flat.numel() // 2 - PROBED // 2)
        return flat[start : start + PROBED]
    while own.ndim > 1:
        own = own[own.shape[0] // 2]
    return own[:PROBED]
