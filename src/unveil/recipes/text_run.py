"""Text models at work: `unveil sample text` and `unveil eval text`."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from torch import Tensor

    from unveil.apps.text_generation import Canvas, TextSettings
    from unveil.apps.text_model import TextModel
    from unveil.recipes.progress import Progress
    from unveil.recipes.text import EvalText, SampleText

SHOWN_MASK = "░"
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

    from unveil.apps.text_generation import TextSettings

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
        raise ValueError(f"--temperature must be at least 0 and --remask in 0 .. 1, got {config.temperature} and {config.remask}")
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


def sample_text(config: SampleText) -> dict[str, Any]:
    """Write, and describe."""
    import time

    import torch

    from unveil.apps.text_canvas import check_room
    from unveil.apps.text_generation import gap_canvas, prompt_canvas, until_end, write, write_on
    from unveil.errors import UnveilError
    from unveil.recipes.doctor import commit, machine
    from unveil.recipes.text_load import load_text_model
    from unveil.sampling.noise import generators

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
        raise UnveilError("infilling needs a masked model; this one, causal or of blocks, does not see what follows a gap: give --prompt")
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
        "summary": "\n---\n".join(map(printable, texts)) + f"\n\n{wanted} tokens in {written.calls} calls, {speed:,.0f} tokens/s",
    }


def printable(text: str) -> str:
    """Text that a terminal may show: control characters, which could move its cursor, become the replacement character."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def partly(model: TextModel, row: list[int]) -> str:
    """Text with a sign for each token that is still masked."""
    shown, piece = "", []
    for token in [*row, None]:
        if token is None or token == model.tokens.mask_id:
            shown += model.tokens.decode(piece) + (SHOWN_MASK if token is not None else "")
            piece = []
        else:
            piece.append(token)
    return printable(shown)


@contextmanager
def shown(model: TextModel, canvas: Canvas, watch: bool, every: int = 1) -> Generator[Callable[[Tensor], object] | None]:
    """Yields what to call after each step: the first sample, redrawn in place in a terminal; elsewhere a line every so many steps."""
    if not watch:
        yield None
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(stderr=True)
    padding = int((~canvas.valid[0]).sum())  # on the left; rows may grow on the right
    if not console.is_terminal:
        steps = count(1)

        def line(state: Tensor) -> None:
            if next(steps) % every == 0:
                console.print(Text(partly(model, state[0][padding:].tolist()).replace("\n", "⏎")), soft_wrap=True)

        yield line
        return
    with Live(console=console, refresh_per_second=20, transient=True) as live:
        yield lambda state: live.update(Text(partly(model, state[0][padding:].tolist())))


def evaluate_text(config: EvalText, progress: Progress) -> dict[str, Any]:
    """Score text; returns metrics."""
    import json

    import torch

    from unveil.apps.text_likelihood import is_exact
    from unveil.data.files import check_output, output
    from unveil.data.files import found as files_found
    from unveil.data.text import is_prepared, pack, read_documents, split_documents
    from unveil.errors import UnveilError
    from unveil.evaluation.text import text_metrics, token_scores
    from unveil.recipes.locate import find_checkpoint
    from unveil.recipes.run_config import read_config
    from unveil.recipes.text_load import load_text_model
    from unveil.recipes.text_train import prepared_text
    from unveil.weights.llada import is_llada

    for name, least in (("draws", 1), ("pieces", 0), ("limit", 0), ("batch_size", 1), ("threads", 0)):
        if getattr(config, name) < least:
            raise ValueError(f"--{name.replace('_', '-')} must be at least {least}, got {getattr(config, name)}")
    if config.times == "antithetic" and config.draws % 2:
        raise ValueError(f"--times antithetic draws pairs; --draws must be even, got {config.draws}")
    if config.threads:
        torch.set_num_threads(config.threads)
    if config.scores is not None:
        check_output(config.scores, SCORES)
    foreign = is_llada(Path(config.checkpoint))
    if foreign and config.data is None and not config.tasks:
        raise UnveilError(f"{config.checkpoint}: other people's weights do not say where their data are; give --data FILE")
    model = load_text_model(config.checkpoint, config.device, adapter=config.adapter)
    if config.tasks:
        from unveil.evaluation.harness import harness_metrics

        tasks = [task.strip() for task in config.tasks.split(",")]
        metrics = harness_metrics(model, tasks, config.limit, draws=config.draws, batch=config.batch_size, seed=config.seed)
        return {"metrics": metrics, "protocol": f"lm-evaluation-harness, {config.draws} draws a likelihood"}
    if config.data is not None:
        what, stream = config.data, pack(read_documents(config.data, config.field, config.encoding), model.tokens)
    else:
        trained = read_config(find_checkpoint(config.checkpoint), "text")
        if "data" not in trained:
            raise UnveilError("packaged weights do not say where their data are; give --data FILE")
        if trained.get("sft"):
            raise UnveilError("this model was fine-tuned on instructions, of which none are held out; give --data FILE")
        what, encoding = f"the last {trained['hold_out']:.0%} of {trained['data']}", trained.get("encoding", "utf-8")
        if is_prepared(files_found(Path(trained["data"]))):
            prepared = prepared_text(trained["data"], trained["field"], trained["hold_out"], encoding)
            if prepared.tokens.written() != model.tokens.written():
                raise UnveilError(f"{trained['data']} was prepared anew since, with another tokenizer; give --data FILE")
            stream = prepared.held
        else:
            held = split_documents(read_documents(trained["data"], trained["field"], encoding), trained["hold_out"])[1]
            stream = pack(held, model.tokens)
        if not len(stream):
            raise UnveilError("nothing was held out of this model's data; give --data FILE")
    metrics = text_metrics(
        model,
        stream,
        config.draws,
        config.seed,
        config.pieces,
        config.batch_size,
        lambda done, total: progress("scoring", done, total, {}),
        form=config.form,
        times=config.times,
    )
    if config.scores is not None:
        with output(config.scores, SCORES) as partial, open(partial, "w", encoding="utf-8") as handle:
            for line in token_scores(model, stream, config.pieces, lambda done, total: progress("tokens", done, total, {})):
                handle.write(json.dumps(line) + "\n")
    if is_exact(model) and config.form == "l":
        return {"metrics": metrics, "protocol": f"exactly, pieces of {model.shape.context} tokens, on {what}"}
    return {"metrics": metrics, "protocol": f"bound by {config.draws} draws a piece of {model.shape.context} tokens, on {what}"}
