"""How likely text is: nats a token, bits a character, perplexity; all bounds from above."""

import time
from collections.abc import Callable
from math import exp, log
from typing import Any

import numpy as np
import torch

from unveil.apps.text_likelihood import text_nats
from unveil.apps.text_model import TextModel
from unveil.data.text import Stream, in_order
from unveil.evaluation.statistics import mean_ci95


def text_metrics(
    model: TextModel,
    stream: Stream,
    draws: int,
    generator: torch.Generator,
    pieces: int = 0,
    batch: int = 32,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Score a stream cut into pieces of the context's length, each by itself.

    Args:
        draws: numbers of masks tried for each piece.
        pieces: this many, spread evenly; 0: all.
    Returns:
        nats_per_token, bits_per_char and perplexity bound those of the text; ci95 is half the 95 % interval of nats_per_token over pieces,
        masks included; tokens_per_second are scored tokens, and nfe the calls of the network for each piece.
    """
    ids, valid = in_order(stream, model.shape.context)
    share = len(ids)
    if 0 < pieces < len(ids):
        chosen = np.linspace(0, len(ids) - 1, pieces).round().astype(int)
        ids, valid = ids[chosen], valid[chosen]
    began, found = time.perf_counter(), []
    for start in range(0, len(ids), batch):
        part, real = (torch.from_numpy(a[start : start + batch]).to(model.device) for a in (ids, valid))
        nats = text_nats(model, part, draws, generator, valid=None if bool(real.all()) else real)
        found.append(nats.mean(1).double().cpu().numpy())
        if progress is not None:
            progress(min(start + batch, len(ids)), len(ids))
    seconds = time.perf_counter() - began
    counts = valid.sum(1)
    mean, half = mean_ci95(np.concatenate(found) * counts / counts.mean())
    return {
        "nats_per_token": mean,
        "ci95": half if len(ids) > 1 else None,
        "bits_per_char": mean * len(stream) / stream.characters / log(2.0) if stream.characters else None,
        "perplexity": exp(min(mean, 700.0)),
        "tokens_per_second": float(counts.sum()) / seconds,
        "nfe": draws,
        "n": len(ids),
        "pieces_in_all": share,
    }
