"""Shapes and types are checked in the first calls of every function in every test, and then ever more rarely:
a third of the time is saved.

`jaxtyped`, by which jaxtyping's import hook decorates every function of the package, is wrapped: of the calls
of one function in one test the first four are checked, and after them those whose number is a power of two.
While torch records a graph nothing is checked, as sizes are symbols then.
"""

import functools
import sys
from collections.abc import Callable
from typing import Any

import jaxtyping

ALWAYS = 4
test = [0]  # the number of the test that runs
jaxtyped = jaxtyping.jaxtyped


def recording() -> bool:
    """Whether torch is imported, and records a graph."""
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "compiler"):
        return False
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def install() -> None:
    """Check the package from its import on; beartype judges types, jaxtyping shapes."""
    jaxtyping.jaxtyped = sometimes
    jaxtyping.install_import_hook("unveil", "beartype.beartype")


def sometimes(fn: Any = None, *, typechecker: Any) -> Any:
    """`jaxtyping.jaxtyped(typechecker=...)` for some of the calls; classes are decorated as they are."""
    if fn is None:
        return functools.partial(sometimes, typechecker=typechecker)
    whole = jaxtyped(typechecker=typechecker)(fn)
    if isinstance(fn, type) or not callable(fn) or not hasattr(fn, "__code__"):
        return whole
    return _sampled(fn, whole)


def _sampled(fn: Callable[..., Any], whole: Callable[..., Any]) -> Callable[..., Any]:
    calls, seen = 0, -1

    @functools.wraps(whole)
    def call(*arguments: Any, **options: Any) -> Any:
        nonlocal calls, seen
        if seen != test[0]:
            calls, seen = 0, test[0]
        calls += 1
        check = (calls <= ALWAYS or calls & (calls - 1) == 0) and not recording()
        return (whole if check else fn)(*arguments, **options)

    return call
