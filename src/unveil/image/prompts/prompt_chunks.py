"""Chunks of a fixed number of tokens, by which a prompt of any length is encoded: AUTOMATIC1111's rules.

The tokenizer frames each chunk with its special tokens and padding; it is encoded apart, and the encoded
chunks are concatenated along the axis of tokens. Imports no torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from unveil.checks import whole


@dataclass(frozen=True)
class ChunkRules:
    """How the ids of a prompt become chunks; the defaults are those of CLIP's text encoder.

    Args:
        comma: id of the comma, behind which a chunk may be cut earlier; -1: there is none.
        length: tokens of a chunk, without special tokens.
        back: a full chunk is cut behind its last comma if at most this many tokens, comma included, follow
            from there; 0: never.
    """

    comma: int = 267
    length: int = 75
    back: int = 20

    def __post_init__(self) -> None:
        whole("ChunkRules: length", self.length)
        whole("ChunkRules: back", self.back, 0)


class Chunk(NamedTuple):
    """At most `length` ids, without special tokens, and the factors of their output vectors."""

    ids: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()


Passage = Sequence[tuple[Sequence[int], float]]
"""The ids of the pieces between two BREAKs, each with its weight."""


def chunks(
    passages: Sequence[Passage], rules: ChunkRules, blocks: Mapping[int, int] | None = None
) -> tuple[Chunk, ...]:
    """Cut the ids of a prompt into chunks, at least one.

    A passage begins a new chunk.

    Args:
        passages: of `prompt.WeightedText`, with the ids of each piece without BOS, EOS and padding.
        blocks: tokens that must stay in one chunk: the first id of a learned word (textual inversion), and
            how many ids it has.
    Raises:
        ValueError: a block is longer than a chunk.
    """
    blocks = blocks or {}
    done: list[Chunk] = []
    now: list[tuple[int, float]] = []
    comma = -1

    def finish() -> None:
        nonlocal now, comma
        done.append(Chunk(tuple(token for token, _ in now), tuple(weight for _, weight in now)))
        now, comma = [], -1

    for i, passage in enumerate(passages):
        if i:
            finish()
        tokens = [(token, weight) for ids, weight in passage for token in ids]
        at = 0
        while at < len(tokens):
            token = tokens[at][0]
            if token == rules.comma:
                comma = len(now)
            elif len(now) == rules.length and comma >= 0 and len(now) - comma <= rules.back:
                now, moved = now[: comma + 1], now[comma + 1 :]
                finish()
                now = moved
            size = whole("chunks: tokens of a learned word", blocks.get(token, 1), 1, rules.length)
            if len(now) + size > rules.length:
                finish()
            now += tokens[at : at + size]
            at += size
    if now or not done:
        finish()
    return tuple(done)


def level(prompts: Sequence[Sequence[Chunk]]) -> tuple[tuple[Chunk, ...], ...]:
    """Extend prompts by empty chunks to the number of chunks of the longest: the conditions of a batch."""
    most = max((len(prompt) for prompt in prompts), default=0)
    return tuple((*prompt, *[Chunk()] * (most - len(prompt))) for prompt in prompts)
