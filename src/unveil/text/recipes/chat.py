"""`unveil chat`: answers to a batch of prompts, or a conversation."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from unveil.text.data.chat import Turn
    from unveil.text.model import TextModel
    from unveil.text.recipes.config import ChatText

NEW = "/new"


def answer_prompts(config: ChatText) -> dict[str, Any]:
    """Answer each of `prompt`, and describe the result."""
    from time import perf_counter

    from unveil.sampling.noise import generators
    from unveil.text.chat import answer
    from unveil.text.recipes.display import printable

    model = _model(config)
    noise = generators(config.seed, len(config.prompt))
    began = perf_counter()
    chats = [[*_system(config), _user(prompt)] for prompt in config.prompt]
    done = answer(model, chats, config.writing, noise)
    seconds = perf_counter() - began
    shown = (
        f"> {printable(prompt)}\n{printable(text)}"
        for prompt, text in zip(config.prompt, done.texts, strict=True)
    )
    return {
        "recipe": "text",
        "checkpoint": config.model.checkpoint,
        "protocol": f"chat, order {config.writing.order}",
        "metrics": {"tokens_per_second": done.tokens / seconds, "nfe": done.calls, "n": len(done.texts)},
        "texts": done.texts,
        "summary": "\n\n".join(shown),
    }


def converse(config: ChatText, lines: Iterable[str], say: Callable[[str], object]) -> None:
    """Answer line after line, each conditioned on all lines before it.

    When the context is full, the oldest turns are dropped, with a message.
    """
    from unveil.sampling.noise import generators
    from unveil.text.chat import answer, answer_length
    from unveil.text.data.chat import Turn, encode_chat
    from unveil.text.recipes.display import printable

    model = _model(config)
    length = answer_length(model, config.writing)
    encode_chat(model.tokens, [_user("")])  # refuse an unknown template before anything is typed
    first = _system(config)
    turns: list[Turn] = []
    answered = 0  # the n-th answer uses the seed + n, whatever was said before
    for line in lines:
        if line == NEW:
            turns = []
            say("(a new chat)")
            continue
        turns.append(_user(line))
        kept = _fitting(model, first, turns, length)
        if len(kept) < len(turns):
            say(
                f"(the context of {model.shape.context} tokens is full: {len(turns) - len(kept)} older turns "
                "are forgotten)"
            )
            turns = kept
        try:
            with _streamed(model, config, length) as show:
                noise = generators(config.seed, 1, answered)
                (text,) = answer(model, [[*first, *turns]], config.writing, noise, show).texts
        except ValueError as error:  # about this line, such as one that is longer than the context
            turns.pop()
            say(f"({error})")
            continue
        turns.append(Turn("assistant", text))
        answered += 1
        say(printable(text))


def _fitting(model: TextModel, first: list[Turn], turns: list[Turn], length: int) -> list[Turn]:
    """The newest turns that fit into the context together with `first` and `length` new tokens."""
    from unveil.text.data.chat import encode_chat

    kept = list(turns)
    while len(kept) > 2 and len(encode_chat(model.tokens, [*first, *kept])) + length > model.shape.context:
        kept = kept[2:]
    return kept


def _system(config: ChatText) -> list[Turn]:
    from unveil.text.data.chat import Turn

    return [Turn("system", config.system)] if config.system else []


def _user(content: str) -> Turn:
    from unveil.text.data.chat import Turn

    return Turn("user", content)


def _model(config: ChatText) -> TextModel:
    from unveil.errors import UnveilError
    from unveil.text.recipes.load import load_with

    model = load_with(config.model)
    if model.window:
        raise UnveilError(
            f"{config.model.checkpoint} is causal or of blocks; instructions are for masked models, and so "
            "is chat"
        )
    return model


@contextmanager
def _streamed(
    model: TextModel, config: ChatText, length: int
) -> Generator[Callable[[Tensor], object] | None]:
    """Yield a function that redraws the answer in place as its tokens are revealed, or None outside a
    terminal."""
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
