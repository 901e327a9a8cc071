"""A small CLIP of drawings: whether a picture shows what it should, by the rank of its name among others.

Radford et al. 2021. The two encoders are this library's: the classifier's half U-Net and the transformer over
words. A model of pictures is never its own judge, and this one is weak: print its recall on real pictures beside
every other number.
"""

from collections.abc import Callable, Mapping, Sequence
from math import log
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.image.data.caption_sampler import CaptionSampler, Drawing, caption_of
from unveil.image.data.tokenizer import Tokenizer
from unveil.image.networks.classifier2d import Classifier2d, Classifier2dShape
from unveil.image.networks.text_encoder import WordTransformer, WordTransformerShape

CANDIDATES = 100
LARGEST_SCALE = log(100.0)
SHIFT = 4  # pixels by which pictures are moved at most in training


class PictureText(nn.Module):
    """Unit vectors of pictures (B, 3, S, S), 0 .. 255, and of texts, whose cosines are compared.

    Args:
        tokenizer: of the texts.
        size: S.
        width: channels of the first level of the picture encoder.
        embedding: length of the vectors.
    """

    def __init__(self, tokenizer: Tokenizer, size: int = 64, width: int = 32, embedding: int = 128) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        shape = Classifier2dShape(size, 3, embedding, width, (1, 2, 3), 1, (2,), stem=2, groups=width // 2)
        self.seen = Classifier2d(shape)
        words = WordTransformerShape(tokenizer.size, tokenizer.length, embedding)
        self.read, self.project = WordTransformer(words), nn.Linear(embedding, embedding, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(log(1.0 / 0.07)))

    def pictures(self, pixels: Tensor) -> Tensor:
        """Vectors (B, D) of pictures."""
        x = pixels.float() / 127.5 - 1.0
        return F.normalize(self.seen(x, torch.zeros(len(x))), dim=1)

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Vectors (B, D) of texts."""
        return F.normalize(self.project(self.read(*self.tokenizer(texts)).pooled), dim=1)


class PairBatch(NamedTuple):
    """Pictures (B, 3, S, S), their texts, and the number (B,) of the concept of each."""

    pixels: Tensor
    texts: list[str]
    concepts: Tensor


def pair_batches(
    pixels: np.ndarray, drawings: Sequence[Drawing], size: int
) -> Callable[[torch.Generator], PairBatch]:
    """A function from a generator to a batch: pictures moved by up to 4 pixels, names with 0 to 2 keywords."""
    stored = torch.from_numpy(np.array(pixels))
    sampler = CaptionSampler(tuple(caption_of(it) for it in drawings), tuple(drawings), style_drop=1.0)
    codes = {code: number for number, code in enumerate(dict.fromkeys(it.code for it in drawings))}
    concepts = torch.tensor([codes[it.code] for it in drawings])
    side = torch.arange(stored.shape[-1])

    def draw(generator: torch.Generator) -> PairBatch:
        rows = torch.randint(len(stored), (size,), generator=generator)
        moved = torch.randint(2 * SHIFT + 1, (2, size, 1), generator=generator) + side
        padded = F.pad(stored[rows], (SHIFT,) * 4, value=255)
        batch = torch.arange(size)[:, None, None]
        shifted = padded[batch, :, moved[0, :, :, None], moved[1, :, None, :]].permute(0, 3, 1, 2)
        return PairBatch(shifted, sampler(rows, generator), concepts[rows])

    return draw


def pair_loss(model: nn.Module, batch: PairBatch) -> tuple[Tensor, Mapping[str, float]]:
    """Cross-entropy of picture to text and text to picture; drawings of one concept are positives alike."""
    assert isinstance(model, PictureText)
    scale = model.log_scale.clamp(max=LARGEST_SCALE).exp()
    logits = scale * model.pictures(batch.pixels) @ model.texts(batch.texts).T
    same = (batch.concepts[:, None] == batch.concepts[None]).float()
    target = same / same.sum(1, keepdim=True)  # symmetric: `same` is
    losses = [-(target * part.log_softmax(1)).sum(1).mean() for part in (logits, logits.T)]
    hits = (logits.argmax(1)[:, None] == torch.arange(len(logits))[None]).float() * same
    return 0.5 * (losses[0] + losses[1]), {"accuracy": float(hits.sum(1).mean())}


@torch.no_grad()
def name_ranks(
    judge: PictureText, pixels: np.ndarray, names: Sequence[str], pool: Sequence[str], batch: int = 64
) -> np.ndarray:
    """For each picture the number of other names, out of 99, that fit it better than its own.

    The others are drawn from `pool` at random, the same ones for picture i whatever the picture.

    Raises:
        ValueError: fewer different names than are drawn.
    """
    kinds = list(dict.fromkeys([*pool, *names]))
    if len(set(pool)) < CANDIDATES:
        raise ValueError(f"{CANDIDATES} different names are needed, got {len(set(pool))}")
    judge.eval()
    parts = [kinds[i : i + batch] for i in range(0, len(kinds), batch)]
    texts = torch.cat([judge.texts([f"emoji of {name}" for name in part]) for part in parts])
    number = {name: k for k, name in enumerate(kinds)}
    different = np.array(sorted({number[name] for name in pool}))
    ranks: list[int] = []
    for i in range(0, len(pixels), batch):
        cosines = judge.pictures(torch.from_numpy(np.array(pixels[i : i + batch]))) @ texts.T
        for k, row in enumerate(cosines, i):
            own = number[names[k]]
            others = np.random.default_rng((7, k)).permutation(different[different != own])[: CANDIDATES - 1]
            ranks.append(int((row[torch.from_numpy(others)] > row[own]).sum()))
    return np.array(ranks)
