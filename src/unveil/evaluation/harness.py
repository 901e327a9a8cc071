"""Text models in EleutherAI's lm-evaluation-harness (`pip install 'unveil[harness]'`). Only `as_harness_model` imports the package."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from unveil.apps.text_generation import Canvas, TextSettings, prompt_canvas, until_end, write
from unveil.apps.text_likelihood import text_nats
from unveil.apps.text_model import TextModel
from unveil.errors import UnveilError


class HarnessText:
    """A text model with the methods that the harness calls; requests are any objects whose `args` are as below.

    Likelihoods of masked models, and of blocks, are Monte-Carlo bounds from below, by the l-form with `draws` calls of the network, as of
    LLaDA's own evaluation; those of causal models are exact. Contexts that are too long lose their beginning.

    Args:
        draws: calls of the network for a likelihood. LLaDA: 128, and 1 where the answer is one token.
        batch: requests in one call.
        greedy: find out whether a continuation is what greedy decoding writes, a call a token; else always said not to be.
        settings: of `generate_until`; its length is the harness's, its steps as many as tokens.
    """

    def __init__(
        self,
        model: TextModel,
        draws: int = 128,
        batch: int = 16,
        greedy: bool = True,
        settings: TextSettings | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()  # of the harness's LM, where that is a base
        self.model, self.draws, self.batch, self.greedy, self.settings = model, draws, batch, greedy, settings or TextSettings()
        self.generator = torch.Generator(device="cpu").manual_seed(seed)

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """args (context, continuation) -> (log p(continuation | context) in nats, whether it is what greedy decoding writes)."""
        pairs = [self._pair(*request.args) for request in requests]
        found: dict[int, tuple[float, bool]] = {}
        for part in self._batches(pairs):
            ids, known, valid = self._rows([pairs[i] for i in part])
            nats = text_nats(self.model, ids, self.draws, self.generator, known=known, valid=None if bool(valid.all()) else valid).mean(1)
            totals = (-nats * (valid & ~known).sum(1)).tolist()
            for i, total in zip(part, totals, strict=True):
                found[i] = (float(total), self.greedy and self._is_greedy(*pairs[i]))
        return [found[i] for i in range(len(pairs))]

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        """args (text,) -> log p(text) in nats, in pieces of the model's context, each by itself."""
        size, totals = self.model.shape.context, list[float]()
        for request in requests:
            ids = self.model.tokens.encode(request.args[0])
            pieces: list[tuple[list[int], list[int]]] = [([], ids[i : i + size]) for i in range(0, len(ids), size)]
            total = 0.0
            for part in self._batches(pieces):
                rows, _, valid = self._rows([pieces[i] for i in part])
                nats = text_nats(self.model, rows, self.draws, self.generator, valid=None if bool(valid.all()) else valid).mean(1)
                total -= float((nats * valid.sum(1)).sum())
            totals.append(total)
        return totals

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """args (context, {"until": ..., "max_gen_toks": ..., "temperature": ...}) -> what follows, up to the first of `until`."""
        found: dict[int, str] = {}
        tokens = self.model.tokens
        jobs = [(i, request.args[0], dict(request.args[1])) for i, request in enumerate(requests)]
        for wish, same in groupby(sorted(jobs, key=lambda job: str(job[2])), key=lambda job: job[2]):
            length = min(int(wish.get("max_gen_toks", 128)), self.model.shape.context)
            temperature = float(wish.get("temperature", 0.0)) if wish.get("do_sample", False) else 0.0
            settings = replace(self.settings, length=length, steps=length, temperature=temperature)
            rows = list(same)
            for start in range(0, len(rows), self.batch):
                part = rows[start : start + self.batch]
                prompts = [_last(tokens.encode(context), self.model.shape.context - length) for _, context, _ in part]
                written = write(self.model, prompt_canvas(prompts, length, tokens, self.model.device), settings, self.generator).ids
                for (i, _, _), row in zip(part, written[:, -length:].tolist(), strict=True):
                    found[i] = _until(tokens.decode(until_end(row, tokens, settings)), wish.get("until", ()))
        return [found[i] for i in range(len(jobs))]

    def _pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Tokens of both, cut where the context's end; its trailing blanks belong to the continuation."""
        bare = context.rstrip()
        whole = self.model.tokens.encode(context + continuation)
        first = len(self.model.tokens.encode(bare))
        known, asked = whole[:first], whole[first:]
        if not 0 < len(asked) <= self.model.shape.context:
            raise UnveilError(f"a continuation of {len(asked)} tokens cannot be scored; the model's context is {self.model.shape.context}")
        return _last(known, self.model.shape.context - len(asked)), asked

    def _batches(self, pairs: Sequence[tuple[list[int], list[int]]]) -> Iterable[list[int]]:
        order = sorted(range(len(pairs)), key=lambda i: len(pairs[i][0]) + len(pairs[i][1]))
        return [order[i : i + self.batch] for i in range(0, len(order), self.batch)]

    def _rows(self, pairs: Sequence[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens, which of them are given, and which are real, padded on the right."""
        longest = max(len(context) + len(asked) for context, asked in pairs)
        ids = torch.full((len(pairs), longest), self.model.tokens.eos_id)
        known, valid = torch.zeros_like(ids, dtype=torch.bool), torch.zeros_like(ids, dtype=torch.bool)
        for i, (context, asked) in enumerate(pairs):
            count = len(context) + len(asked)
            ids[i, :count], valid[i, :count], known[i, : len(context)] = torch.tensor([*context, *asked]), True, True
        device = self.model.device
        return ids.to(device), known.to(device), valid.to(device)

    def _is_greedy(self, context: list[int], asked: list[int]) -> bool:
        ids = torch.tensor([[*context, *[self.model.tokens.mask_id] * len(asked)]], device=self.model.device)
        settings = TextSettings(length=len(asked), steps=len(asked), stop=False)
        return write(self.model, Canvas(ids, torch.ones_like(ids, dtype=torch.bool)), settings).ids[0, len(context) :].tolist() == asked


def as_harness_model(model: TextModel, **options: Any) -> Any:
    """A `HarnessText` that is an `lm_eval.api.model.LM`, for `lm_eval.simple_evaluate(model=..., tasks=[...])`.

    Raises:
        UnveilError: the package is not installed.
    """
    try:
        from lm_eval.api.model import LM  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UnveilError("tasks of lm-evaluation-harness need the package lm_eval: pip install 'unveil[harness]'") from error
    return type("UnveilText", (HarnessText, LM), {})(model, **options)


def harness_metrics(model: TextModel, tasks: Sequence[str], limit: int = 0, **options: Any) -> dict[str, Any]:
    """Run tasks of the harness, which fetches their data itself: {"<task>_<metric>": number}.

    Args:
        limit: questions of each task; 0: all.
    Raises:
        UnveilError: the package is not installed.
    """
    adapter = as_harness_model(model, **options)
    from lm_eval import simple_evaluate  # pyright: ignore[reportMissingImports]

    results = simple_evaluate(model=adapter, tasks=list(tasks), limit=limit or None)["results"]
    return {
        f"{task}_{name.split(',')[0]}": value
        for task, row in results.items()
        for name, value in row.items()
        if isinstance(value, int | float)
    }


def _last(ids: list[int], count: int) -> list[int]:
    return ids[len(ids) - count :] if 0 < count < len(ids) else ids if count else []


def _until(text: str, stops: Any) -> str:
    for stop in [stops] if isinstance(stops, str) else stops:
        text = text.split(stop)[0] if stop else text
    return text
