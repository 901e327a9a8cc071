"""Likelihood metrics of text: nats per token, bits per character, perplexity; all are upper bounds or
exact."""

import time
from collections.abc import Callable, Iterator
from math import exp, log

import numpy as np
import torch

from unveil.runs.statistics import mean_ci95
from unveil.text.data.documents import Stream, in_order
from unveil.text.likelihood import conditional_nats, is_exact, text_nats
from unveil.text.model import TextModel
from unveil.text.shape import Form, Times


def text_metrics(
    model: TextModel,
    stream: Stream,
    draws: int,
    seed: int = 0,
    pieces: int = 0,
    batch: int = 32,
    progress: Callable[[int, int], None] | None = None,
    form: Form = "l",
    times: Times = "stratified",
) -> dict[str, object]:
    """Score a stream cut into pieces of the context's length, each by itself.

    Args:
        draws: number of network calls per piece, each with another number of masks.
        seed: piece i of the stream uses the seed + i, whatever the batch and the number of pieces.
        pieces: number of pieces to score, evenly spaced; 0: all.
        form, times: as in `text_nats`.
    Returns:
        nats_per_token, bits_per_char and perplexity, upper bounds unless the likelihood is exact; ci95, half
        the 95 % confidence interval of nats_per_token over pieces, masks included; tokens_per_second, scored
        tokens; nfe, network calls per piece.
    Raises:
        ValueError: draws or batch below 1, pieces below 0, or no text.
    """
    if draws < 1 or pieces < 0 or batch < 1 or not len(stream):
        raise ValueError(
            f"draws and batch must be at least 1, pieces at least 0, and text be there; got {draws}, "
            f"{batch}, {pieces} and {stream}"
        )
    ids, valid, numbers, share = _pieces(model, stream, pieces)
    calls = 1 if is_exact(model) and (model.shape.causal or form == "l") else draws
    began, batches = time.perf_counter(), list[np.ndarray]()
    for start in range(0, len(ids), batch):
        part = torch.from_numpy(ids[start : start + batch].astype(np.int64)).to(model.device)
        real = torch.from_numpy(valid[start : start + batch]).to(model.device)
        noise = [
            torch.Generator(device="cpu").manual_seed(seed + i)
            for i in numbers[start : start + batch].tolist()
        ]
        nats = text_nats(
            model, part, draws, noise, valid=None if bool(real.all()) else real, form=form, times=times
        )
        batches.append(nats.mean(1).double().cpu().numpy())
        if progress is not None:
            progress(min(start + batch, len(ids)), len(ids))
    seconds = time.perf_counter() - began
    counts = valid.sum(1)
    scores = np.concatenate(batches)
    mean = float(np.average(scores, weights=counts))
    _, half = mean_ci95((scores - mean) * counts / counts.mean())  # shorter pieces have less weight
    return {
        "nats_per_token": mean,
        "ci95": half if len(ids) > 1 else None,
        "bits_per_char": mean * len(stream) / stream.characters / log(2.0) if stream.characters else None,
        "perplexity": exp(min(mean, 700.0)),
        "tokens_per_second": float(counts.sum()) / seconds,
        "nfe": calls,
        "n": len(ids),
        "pieces_in_all": share,
    }


def token_scores(
    model: TextModel, stream: Stream, pieces: int = 0, progress: Callable[[int, int], None] | None = None
) -> Iterator[dict[str, object]]:
    """For each piece its tokens as text and their `conditional_nats`: {"tokens": [...], "nats": [...]}."""
    ids, valid, _, _ = _pieces(model, stream, pieces)
    for i, (row, real) in enumerate(zip(ids, valid, strict=True)):
        kept = torch.from_numpy(row[real].astype(np.int64))[None].to(model.device)
        nats = conditional_nats(model, kept)[0]
        yield {
            "tokens": [model.tokens.decode([token]) for token in kept[0].tolist()],
            "nats": [round(v, 5) for v in nats.tolist()],
        }
        if progress is not None:
            progress(i + 1, len(ids))


def _pieces(model: TextModel, stream: Stream, pieces: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Pieces of the context's length, their real tokens, their numbers among all pieces, and the number of
    all pieces."""
    length = model.shape.context
    count = -(-len(stream) // length)
    if not 0 < pieces < count:
        return *in_order(stream, length), np.arange(count), count
    chosen = np.linspace(0, count - 1, pieces).round().astype(int)
    parts = [in_order(Stream(stream.ids[i * length : (i + 1) * length], 0), length) for i in chosen]
    return (
        np.concatenate([ids for ids, _ in parts]),
        np.concatenate([valid for _, valid in parts]),
        chosen,
        count,
    )
