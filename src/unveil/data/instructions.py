"""Instructions to learn from: pairs of prompt and response, and chats of many turns; a response is learned given all before it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unveil.data.chat import ROLES, Turn, encode_answer, encode_chat
from unveil.data.files import found
from unveil.data.text import read_text
from unveil.data.tokens import Tokens
from unveil.errors import UnveilError


class Chat(NamedTuple):
    """Turns of which at least one is the assistant's, and where they stand, for messages."""

    turns: tuple[Turn, ...]
    place: str


def read_chats(source: str | Path, prompt: str = "prompt", response: str = "response") -> list[Chat]:
    """The chats of a jsonl file (also .jsonl.gz; also below $UNVEIL_DATA): a pair of texts a line, or a list of turns under "messages".

        {"prompt": "...", "response": "..."}
        {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}, ...]}

    Args:
        prompt, response: names of a pair's fields.
    Raises:
        UnveilError: nothing there, no lines, or a line without a prompt or a response; the line's number is said.
    """
    file = found(Path(source))
    if not file.is_file():
        raise UnveilError(f"{source}: no such file, here, below $UNVEIL_DATA or in the cache; give a jsonl file of instructions")
    lines = [(number, line) for number, line in enumerate(read_text(file).split("\n"), 1) if line.strip()]
    if not lines:
        raise UnveilError(f'{file}: no lines in it; needed is one JSON object a line, as {{"{prompt}": "...", "{response}": "..."}}')
    return [_chat(f"{file}, line {number}", line, prompt, response) for number, line in lines]


def _chat(place: str, line: str, prompt: str, response: str) -> Chat:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UnveilError(f"{place}: not JSON ({str(error)[:80]})") from error
    if not isinstance(value, dict):
        raise UnveilError(f"{place}: no JSON object")
    line_ = cast(dict[str, Any], value)
    if "messages" in line_:
        return _turns(place, line_["messages"])
    has = ", ".join(line_)[:80] or "nothing"
    for name, flag in ((prompt, "--prompt-field"), (response, "--response-field")):
        if not isinstance(line_.get(name), str):
            raise UnveilError(f"{place}: no text in the field {name!r} (it has {has}); name another with {flag}")
    return Chat((Turn("user", line_[prompt]), Turn("assistant", line_[response])), place)


def _turns(place: str, messages: object) -> Chat:
    turns: list[Turn] = []
    for message in cast(list[Any], messages) if isinstance(messages, list) else []:
        it: Mapping[str, Any] = cast(dict[str, Any], message) if isinstance(message, dict) else {}
        role, content = it.get("role"), it.get("content")
        if role not in ROLES or not isinstance(content, str):
            raise UnveilError(f"{place}: turn {len(turns) + 1} of its messages needs a role ({', '.join(ROLES)}) and a content")
        turns.append(Turn(role, content))
    if not any(turn.role == "assistant" for turn in turns):
        raise UnveilError(f"{place}: no turn of the assistant in its messages, so there is no response to learn")
    return Chat(tuple(turns), place)


class Pair(NamedTuple):
    """What is given, and what is learned, as tokens; the response ends with the token that ends it."""

    prompt: list[int]
    response: list[int]


class Examples:
    """Chats as tokens, each with a pair for every turn of the assistant: all before it is its prompt. Nie et al. 2025, section 2.3.

    Args:
        context: pairs that are longer are left out, and counted in `left_out`.
    Raises:
        UnveilError: a turn holds a special token, or no pair fits.
    """

    def __init__(self, chats: Sequence[Chat], tokens: Tokens, context: int) -> None:
        self.eos_id, self.left_out = tokens.eos_id, 0
        self.chats: list[list[Pair]] = []
        for chat in chats:
            try:
                pairs = [
                    Pair(encode_chat(tokens, chat.turns[:i]), encode_answer(tokens, turn.content))
                    for i, turn in enumerate(chat.turns)
                    if turn.role == "assistant"
                ]
            except UnveilError as error:
                raise UnveilError(f"{chat.place}: {error}") from error
            fitting = [pair for pair in pairs if len(pair.prompt) + len(pair.response) <= context]
            self.left_out += len(pairs) - len(fitting)
            if fitting:
                self.chats.append(fitting)
        if not self.chats:
            raise UnveilError(f"no prompt with its response fits into {context} tokens, the model's context; give shorter examples")

    def draw(self, count: int, generator: torch.Generator) -> tuple[Int[Tensor, "B L"], Bool[Tensor, "B L"]]:
        """`count` chats at random, of each one turn at random: rows of prompt and response, and where the prompt is.

        Responses are filled up with end-of-text, which is learned like any other token, to the longest row: so it is learned when to end.
        """
        chosen = torch.randint(len(self.chats), (count,), generator=generator, device="cpu").tolist()
        turn = torch.rand(count, generator=generator, device="cpu").tolist()
        pairs = [self.chats[i][int(u * len(self.chats[i]))] for i, u in zip(chosen, turn, strict=True)]
        return rows_of(pairs, self.eos_id)


def rows_of(pairs: Sequence[Pair], eos_id: int) -> tuple[Int[Tensor, "B L"], Bool[Tensor, "B L"]]:
    """Pairs as rows of one length, end-of-text after the shorter ones, and where their prompts are."""
    longest = max(len(pair.prompt) + len(pair.response) for pair in pairs)
    whole = [[*pair.prompt, *pair.response] for pair in pairs]
    ids = torch.tensor([row + [eos_id] * (longest - len(row)) for row in whole], device="cpu")
    lengths = torch.tensor([len(pair.prompt) for pair in pairs], device="cpu")
    return ids, torch.arange(longest, device="cpu") < lengths[:, None]
