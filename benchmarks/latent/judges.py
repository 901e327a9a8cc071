"""Who judges pictures of emoji: a small CLIP for the concept, a classifier for the style, SqueezeNet's features.

Both are trained on real pictures alone, and on none of the held-out pairs and concepts. The table prints what
they say of real held-out pictures, which bounds what a model can reach.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from latent.data import emoji
from latent.rows import Bench, distances, mean, rate
from metrics.picture_text import PictureText, name_ranks, pair_batches, pair_loss
from unveil.files.atomic import replacing
from unveil.image.classifier import ImageClassifier
from unveil.image.data.caption_sampler import Drawing
from unveil.image.data.tokenizer import train_words
from unveil.image.evaluation.distances import nearest
from unveil.image.evaluation.features import extractor
from unveil.image.recipes.load import load_classifier
from unveil.image.recipes.prompts import read_words
from unveil.runs.checkpoints import read_weights
from unveil.runs.flags import Run, RunFlags
from unveil.runs.training import training_of
from unveil.training.trainer import train

SMALL = 16  # side at which pictures are compared with those of the training


@dataclass(frozen=True)
class TrainPairsJudge:
    """Settings of the small CLIP."""

    run: Run = RunFlags(steps=1_500, batch_size=64, warmup=200, weight_decay=0.05, learning_rate=5e-4)


class Judges(NamedTuple):
    """All judges, and the names of concepts from which wrong answers are drawn."""

    pairs: PictureText
    styles: ImageClassifier
    style_names: tuple[str, ...]
    features: Callable[[np.ndarray], np.ndarray]
    pool: tuple[str, ...]


def train_pairs_judge(config: TrainPairsJudge, progress: Callable[..., object]) -> Path:
    """Train the small CLIP on `EmojiData.judged`; returns the run folder."""
    run, data = config.run.folder, emoji()
    drawings = data.drawings(data.judged)
    run.mkdir(parents=True, exist_ok=True)
    words = train_words((" ".join((it.name, "emoji of ,", *it.keywords)) for it in drawings), 16)
    for file, text in (
        ("tokenizer.json", words.written()),
        ("config.json", json.dumps({"steps": config.run.steps})),
    ):
        with replacing(run / file) as partial:
            partial.write_text(text, encoding="utf-8")
    torch.manual_seed(config.run.seed)
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    batches = pair_batches(data.images.pixels[data.judged], drawings, config.run.batch_size)
    model = PictureText(words)
    train(model, batches, pair_loss, training_of(config.run), run, resume=config.run.resume)
    return run


def pairs_judge(checkpoint: Path) -> PictureText:
    """The small CLIP of a checkpoint."""
    model = PictureText(read_words(checkpoint.parent / "tokenizer.json"))
    model.load_state_dict(read_weights(checkpoint, model.state_dict()))
    return model.eval()


def judges(bench: Bench) -> Judges:
    """All judges, which are read once.

    Raises:
        NotRunError: they are not trained.
    """
    return _judges(bench.finished("judge-pairs"), bench.finished("judge-styles"))


@cache
def _judges(pairs: Path, styles: Path) -> Judges:
    data = emoji()
    names = tuple(json.loads((styles.parent / "config.json").read_text())["names"])
    pool = tuple(dict.fromkeys(it.name for it in data.drawings(data.train)))
    return Judges(pairs_judge(pairs), load_classifier(styles, "cpu"), names, extractor("squeezenet"), pool)


def understood(
    pixels: np.ndarray, drawings: Sequence[Drawing], by: Judges, style: str = ""
) -> dict[str, float]:
    """Whether pictures show their concept (recall at 1 and 5 of 100 names) in their style, with intervals.

    Args:
        style: the style that they should have; "": each the one of its drawing.
    """
    ranks = name_ranks(by.pairs, pixels, [it.name for it in drawings], by.pool)
    predicted = by.styles.predicted(torch.from_numpy(np.array(pixels)), 64).numpy()
    wanted = [by.style_names.index(style or it.style) for it in drawings]
    return (
        rate("recall_at_1", ranks < 1)
        | rate("recall_at_5", ranks < 5)
        | rate("style_hit_rate", predicted == wanted)
    )


def small(pixels: np.ndarray) -> np.ndarray:
    """Means over squares, (N, 3 * 16 * 16), in levels 0 .. 255."""
    n, colours, side, _ = pixels.shape
    factor = side // SMALL
    means = pixels.reshape(n, colours, SMALL, factor, SMALL, factor).mean((3, 5), dtype=np.float64)
    return means.reshape(n, -1)


def copied(pixels: np.ndarray, train_pixels: np.ndarray) -> dict[str, float]:
    """The distance to the nearest training picture at 16 x 16: root mean square, in levels 0 .. 255."""
    made = small(pixels)
    return mean("nearest_training_rms", (nearest(made, small(train_pixels)) / made.shape[1]) ** 0.5)


def compared(pixels: np.ndarray, real: np.ndarray, by: Judges, parts: int = 4) -> dict[str, float]:
    """Distances of SqueezeNet's features to those of real pictures (features (N, 512))."""
    return distances(real, by.features(pixels), parts)
