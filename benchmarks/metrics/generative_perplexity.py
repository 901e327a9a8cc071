"""Quality of generated text: generative perplexity under another model, and entropy.

Only both together say something: repeated words have a low perplexity, and noise has a high entropy.
"""

from math import log

import numpy as np
import torch
from jaxtyping import Int

from unveil.errors import UnveilError
from unveil.runs.statistics import mean_ci95
from unveil.text.likelihood import text_nats
from unveil.text.model import TextModel


def unigram_entropy(ids: Int[np.ndarray, "B L"]) -> float:
    """-sum p log p over the tokens of each row, in nats, averaged over rows: the diversity of samples.

    Zheng et al. 2025, section 5: samplers in low precision have a better perplexity because their samples are
    less diverse.
    """
    entropies = []
    for row in ids:
        share = np.unique(row, return_counts=True)[1] / len(row)
        entropies.append(-float((share * np.log(share)).sum()))
    return float(np.mean(entropies))


def judged(judge: TextModel, ids: Int[np.ndarray, "B L"], batch: int = 16) -> dict[str, float]:
    """The exact negative log-likelihood of samples under a causal model of the same vocabulary, and their
    entropy.

    Returns:
        judge_nats_mean, in nats per token; judge_nats_ci95, over rows; unigram_entropy, in nats, at most the
        log of the row's length; n.
    Raises:
        UnveilError: `judge` is not causal, so that its likelihood is only bounded, or rows are longer than
            its context.
    """
    if not judge.shape.causal:
        raise UnveilError("the judge must be a causal model: train one with: unveil train text --causal")
    if ids.shape[1] > judge.shape.context:
        raise UnveilError(
            f"samples of {ids.shape[1]} tokens are longer than the judge's context of {judge.shape.context}"
        )
    parts = [torch.from_numpy(ids[i : i + batch]).long().to(judge.device) for i in range(0, len(ids), batch)]
    nats = torch.cat([text_nats(judge, part, 1)[:, 0] for part in parts]).double().cpu().numpy()
    mean, half = mean_ci95(nats)
    entropy = unigram_entropy(ids)
    assert entropy <= log(ids.shape[1]) + 1e-9
    return {"judge_nats_mean": mean, "judge_nats_ci95": half, "unigram_entropy": entropy, "n": len(ids)}
