"""Text models at work: `unveil sample text` and `unveil eval text`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from unveil.text.recipes.display import printable, shown

if TYPE_CHECKING:
    from unveil.runs.progress import Progress
    from unveil.text.generation import TextSettings
    from unveil.text.recipes.config import SampleText

SCORES = '{"tokens": ['  # how files of --scores begin


LENGTH = 128


def settings_of(config: SampleText, room: int = LENGTH) -> TextSettings:
    """How to write, as flags say it.

    Args:
        room: tokens that the context leaves after the prompt; by default no more are written.
    Raises:
        ValueError: a number that is out of range.
    """
    from math import inf, isfinite

    from unveil.text.generation import TextSettings

    for name, least in (("length", 0), ("count", 1), ("steps", 1), ("blocks", 0), ("threads", 0)):
        if (value := getattr(config, name)) is not None and value < least:
            raise ValueError(f"--{name} must be at least {least}, got {value}")
    if not isfinite(config.scale):
        raise ValueError(f"--scale must be a number, got {config.scale}")
    if config.threshold is not None and not 0.0 < config.threshold <= 1.0:
        raise ValueError(f"--threshold must lie in 0 .. 1, a probability, got {config.threshold}")
    if config.factor is not None and not 0.0 < config.factor < inf:
        raise ValueError(f"--factor must be a number above 0, got {config.factor}")
    if not 0.0 <= config.temperature < inf or not 0.0 <= config.remask <= 1.0:
        raise ValueError(
            f"--temperature must be at least 0 and --remask in 0 .. 1, got {config.temperature} and {config.remask}"
        )
    if config.edit is not None and not 0.0 < config.edit <= 1.0:
        raise ValueError(f"--edit must lie in 0 .. 1, a probability, got {config.edit}")
    if config.remask and config.order == "first-hitting":
        raise ValueError("--remask needs another --order: first-hitting masks nothing again")
    return TextSettings(
        length=max(1, min(LENGTH, room)) if config.length is None else config.length or config.blocks or 32,
        steps=config.steps,
        block=config.blocks,
        order=config.order,
        temperature=config.temperature,
        scale=config.scale,
        threshold=config.threshold,
        factor=config.factor,
        remask=config.remask,
        stop=config.stop,
        may_end=config.infill is None,
        cache=config.cache,
        edit=config.edit,
    )


def sample_text(config: SampleText, progress: Progress) -> dict[str, Any]:
    """Write, and describe."""
    import time

    import torch

    from unveil.errors import UnveilError
    from unveil.runs.machine import commit, machine
    from unveil.sampling.noise import generators
    from unveil.text.canvas import check_room
    from unveil.text.generation import gap_canvas, prompt_canvas, until_end, write, write_on
    from unveil.text.recipes.load import load_text_model

    settings_of(config)  # what is impossible with any model is refused before one is loaded
    if config.prompt and config.infill is not None:
        raise ValueError("give --prompt or --infill, not both; the pattern may begin with the prompt")
    if config.threads:
        torch.set_num_threads(config.threads)
    model = load_text_model(config.checkpoint, config.device, adapter=config.adapter)
    tokens = model.tokens
    prompt = tokens.encode(config.prompt)
    settings = settings_of(config, model.shape.context - len(prompt))
    if config.infill is not None and model.window:
        raise UnveilError(
            "infilling needs a masked model; this one, causal or of blocks, does not see what follows a gap: give --prompt"
        )
    if config.infill is None:
        check_room(model, len(prompt), settings.length if config.length != 0 else 1)
        canvas = prompt_canvas([prompt] * config.count, settings.length, tokens, model.device)
    else:
        canvas = gap_canvas([config.infill] * config.count, tokens, model.device)
    noise = generators(config.seed, config.count)
    began = time.perf_counter()
    with shown(model, canvas, config.watch) as show:
        if config.infill is None and config.length == 0:
            written = write_on(model, [prompt] * config.count, settings, noise, show)
        else:
            written = write(model, canvas, settings, noise, show)
    seconds = time.perf_counter() - began
    first = canvas.ids.shape[1] - settings.length
    given = int((canvas.ids != tokens.mask_id).sum())
    wanted = int((written.ids != tokens.mask_id).sum()) - given  # those after an end stay masked
    texts: list[str] = []
    for row in written.ids.tolist():
        kept = row if config.infill is not None else row[:first] + until_end(row[first:], tokens, settings)
        texts.append(tokens.decode(kept))
    speed = wanted / seconds
    return {
        "recipe": "text",
        "checkpoint": config.checkpoint,
        "protocol": f"{'infill' if config.infill is not None else 'prompt'}, order {config.order}",
        "metrics": {"tokens_per_second": speed, "nfe": written.calls, "n": config.count},
        "texts": texts,
        "config": asdict(config),
        "seeds": [config.seed],
        "commit": commit(),
        **machine(config.device),
        "seconds": seconds,
        "summary": "\n---\n".join(map(printable, texts))
        + f"\n\n{wanted} tokens in {written.calls} calls, {speed:,.0f} tokens/s",
    }
