"""Recordings of any finite numbers, a few demonstrations, and how a reader refuses a file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from unveil.errors import UnveilError
from unveil.planning.data.episodes import Episodes
from unveil.policy.data.demonstrations import Demonstrations

COLUMNS = ("observations", "actions", "rewards", "terminals", "timeouts")


def finite(generator: np.random.Generator, *shape: int) -> np.ndarray:
    """Any finite float32: denormal, huge, negative zero."""
    bits = generator.integers(0, 2**32, shape, dtype=np.uint32).view(np.float32)
    return np.where(np.isfinite(bits), bits, np.float32(1.5))


def make(
    seed: int, lengths: list[int], marks: list[int], width: int = 3, force: int = 2, marked: bool = True
) -> Episodes:
    """Episodes of these lengths; each ends with a terminal (1), a timeout (2) or both (3); the last one may
    end without a mark."""
    generator, count = np.random.default_rng(seed), sum(lengths)
    ends, kinds = np.cumsum(lengths) - 1, np.resize(marks, len(lengths))
    flags = np.zeros((2, count), dtype=bool)
    flags[:, ends] = kinds & 1, kinds & 2
    if not marked:
        flags[:, -1] = False
    infos = {"goal": finite(generator, count, 2), "score": finite(generator, count)}
    numbers = finite(generator, count, width), finite(generator, count, force), finite(generator, count)
    return Episodes(*numbers, flags[0], flags[1], finite(generator, len(lengths), width), infos)


def assert_same(one: Episodes, two: Episodes, names=COLUMNS) -> None:
    for name in names:
        a, b = getattr(one, name), getattr(two, name)
        assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes(), name


def refusal(read: Callable[[Path], Episodes], path: Path) -> str:
    """The one line a reader refuses a file with."""
    with pytest.raises(UnveilError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


EXAMPLE = make(0, [9, 4, 12], [1, 2, 3])
FEW = Demonstrations(
    {"state": np.arange(24.0, dtype=np.float32).reshape(12, 2)},
    np.ones((12, 2), np.float32),
    np.array([5, 12]),
)
