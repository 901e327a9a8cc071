"""`unveil chat`: answers to a batch of prompts, or a conversation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import perf_counter

from unveil.errors import UnveilError
from unveil.sampling.noise import generators
from unveil.text.chat import answer, answer_length
from unveil.text.data.chat import Turn, answer_of, encode_chat
from unveil.text.model import TextModel
from unveil.text.recipes.config import ChatText
from unveil.text.recipes.display import printable, shown
from unveil.text.recipes.load import load_with

NEW = "/new"


def answer_prompts(config: ChatText) -> dict[str, object]:
    """Answer each of `prompt`, and describe the result."""
    model, first = _begun(config)
    noise = generators(config.job.seed, len(config.prompt))
    began = perf_counter()
    chats = [[*first, Turn("user", prompt)] for prompt in config.prompt]
    done = answer(model, chats, config.writing, noise)
    seconds = perf_counter() - began
    pairs = zip(config.prompt, done.texts, strict=True)
    return {
        "recipe": "text",
        "checkpoint": config.model.checkpoint,
        "protocol": f"chat, order {config.writing.order}",
        "metrics": {"tokens_per_second": done.tokens / seconds, "nfe": done.calls, "n": len(done.texts)},
        "texts": done.texts,
        "summary": "\n\n".join(f"> {printable(prompt)}\n{printable(text)}" for prompt, text in pairs),
    }


def converse(config: ChatText, lines: Iterable[str], say: Callable[[str], object]) -> None:
    """Answer line after line, each conditioned on all lines before it.

    When the context is full, the oldest turns are dropped, with a message.
    """
    model, first = _begun(config)
    tokens, context, length = model.tokens, model.shape.context, answer_length(model, config.writing)
    encode_chat(tokens, [Turn("user", "")])  # refuse an unknown template before anything is typed
    turns: list[Turn] = []
    answered = 0  # the n-th answer uses the seed + n, whatever was said before
    for line in lines:
        if line == NEW:
            turns = []
            say("(a new chat)")
            continue
        turns.append(Turn("user", line))
        kept = turns
        while len(kept) > 2 and len(encode_chat(tokens, [*first, *kept])) + length > context:
            kept = kept[2:]
        if dropped := len(turns) - len(kept):
            say(f"(the context of {context} tokens is full: {dropped} older messages are dropped)")
            turns = kept
        try:
            with shown(model, config.watch, 0, lambda row: answer_of(tokens, row[-length:])) as show:
                noise = generators(config.job.seed, 1, answered)
                (text,) = answer(model, [[*first, *turns]], config.writing, noise, show).texts
        except ValueError as error:  # about this line, such as one that is longer than the context
            turns.pop()
            say(f"({error})")
            continue
        turns.append(Turn("assistant", text))
        answered += 1
        say(printable(text))


def _begun(config: ChatText) -> tuple[TextModel, list[Turn]]:
    """The model, and the turns that each chat begins with.

    Raises:
        UnveilError: the model was not trained to see a whole chat at once.
    """
    model = load_with(config.model, config.job)
    if model.window:
        raise UnveilError(
            f"{config.model.checkpoint} is causal or of blocks; instructions are for masked models, and so "
            "is chat"
        )
    return model, [Turn("system", config.system)] if config.system else []
