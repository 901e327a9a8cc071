"""What a fast layout of a network needs to stay the network it was made of: when to make it anew, and when the plain network must serve.

A fast layout copies weights in another order, and remembers results that depend on them alone. Both are right only as long as the weights
are those they were made of, and a recorded graph (`torch.jit.trace`, `torch.compile`, `torch.export`) would hold what is remembered as
constants.
"""

import copy
from collections.abc import Callable, Mapping
from itertools import chain
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

PROBED = 4  # numbers of each tensor that are compared, for writes that leave no other trace

_version = attrgetter("_version")


class Watch:
    """Notices that a network's weights are no longer what they were when asked last.

    Compared are the tensors themselves (replaced parameters and submodules), their memory (`.data = ...`, `.to(device)`), their version
    counters (optimizers, `load_state_dict`, every in-place operation), and a few numbers from the middle of each, for writes behind
    autograd's back (`p.data.mul_(...)`, a NumPy view). A write of the last kind that leaves those numbers alone goes unnoticed: call
    `forget` after it. Takes about 0.1 ms for 200 tensors.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.forget()

    def forget(self) -> None:
        """Have `changed` say yes the next time."""
        self._groups: list[Mapping[str, object]] = []
        self._held: list[object] = []  # keeps ids from being used again
        self._ids: list[int] = []
        self._memory: list[int] = []
        self._versions: list[int] = []
        self._tensors: list[Tensor] = []
        self._counted: list[Tensor] = []
        self._probes: list[list[Tensor]] = []
        self._numbers: list[Tensor] = []
        self._seen = False

    def changed(self) -> bool:
        """Whether anything differs from what the last call saw; True at the first call. From now on what is there now counts."""
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
        kinds: dict[object, list[Tensor]] = {}  # as `torch.cat` wants them
        for value in self._tensors:
            if value.numel():
                kinds.setdefault((value.dtype, value.device), []).append(_middle(value))
        self._probes = list(kinds.values())
        self._numbers = [torch.cat(p) for p in self._probes]
        self._seen = True

    def __deepcopy__(self, memo: dict[int, Any]) -> "Watch":
        return Watch(copy.deepcopy(self.network, memo))

    def __reduce__(self) -> tuple[type["Watch"], tuple[nn.Module]]:
        return Watch, (self.network,)


def plain_serves(fast: nn.Module, plain: nn.Module, x: Tensor, *, gradient_of_x: bool = False) -> bool:
    """Whether a call must go to the plain network: in training mode, where a graph is recorded by tracing, compiling or exporting, or where
    autograd could ask for a gradient that the fast layout does not have.

    Args:
        gradient_of_x: the layout has the gradient to x itself; then only one to the weights needs the plain network.
    """
    if fast.training or torch.jit.is_tracing() or torch.compiler.is_compiling():
        return True
    if not torch.is_grad_enabled() or (gradient_of_x and x.requires_grad):
        return False
    return x.requires_grad or any(p.requires_grad for p in plain.parameters())


def share_names(fast: nn.Module) -> None:
    """Have the weights of `fast.plain` saved and loaded under the names that the plain network gives them; `plain.` is read too."""

    fast.register_state_dict_post_hook(_saved)
    fast.register_load_state_dict_pre_hook(_loaded)


def _saved(fast: nn.Module, state: dict[str, Any], prefix: str, metadata: object) -> None:
    _renamed(state, prefix + "plain.", lambda name: prefix + name)


def _loaded(fast: nn.Module, state: dict[str, Any], prefix: str, *rest: object) -> None:
    own = fast.get_submodule("plain").state_dict().keys()
    _renamed(state, prefix, lambda name: f"{prefix}plain.{name}" if name in own else prefix + name)


def _renamed(state: dict[str, Any], prefix: str, name: Callable[[str], str]) -> None:
    """Rename those whose name begins with the prefix, in place and in order."""
    items = list(state.items())
    state.clear()
    state.update(
        {name(key.removeprefix(prefix)) if key.startswith(prefix) else key: value for key, value in items}
    )


def _middle(value: Tensor) -> Tensor:
    """A view of a few numbers, without a graph."""
    own = value.detach()
    if own.is_contiguous():
        flat = own.view(-1)
        start = max(0, flat.numel() // 2 - PROBED // 2)
        return flat[start : start + PROBED]
    while own.ndim > 1:
        own = own[own.shape[0] // 2]
    return own[:PROBED]
