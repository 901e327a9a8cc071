"""Text models in EleutherAI's lm-evaluation-harness (`pip install 'unveil[harness]'`). Only
`as_harness_model` imports the package."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unveil.errors import UnveilError
from unveil.files.notes import note
from unveil.text.generation import Canvas, TextSettings, prompt_canvas, until_end, write
from unveil.text.likelihood import text_nats
from unveil.text.model import TextModel

LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")


class HarnessText:
    """A text model with the methods that the harness calls; requests are any objects whose `args` are as
    below.

    Log-likelihoods of masked models and of block diffusion are Monte-Carlo lower bounds, by the l-form with
    `draws` network calls, as in LLaDA's own evaluation; those of causal models are exact. Contexts that are
    too long lose their beginning. The i-th request of a list uses the seed + i, so that no score depends on
    the batch.

    Args:
        draws: network calls per likelihood. LLaDA: 128, and 1 where the answer is one token.
        batch: requests per batch.
        greedy: whether to compare continuations with greedy decoding, at one call per token; otherwise False
            is returned for all.
        settings: settings of `generate_until`, with the harness's length and one step per token.
    Raises:
        ValueError: draws or batch below 1.
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
        if draws < 1 or batch < 1:
            raise ValueError(f"draws and batch must be at least 1, got {draws} and {batch}")
        self.model, self.draws, self.batch, self.greedy, self.settings = (
            model,
            draws,
            batch,
            greedy,
            settings or TextSettings(),
        )
        self.seed, self.said = seed, set[str]()

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """args (context, continuation) -> (log p(continuation | context) in nats, whether greedy decoding
        writes it)."""
        pairs = [self._pair(*request.args) for request in requests]
        totals = self._scores(pairs, range(len(pairs)))
        return [
            (total, self.greedy and self._is_greedy(*pair)) for total, pair in zip(totals, pairs, strict=True)
        ]

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        """args (text,) -> log p(text) in nats, in separate pieces of the context's length; 0 for an empty
        text."""
        size = self.model.shape.context
        pieces, numbers = list[tuple[list[int], list[int]]](), list[tuple[int, int]]()
        for i, request in enumerate(requests):
            ids = self.model.tokens.encode(request.args[0])
            pieces += [([], ids[k : k + size]) for k in range(0, len(ids), size)]
            numbers += [(i, k) for k in range(-(-len(ids) // size))]
        totals = [0.0] * len(requests)
        scores = self._scores(pieces, [i + (k << 32) for i, k in numbers])
        for (i, _), score in zip(numbers, scores, strict=True):
            totals[i] += score
        return totals

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """args (context, options) -> the continuation, up to the first of `until` (a text, a list, or None).

        The number of new tokens is `max_gen_toks`, or `max_new_tokens` or `max_tokens`. If these and the
        prompt do not fit into the model's context, the prompt keeps its end, at least half of that context,
        and fewer tokens are written; a note says so once. `do_sample` false is greedy; otherwise
        `temperature` is used if it is set and above 0, or 1 if `do_sample` is true without a temperature.
        """
        answers: dict[int, str] = {}
        tokens, jobs = self.model.tokens, list[_Job]()
        for i, request in enumerate(requests):
            wish = dict(request.args[1] or {})
            length = next(
                (int(wish[name]) for name in LENGTHS if wish.get(name) is not None),
                self.settings.tokens(self.model.shape.context),
            )
            if unknown := sorted(set(wish) - {*LENGTHS, "until", "temperature", "do_sample"} - self.said):
                self._say(unknown, f"{', '.join(unknown)} of generate_until are not used")
            prompt, length = self._fitting(tokens.encode(request.args[0]), length)
            jobs.append(_Job(i, prompt, _stops(wish.get("until")), length, _temperature(wish)))
        for (length, temperature), same in groupby(sorted(jobs, key=_Job.kind), key=_Job.kind):
            settings = replace(self.settings, length=length, steps=length, temperature=temperature)
            rows = list(same)
            for start in range(0, len(rows), self.batch):
                part = rows[start : start + self.batch]
                canvas = prompt_canvas([job.prompt for job in part], length, tokens, self.model.device)
                written = write(self.model, canvas, settings, self._noise([job.number for job in part])).ids
                for job, row in zip(part, written[:, -length:].tolist(), strict=True):
                    answers[job.number] = _until(tokens.decode(until_end(row, tokens, settings)), job.stops)
        return [answers[i] for i in range(len(jobs))]

    def _scores(self, pairs: Sequence[tuple[list[int], list[int]]], numbers: Sequence[int]) -> list[float]:
        """log p(continuation | context) of each pair, with the seed of its number."""
        scores: dict[int, float] = {}
        for part in self._batches(pairs):
            ids, known, valid = self._rows([pairs[i] for i in part])
            noise, real = self._noise([numbers[i] for i in part]), None if bool(valid.all()) else valid
            nats = text_nats(self.model, ids, self.draws, noise, known=known, valid=real).mean(1)
            totals = (-nats * (valid & ~known).sum(1)).tolist()
            scores |= dict(zip(part, map(float, totals), strict=True))
        return [scores[i] for i in range(len(pairs))]

    def _noise(self, numbers: Sequence[int]) -> list[torch.Generator]:
        return [torch.Generator(device="cpu").manual_seed(self.seed + number) for number in numbers]

    def _fitting(self, prompt: list[int], length: int) -> tuple[list[int], int]:
        """The end of a prompt and a number of new tokens that fit into the context together."""
        context = self.model.shape.context
        if length < 1:
            raise ValueError(f"generate_until: max_gen_toks must be at least 1, got {length}")
        kept = min(len(prompt), max(context - length, context // 2))
        room = min(length, context - kept)
        if room < length or kept < len(prompt):
            self._say(
                ["fitting"],
                f"a prompt of {len(prompt)} tokens and {length} new ones do not fit into the model's context "
                f"of {context}: of such prompts "
                f"the last {kept} are kept, and {room} written; give a smaller max_gen_toks",
            )
        return prompt[len(prompt) - kept :], room

    def _say(self, names: Iterable[str], message: str) -> None:
        """Print a note, once per name."""
        if not set(names) <= self.said:
            self.said |= set(names)
            note(message)

    def _pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Tokens of both; trailing blanks of the context belong to the continuation."""
        bare = context.rstrip()
        whole = self.model.tokens.encode(context + continuation)
        first = len(self.model.tokens.encode(bare))
        known, continuation_ids = whole[:first], whole[first:]
        if not 0 < len(continuation_ids) <= self.model.shape.context:
            raise UnveilError(
                f"a continuation of {len(continuation_ids)} tokens cannot be scored; the model's context is "
                f"{self.model.shape.context}"
            )
        return _last(known, self.model.shape.context - len(continuation_ids)), continuation_ids

    def _batches(self, pairs: Sequence[tuple[list[int], list[int]]]) -> Iterable[list[int]]:
        order = sorted(range(len(pairs)), key=lambda i: len(pairs[i][0]) + len(pairs[i][1]))
        return [order[i : i + self.batch] for i in range(0, len(order), self.batch)]

    def _rows(self, pairs: Sequence[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (B, L), padded on the right, and bool masks (B, L) of the contexts and of the real
        tokens."""
        longest = max(len(context) + len(asked) for context, asked in pairs)
        ids = torch.full((len(pairs), longest), self.model.tokens.eos_id)
        known, valid = torch.zeros_like(ids, dtype=torch.bool), torch.zeros_like(ids, dtype=torch.bool)
        for i, (context, asked) in enumerate(pairs):
            count = len(context) + len(asked)
            ids[i, :count], valid[i, :count], known[i, : len(context)] = (
                torch.tensor([*context, *asked]),
                True,
                True,
            )
        device = self.model.device
        return ids.to(device), known.to(device), valid.to(device)

    def _is_greedy(self, context: list[int], asked: list[int]) -> bool:
        ids = torch.tensor([[*context, *[self.model.tokens.mask_id] * len(asked)]], device=self.model.device)
        settings = TextSettings(length=len(asked), steps=len(asked), stop=False)
        return (
            write(self.model, Canvas(ids, torch.ones_like(ids, dtype=torch.bool)), settings)
            .ids[0, len(context) :]
            .tolist()
            == asked
        )


def as_harness_model(model: TextModel, **options: Any) -> Any:
    """A `HarnessText` that is an `lm_eval.api.model.LM`, for `lm_eval.simple_evaluate(model=...,
    tasks=[...])`.

    Raises:
        UnveilError: the package is not installed.
    """
    try:
        from lm_eval.api.model import LM  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UnveilError(
            "tasks of lm-evaluation-harness need the package lm_eval: pip install 'unveil[harness]'"
        ) from error
    return type("UnveilText", (HarnessText, LM), {})(model, **options)


def harness_metrics(model: TextModel, tasks: Sequence[str], limit: int = 0, **options: Any) -> dict[str, Any]:
    """Run tasks of the harness, which downloads their data itself: {"<task>_<metric>": number}.

    Args:
        limit: number of questions of each task; 0: all.
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


class _Job(NamedTuple):
    """A request of `generate_until`."""

    number: int
    prompt: list[int]
    stops: list[str]
    length: int
    temperature: float

    def kind(self) -> tuple[int, float]:
        return self.length, self.temperature


def _stops(until: Any) -> list[str]:
    return [until] if isinstance(until, str) else [stop for stop in until or () if stop]


def _temperature(wish: Mapping[str, Any]) -> float:
    asked, sampled = wish.get("temperature"), wish.get("do_sample")
    if sampled is False or (asked is not None and not float(asked) > 0.0):
        return 0.0
    return (1.0 if sampled else 0.0) if asked is None else float(asked)


def _until(text: str, stops: Sequence[str]) -> str:
    for stop in stops:
        text = text.split(stop)[0] if stop else text
    return text
