"""How to write: the settings, and what of them a model cannot do."""

from dataclasses import dataclass
from math import isfinite
from numbers import Integral, Real
from typing import Any, Literal, get_args

from unveil.text.block_cache import Cache
from unveil.text.model import TextModel

WritingOrder = Literal[
    "confidence", "margin", "entropy", "random", "left-to-right", "ancestral", "first-hitting"
]


@dataclass(frozen=True)
class TextSettings:
    """How to write.

    Args:
        length: new tokens after a prompt.
        steps: calls of the network, shared out over the blocks by their tokens; `first-hitting` takes one a token instead.
        block: tokens of a block; blocks are finished from left to right. 0: one block.
        order: which masks are filled first (`ConfidentUnmask`), or the model's own process: `ancestral`, or the exact `first-hitting`.
        temperature: 0 takes the best token.
        scale: of classifier-free guidance against the masked prompt: 1 none, w + 1 for LLaDA's w.
        threshold, factor, remask: as of the solvers.
        stop: rows end at their first end-of-text; nothing is computed once all have one, and what was wanted after it stays masked.
        may_end: whether end-of-text may be written at all.
        cache: auto: what is remembered changes nothing; prefix and dual of masked models change a little; none: for comparison. See
            `text_window.py`.
        edit: written tokens give way to others at least this probable, as of `ConfidentUnmask`; at most `edit_steps` calls a block more.
    Raises:
        ValueError: a value of another type or out of range.
    """

    length: int = 128
    steps: int = 64
    block: int = 0
    order: WritingOrder = "confidence"
    temperature: float = 0.0
    scale: float = 1.0
    threshold: float | None = None
    factor: float | None = None
    remask: float = 0.0
    stop: bool = True
    may_end: bool = True
    cache: Cache = "auto"
    edit: float | None = None
    edit_steps: int = 16

    def __post_init__(self) -> None:
        for name, least, unit in (
            ("length", 1, " token"),
            ("steps", 1, ""),
            ("block", 0, ""),
            ("edit_steps", 0, ""),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < least:
                raise ValueError(
                    f"TextSettings: {name} must be a whole number, at least {least}{unit}, got {value!r}"
                )
        for name, known in (
            ("order", get_args(WritingOrder)),
            ("cache", get_args(Cache)),
            ("stop", (True, False)),
            ("may_end", (True, False)),
        ):
            value = getattr(self, name)
            if not any(value is it or (isinstance(it, str) and value == it) for it in known):
                raise ValueError(
                    f"TextSettings: {name} must be one of {', '.join(map(str, known))}, got {value!r}"
                )
        if not _is_number(self.temperature) or self.temperature < 0.0:
            raise ValueError(
                f"TextSettings: temperature must be a finite number, at least 0, got {self.temperature!r}"
            )
        if not _is_number(self.scale):
            raise ValueError(f"TextSettings: scale must be a finite number, got {self.scale!r}")
        if not _is_number(self.remask) or not 0.0 <= self.remask <= 1.0:
            raise ValueError(f"TextSettings: remask must lie in 0 .. 1, got {self.remask!r}")
        for name in ("threshold", "edit"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and 0.0 < value <= 1.0):
                raise ValueError(
                    f"TextSettings: {name} must lie in 0 .. 1, a probability above 0, or be None, got {value!r}"
                )
        if self.factor is not None and not (_is_number(self.factor) and self.factor > 0.0):
            raise ValueError(
                f"TextSettings: factor must be a finite number above 0, or None, got {self.factor!r}"
            )
        if self.remask and self.order == "first-hitting":
            raise ValueError("TextSettings: remask needs another order: first-hitting masks nothing again")


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, Real) and isfinite(value)


def check_settings(model: TextModel, settings: TextSettings, blocks: int) -> None:
    """Refuse what this model cannot do.

    Raises:
        ValueError: fewer steps than blocks; blocks or a cache of another kind of model; guidance of a model that knows no masked prompt;
            edits, or commits by a threshold or a factor, in an order that has none.
    """
    if settings.steps < blocks and not (model.window and settings.order == "first-hitting"):
        raise ValueError(
            f"{settings.steps} steps are fewer than the {blocks} blocks; give more steps or larger blocks"
        )
    if model.window and settings.block not in (0, model.window):
        raise ValueError(
            f"this model's own blocks are of {model.window} tokens, but blocks of {settings.block} were asked for; give none"
        )
    if model.window and settings.cache in ("prefix", "dual"):
        raise ValueError(
            f"the cache {settings.cache!r} is of masked models; this one remembers its blocks exactly: give auto"
        )
    if model.window and settings.scale != 1.0:
        raise ValueError(
            "guidance masks the prompt, which a causal model, or one of blocks, has never seen masked; leave the scale at 1"
        )
    if settings.edit is not None and settings.order in ("ancestral", "first-hitting"):
        raise ValueError(f"edits need an order of confident unmasking, got {settings.order!r}")
    if (settings.threshold is not None or settings.factor is not None) and settings.order in (
        "ancestral",
        "first-hitting",
    ):
        raise ValueError(
            f"a threshold or factor commits by confidence, which the order {settings.order} does not ask for; give another"
        )
