"""Canvases: rows of known tokens and masks, made from prompts or from patterns with gaps, and their
checks."""

import re
from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import NamedTuple, cast

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unveil.text.data.tokens import Tokens
from unveil.text.model import TextModel

GAP = re.compile(r"\[\*(\d+)\]")
LONGEST_GAP = 10**6


class Canvas(NamedTuple):
    """Rows of tokens with gaps, padded on the left.

    Args:
        ids: (B, L) token ids; [MASK] at the positions to be written.
        valid: (B, L) bool, False at padding.
    """

    ids: Int[Tensor, "B L"]
    valid: Bool[Tensor, "B L"]


def listed(texts: object, name: str) -> list[str]:
    """The texts as a list, checked.

    Raises:
        ValueError: a single text, or anything else that is no list of texts.
    """
    if isinstance(texts, str | bytes):
        raise ValueError(f"{name} must be a list of texts, got one text; write [{str(texts)[:30]!r}]")
    if not isinstance(texts, Iterable):
        raise ValueError(f"{name} must be a list of texts, got {type(texts).__name__}")
    checked: list[str] = []
    for text in cast(Iterable[object], texts):
        if not isinstance(text, str):
            raise ValueError(f"{name} must be a list of texts, got one with {type(text).__name__} in it")
        checked.append(text)
    return checked


def check_room(model: TextModel, known: int, length: int) -> None:
    """Refuse rows that are longer than a model's context.

    Raises:
        ValueError: says how many tokens there are, and the context.
    """
    if known + length > model.shape.context:
        raise ValueError(
            f"a row of {known + length} tokens is too long, the model's context is {model.shape.context}; "
            "give a shorter prompt or fewer tokens"
        )


def prompt_canvas(
    prompts: Sequence[Sequence[int]], length: int, tokens: Tokens, device: torch.device | None = None
) -> Canvas:
    """Prompts, and `length` masks after each.

    Raises:
        ValueError: a prompt holds [MASK] or an id outside the vocabulary, or there is nothing to write.
    """
    if not 1 <= length <= LONGEST_GAP:
        raise ValueError(f"length must be at least 1 token and at most {LONGEST_GAP:,}, got {length}")
    for ids in cast(Sequence[object], prompts):
        if isinstance(ids, str | bytes) or not isinstance(ids, Sequence):
            raise ValueError(
                f"prompts must be a list of lists of token ids, got {str(prompts)[:40]}; encode texts by "
                "tokens.encode"
            )
        if strange := [
            i
            for i in cast(Sequence[object], ids)
            if not isinstance(i, Integral) or not 0 <= int(i) < tokens.size
        ]:
            raise ValueError(
                f"a prompt holds {strange[0]!r}, which is none of the vocabulary's ids 0 .. {tokens.size - 1}"
            )
        if tokens.mask_id in ids:
            raise ValueError(
                "the prompt holds the mask token; take it out, or give gaps by an infill pattern such as 'To "
                "be, [*8] that is'"
            )
    return padded([[*prompt, *[tokens.mask_id] * length] for prompt in prompts], tokens.eos_id, device)


def gap_canvas(patterns: Sequence[str], tokens: Tokens, device: torch.device | None = None) -> Canvas:
    """Patterns such as "To be, [*8] that is the question": a gap of 8 tokens.

    Raises:
        ValueError: a pattern has no gap or one that is too long, or its text holds the mask token.
    """
    rows: list[list[int]] = []
    for pattern in listed(patterns, "patterns"):
        pieces = GAP.split(pattern)  # text, count, text, count, ..., text
        row: list[int] = []
        for i, piece in enumerate(pieces):
            if i % 2 and (len(piece) > 7 or int(piece) > LONGEST_GAP):
                raise ValueError(f"a gap of {piece[:20]} tokens is longer than any context")
            ids = [tokens.mask_id] * int(piece) if i % 2 else tokens.encode(piece) if piece else []
            if not i % 2 and tokens.mask_id in ids:
                raise ValueError("the pattern holds the text of the mask token; write gaps as [*8]")
            row += ids
        if tokens.mask_id not in row:
            raise ValueError(f"the pattern {pattern[:60]!r} has no gap; write one of 8 tokens as [*8]")
        rows.append(row)
    return padded(rows, tokens.eos_id, device)


def padded(rows: Sequence[Sequence[int]], filler: int, device: torch.device | None = None) -> Canvas:
    """Rows of different lengths as one canvas, padded on the left with `filler`."""
    if not rows:
        raise ValueError("there is nothing to write: give at least one prompt")
    longest = max(map(len, rows))
    ids = torch.tensor([[filler] * (longest - len(row)) + list(row) for row in rows], device=device)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    return Canvas(ids, torch.arange(longest, device=device) >= longest - lengths[:, None])


def checked(model: TextModel, canvas: Canvas) -> Canvas:
    """The canvas on the model's device, after all checks.

    Raises:
        ValueError: other shapes or types, ids outside the vocabulary, padding that is not on the left, more
            tokens than the context, or no mask.
    """
    ids, valid = canvas
    check_tokens(model, ids, valid=valid)
    if not bool(((ids == model.tokens.mask_id) & valid).any()):
        raise ValueError(
            f"there is nothing to write: the canvas {tuple(ids.shape)} holds no mask (token "
            f"{model.tokens.mask_id})"
        )
    if bool((valid[:, :-1] & ~valid[:, 1:]).any()):
        raise ValueError(
            "a canvas must be padded on the left: valid may not fall from true to false within a row"
        )
    check_room(model, int(valid.sum(1).max()), 0)
    return Canvas(ids.long().to(model.device), valid.to(model.device))


def check_tokens(model: TextModel, ids: Tensor, **masks: Tensor | None) -> None:
    """Refuse what is no batch of a model's tokens.

    Args:
        masks: masks of the tokens by name; they must be bool, of the shape of the ids.
    Raises:
        ValueError: other shapes or types, or ids outside the vocabulary.
    """
    kind = ids.dtype
    if ids.ndim != 2 or not ids.numel() or kind.is_floating_point or kind == torch.bool:
        raise ValueError(f"ids must be whole numbers (B, L), at least one, got {tuple(ids.shape)} {kind}")
    for name, mask in masks.items():
        if mask is not None and (mask.shape != ids.shape or mask.dtype != torch.bool):
            raise ValueError(
                f"for ids {tuple(ids.shape)} {name} must be bool of that shape, got {tuple(mask.shape)} "
                f"{mask.dtype}"
            )
    if not 0 <= int(ids.min()) <= int(ids.max()) < model.tokens.size:
        raise ValueError(
            f"ids must lie in 0 .. {model.tokens.size - 1}, the vocabulary, got {int(ids.min())} .. "
            f"{int(ids.max())}"
        )
