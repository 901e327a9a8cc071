"""Guidance by prompts in AUTOMATIC1111's language: weights, words that change with the step, and AND."""

from collections.abc import Sequence

import torch
from torch import Tensor

from unveil.image.model import ImageModel
from unveil.image.prompts.prompt import Prompt, Timeline, WeightedText, parse, timeline
from unveil.image.prompts.text_conditioning import with_text
from unveil.image.settings import ImageSettings
from unveil.network.condition import Condition
from unveil.process.denoised import GaussianDenoise
from unveil.sampling.composition import Denoiser, changing, composed
from unveil.sampling.guidance import Branch, cfg


def prompted(
    model: ImageModel,
    denoiser: Denoiser,
    prompts: Sequence[str],
    negative: str,
    others: tuple[Condition | None, Condition | None],
    settings: ImageSettings,
    times: Tensor,
    earlier: int = 0,
) -> GaussianDenoise:
    """The denoiser of B images that prompts describe. Each distinct text is encoded once, before sampling.

    Args:
        denoiser: (x_t, t, condition) -> belief.
        prompts: B texts in the prompt language.
        negative: what guidance leads away from, one text for all; "" is the null condition.
        others: what the condition has besides text, classes and images: of the images, and of the
            unconditional branch.
        times: the grid of the sampler, whose steps the prompts count.
        earlier: steps of the pass before this one, see `PromptPart.at_step`.
    Raises:
        ValueError: settings that exclude each other, or LoRA tags, which the recipe must take out.
    """
    assert model.text is not None
    grid = times.unique().flip(0)  # RePaint visits times more than once
    steps = max(1, len(grid) - 1)
    parsed = [parse(prompt) for prompt in prompts]
    if any(prompt.loras for prompt in parsed):
        raise ValueError("a prompt names LoRA files (<lora:name:weight>); add them to the model instead")
    lines = [timeline(prompt, steps, earlier) for prompt in parsed]
    away = timeline(_without_loras(parse(negative, composed=False)), steps, earlier)
    texts = {
        text: row for row, text in enumerate(dict.fromkeys(t for line in [*lines, away] for t in line.texts))
    }
    with torch.no_grad():
        encoded = model.text.weighted(list(texts), model.device)
    most = max(len(line.weights) for line in lines)
    weights = torch.tensor(
        [[*line.weights, *[0.0] * (most - len(line.weights))] for line in lines]
    ).T  # (K, B)
    stages: dict[tuple[tuple[int, ...], ...], GaussianDenoise] = {}
    at: list[int] = []
    for step in range(steps):
        # of each image, the rows of its parts; images with fewer parts repeat the first, with weight 0
        rows = [_rows(line, step, texts) for line in lines]
        used = tuple(tuple(row[k if k < len(row) else 0] for row in rows) for k in range(most))
        null = _rows(away, step, texts) * len(lines)
        key = (*used, null)
        if key not in stages:
            branches = [Branch(with_text(others[0], encoded.at(_index(row, encoded)))) for row in used]
            unconditional = Branch(with_text(others[1], encoded.at(_index(null, encoded))))
            stages[key] = _guided(denoiser, branches, weights, unconditional, settings)
        at.append(list(stages).index(key))
    if len(stages) == 1:
        return next(iter(stages.values()))
    edges = grid[:-1].tolist()

    def stage(t: float) -> int:
        passed = sum(edge >= t - 1e-9 for edge in edges)  # steps that have begun
        return at[max(passed, 1) - 1]

    return changing(list(stages.values()), stage)


def _guided(
    denoiser: Denoiser, branches: Sequence[Branch], weights: Tensor, null: Branch, settings: ImageSettings
) -> GaussianDenoise:
    if len(branches) > 1:
        if settings.rescale:
            raise ValueError("`rescale` is not defined for prompts that are joined by AND; leave it out")
        return composed(denoiser, branches, weights, null, settings.scale, settings.interval)
    if settings.scale == 1.0:
        return lambda x_t, t: denoiser(x_t, t, branches[0].condition)
    return cfg(denoiser, branches[0], null, settings.scale, settings.interval, settings.rescale)


def _rows(line: Timeline, step: int, texts: dict[WeightedText, int]) -> tuple[int, ...]:
    return tuple(texts[line.texts[k]] for k in line.steps[step])


def _index(rows: Sequence[int], encoded: Condition) -> Tensor:
    assert encoded.tokens is not None
    return torch.tensor(rows, device=encoded.tokens.device)


def _without_loras(prompt: Prompt) -> Prompt:
    if prompt.loras:
        raise ValueError("a negative prompt names LoRA files; name them in the prompt")
    return prompt
