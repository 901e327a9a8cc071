"""`unveil chat`: answers to given prompts in one batch, or a conversation."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from unveil.text.data.chat import Turn
    from unveil.text.generation import TextSettings
    from unveil.text.model import TextModel
    from unveil.text.recipes.config import ChatText

NEW = "/new"


def settings_of(config: ChatText, context: int = 256) -> TextSettings:
    """How to answer, as flags say it, by a model of some context.

    Raises:
        ValueError: a number that is out of range.
    """
    from unveil.text.generation import TextSettings

    for name, least in (("length", 1), ("steps", 0), ("blocks", 0), ("threads", 0), ("temperature", 0)):
        if (value := getattr(config, name)) is not None and not value >= least:
            raise ValueError(f"--{name} must be at least {least}, got {value}")
    if config.threshold is not None and not 0.0 < config.threshold <= 1.0:
        raise ValueError(f"--threshold must lie in 0 .. 1, a probability, got {config.threshold}")
    length = min(128, max(1, context // 2)) if config.length is None else config.length
    return TextSettings(
        length,
        config.steps or length,
        config.blocks,
        config.order,
        config.temperature,
        config.scale,
        config.threshold,
    )


def answer_prompts(config: ChatText) -> dict[str, Any]:
    """Answer each of `--prompt`, and describe."""
    import time

    from unveil.runs.machine import commit, machine
    from unveil.sampling.noise import generators
    from unveil.text.chat import answer
    from unveil.text.recipes.display import printable

    settings_of(config)  # what is impossible with any model is refused before one is loaded
    model = _model(config)
    settings = settings_of(config, model.shape.context)
    noise = generators(config.seed, len(config.prompt))
    began = time.perf_counter()
    done = answer(model, [_begun(config, prompt) for prompt in config.prompt], settings, noise)
    seconds = time.perf_counter() - began
    shown = (
        f"> {printable(prompt)}\n{printable(text)}"
        for prompt, text in zip(config.prompt, done.texts, strict=True)
    )
    return {
        "recipe": "text",
        "checkpoint": config.checkpoint,
        "protocol": f"chat, order {config.order}",
        "metrics": {"tokens_per_second": done.tokens / seconds, "nfe": done.calls, "n": len(done.texts)},
        "texts": done.texts,
        "config": asdict(config),
        "seeds": [config.seed],
        "commit": commit(),
        **machine(config.device),
        "seconds": seconds,
        "summary": "\n\n".join(shown),
    }


def converse(config: ChatText, lines: Iterable[str], say: Callable[[str], object]) -> None:
    """Answer line after line, each given all before it. The oldest turns are forgotten, and that is said, where the context ends."""
    from unveil.sampling.noise import generators
    from unveil.text.chat import answer
    from unveil.text.data.chat import Turn, encode_chat
    from unveil.text.recipes.display import printable

    settings_of(config)
    model = _model(config)
    settings = settings_of(config, model.shape.context)
    encode_chat(model.tokens, [Turn("user", "")])  # an unknown template is refused before anything is typed
    first: list[Turn] = [Turn("system", config.system)] if config.system else []
    turns: list[Turn] = []
    answered = 0  # the n-th answer has the random numbers of seed + n, whatever was said before
    for line in lines:
        if line == NEW:
            turns = []
            say("(a new chat)")
            continue
        turns.append(Turn("user", line))
        kept = _fitting(model, first, turns, settings.length)
        if len(kept) < len(turns):
            say(
                f"(the context of {model.shape.context} tokens is full: {len(turns) - len(kept)} older turns are forgotten)"
            )
            turns = kept
        try:
            with _streamed(model, config, settings.length) as show:
                (text,) = answer(
                    model, [[*first, *turns]], settings, generators(config.seed, 1, answered), show
                ).texts
        except ValueError as error:  # of this line, such as one that is longer than the context
            turns.pop()
            say(f"({error})")
            continue
        turns.append(Turn("assistant", text))
        answered += 1
        say(printable(text))


def _fitting(model: TextModel, first: list[Turn], turns: list[Turn], length: int) -> list[Turn]:
    from unveil.text.data.chat import encode_chat

    kept = list(turns)
    while len(kept) > 2 and len(encode_chat(model.tokens, [*first, *kept])) + length > model.shape.context:
        kept = kept[2:]
    return kept


def _begun(config: ChatText, prompt: str) -> list[Turn]:
    from unveil.text.data.chat import Turn

    return [*([Turn("system", config.system)] if config.system else []), Turn("user", prompt)]


def _model(config: ChatText) -> TextModel:
    import torch

    from unveil.errors import UnveilError
    from unveil.text.recipes.load import load_text_model

    if config.threads:
        torch.set_num_threads(config.threads)
    model = load_text_model(config.checkpoint, config.device, adapter=config.adapter)
    if model.window:
        raise UnveilError(
            f"{config.checkpoint} is causal or of blocks; instructions are for masked models, and so is chat"
        )
    return model


@contextmanager
def _streamed(
    model: TextModel, config: ChatText, length: int
) -> Generator[Callable[[Tensor], object] | None]:
    """In a terminal the answer as it is decided, redrawn in place; nothing elsewhere."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from unveil.text.data.chat import answer_of
    from unveil.text.recipes.display import partly

    console = Console(stderr=True)
    if not (config.watch and console.is_terminal):
        yield None
        return
    with Live(console=console, refresh_per_second=20, transient=True) as live:
        yield lambda state: live.update(
            Text(partly(model, answer_of(model.tokens, state[0, -length:].tolist())))
        )
