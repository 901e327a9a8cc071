"""Text models in EleutherAI's lm-evaluation-harness (`pip install 'unveil[harness]'`). Only
`as_harness_model` imports the package."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from unveil.errors import UnveilError
from unveil.files.notes import note
from unveil.text.canvas import padded
from unveil.text.generation import until_end, write, write_after
from unveil.text.likelihood import text_nats
from unveil.text.model import TextModel
from unveil.text.settings import TextSettings

Requests = Sequence[Any]  # of lm_eval, which has no stubs
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
        self.model, self.draws, self.batch, self.greedy, self.seed = model, draws, batch, greedy, seed
        self.settings = settings or TextSettings()
        self.noted: set[str] = set()

    def loglikelihood(self, requests: Requests) -> list[tuple[float, bool]]:
        """args (context, continuation) -> (log p(continuation | context) in nats, whether greedy decoding
        writes it)."""
        pairs = [self._pair(*request.args) for request in requests]
        totals = self._scores(pairs, range(len(pairs)))
        return [
            (total, self.greedy and self._is_greedy(*pair)) for total, pair in zip(totals, pairs, strict=True)
        ]

    def loglikelihood_rolling(self, requests: Requests) -> list[float]:
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

    def generate_until(self, requests: Requests) -> list[str]:
        """args (context, options) -> the continuation, up to the first of `until` (a text, a list, or None).

        The number of new tokens is `max_gen_toks`, or `max_new_tokens` or `max_tokens`. If these and the
        prompt do not fit into the model's context, the prompt keeps its end, at least half of that context,
        and fewer tokens are written; a note says so once. `do_sample` false is greedy; otherwise
        `temperature` is used if it is set and above 0, or 1 if `do_sample` is true without a temperature.
        """
        answers: dict[int, str] = {}
        tokens, jobs = self.model.tokens, list[_Job]()
        for i, request in enumerate(requests):
            options = dict(request.args[1] or {})
            lengths = (int(options[name]) for name in LENGTHS if options.get(name) is not None)
            length = next(lengths, self.settings.tokens(self.model.shape.context))
            if unknown := sorted(set(options) - {*LENGTHS, "until", "temperature", "do_sample"} - self.noted):
                self._note(unknown, f"{', '.join(unknown)} of generate_until are not used")
            prompt, length = self._fitting(tokens.encode(request.args[0]), length)
            until = options.get("until")
            stops = [stop for stop in ([until] if isinstance(until, str) else until or ()) if stop]
            temperature = _temperature(options.get("temperature"), options.get("do_sample"))
            jobs.append(_Job(i, prompt, stops, length, temperature))
        for (length, temperature), same in groupby(sorted(jobs, key=_Job.kind), key=_Job.kind):
            settings = replace(self.settings, length=length, steps=length, temperature=temperature)
            rows = list(same)
            for start in range(0, len(rows), self.batch):
                part = rows[start : start + self.batch]
                prompts, noise = [job.prompt for job in part], self._noise([job.number for job in part])
                written = write_after(self.model, prompts, length, settings, noise).ids.tolist()
                for job, row in zip(part, written, strict=True):
                    text = tokens.decode(until_end(row, tokens, settings))
                    for stop in job.stops:
                        text = text.split(stop)[0]
                    answers[job.number] = text
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
            self._note(
                ["fitting"],
                f"a prompt of {len(prompt)} tokens and {length} new ones do not fit into the model's context "
                f"of {context}: of such prompts the last {kept} are kept, and {room} written; give a smaller "
                "max_gen_toks",
            )
        return prompt[len(prompt) - kept :], room

    def _note(self, names: Iterable[str], message: str) -> None:
        """Print a note, once per name."""
        if not set(names) <= self.noted:
            self.noted |= set(names)
            note(message)

    def _pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Tokens of both; trailing blanks of the context belong to the continuation."""
        ids, room = self.model.tokens.encode(context + continuation), self.model.shape.context
        first = len(self.model.tokens.encode(context.rstrip()))
        known, scored = ids[:first], ids[first:]
        if not 0 < len(scored) <= room:
            raise UnveilError(
                f"a continuation of {len(scored)} tokens cannot be scored; the model's context is {room}"
            )
        return known[max(0, len(known) + len(scored) - room) :], scored

    def _batches(self, pairs: Sequence[tuple[list[int], list[int]]]) -> Iterable[list[int]]:
        order = sorted(range(len(pairs)), key=lambda i: len(pairs[i][0]) + len(pairs[i][1]))
        return [order[i : i + self.batch] for i in range(0, len(order), self.batch)]

    def _rows(self, pairs: Sequence[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (B, L), padded on the right, and bool masks (B, L) of the contexts and of the real
        tokens."""
        rows, device = [[*context, *continuation] for context, continuation in pairs], self.model.device
        lengths = torch.tensor(
            [[len(context), len(row)] for (context, _), row in zip(pairs, rows, strict=True)]
        )
        longest, filler = int(lengths.max()), self.model.tokens.eos_id
        ids = torch.tensor([row + [filler] * (longest - len(row)) for row in rows])
        known, valid = (torch.arange(longest) < lengths[..., None]).unbind(1)
        return ids.to(device), known.to(device), valid.to(device)

    def _is_greedy(self, context: list[int], continuation: list[int]) -> bool:
        length = len(continuation)
        tokens, settings = self.model.tokens, TextSettings(length=length, steps=length, stop=False)
        canvas = padded([[*context, *[tokens.mask_id] * length]], tokens.eos_id, self.model.device)
        return write(self.model, canvas, settings).ids[0, -length:].tolist() == continuation


def as_harness_model(model: TextModel, **options: object) -> HarnessText:
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
    made = cast(Callable[..., HarnessText], type("UnveilText", (HarnessText, LM), {}))
    return made(model, **options)


def harness_metrics(
    model: TextModel, tasks: Sequence[str], limit: int = 0, **options: object
) -> dict[str, object]:
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


class _Job(NamedTuple):
    """A request of `generate_until`."""

    number: int
    prompt: list[int]
    stops: list[str]
    length: int
    temperature: float

    def kind(self) -> tuple[int, float]:
        return self.length, self.temperature


def _temperature(value: int | float | None, sampled: bool | None) -> float:
    if sampled is False or (value is not None and not float(value) > 0.0):
        return 0.0
    return (1.0 if sampled else 0.0) if value is None else float(value)
