"""Learned words: further rows of a text encoder's table of token embeddings, alone or trained. Gal et al.
2022 (textual inversion)."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from unveil.image.networks.clip import ClipText
from unveil.image.prompts.text_conditioning import TextConditioning


class LearnedVectors(nn.Module):
    """The vectors (n, W) of new words, one row for each id behind those of the encoder: all that textual
    inversion trains."""

    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        self.vectors = nn.Parameter(vectors)


class GrownEmbedding(nn.Module):
    """A table of token embeddings with learned vectors behind its rows; the table itself is never changed.

    Shapes: ids (B, N) of V + n rows, to (B, N, W).
    """

    def __init__(self, table: nn.Module, learned: LearnedVectors) -> None:
        super().__init__()
        self.table, self.learned = table.requires_grad_(False), learned

    @property
    def weight(self) -> Tensor:
        """The rows of the table and the learned vectors, (V + n, W)."""
        before = self._before()
        return torch.cat([before, self.learned.vectors.to(before)])

    def forward(self, ids: Tensor) -> Tensor:
        first = len(self._before())
        old, new = self.table(ids.clamp(max=first - 1)), self.learned.vectors[(ids - first).clamp(min=0)]
        return torch.where((ids < first)[..., None], old, new.to(old.dtype))

    def _before(self) -> Tensor:
        assert isinstance(self.table, nn.Embedding | GrownEmbedding)
        return self.table.weight


def table_of(text: TextConditioning) -> Tensor:
    """The token embeddings (V, W) of a text encoder, with the words that were added."""
    words = text.network.get_submodule("words")
    assert isinstance(words, nn.Embedding | GrownEmbedding)
    return words.weight.detach()


def add_words(text: TextConditioning, words: Mapping[str, Tensor]) -> LearnedVectors:
    """Teach a text encoder new words, in place: prompts may then contain them.

    Args:
        words: the vectors (k, W) of each word; a word of k vectors takes the place of k tokens.
    Returns:
        The vectors of all words, (n, W) in float32, which the encoder reads from now on.
    Raises:
        ValueError: a word that the tokenizer knows already, or cannot tell from others.
    """
    encoder, tokenizer = text.network, text.tokenizer.extended(list(words))
    row, learned = len(table_of(text)), dict(text.learned)
    for word, vectors in words.items():
        numbers = tokenizer.ids(word)
        if len(numbers) != 1:
            raise ValueError(f"the word {word[:60]!r} is {len(numbers)} tokens; choose one without spaces")
        learned[numbers[0]] = tuple(range(row, row + len(vectors)))
        row += len(vectors)
    if isinstance(encoder, ClipText) and encoder.shape.end is None:  # the largest id is not the end any more
        encoder.shape = replace(encoder.shape, end=tokenizer.end)
    vectors = LearnedVectors(
        torch.cat([one.detach().to(table_of(text).device).float() for one in words.values()])
    )
    encoder.add_module("words", GrownEmbedding(encoder.get_submodule("words"), vectors))
    text.know(tokenizer, learned)
    return vectors
