"""Instructions to fine-tune on: pairs of prompt and response, and chats of several turns.

Each response is trained on, conditioned on everything before it.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import compress
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unveil.errors import UnveilError
from unveil.files.notes import note
from unveil.files.places import found
from unveil.files.records import records
from unveil.text.data.chat import ROLES, Role, Turn, encode_answer, encode_chat
from unveil.text.data.tokens import Tokens, note_mended, whole_text

SPEAKERS: dict[str, Role] = {
    **{role: role for role in ROLES},
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "developer": "system",
}
"""Roles, by the names that ShareGPT, OpenAI and others give them."""
_MESSAGE = ("role", "content", "from", "value")
_INPUTS = ("input", "context")
_SYSTEMS = ("system", "system_prompt")
_EMPTY: tuple[object, ...] = (None, "", [], {})


class Chat(NamedTuple):
    """Turns, at least one of them the assistant's, and where they were read, for messages."""

    turns: tuple[Turn, ...]
    place: str


def read_chats(
    source: str | Path, prompt: str = "prompt", response: str = "response", encoding: str = "utf-8"
) -> list[Chat]:
    """The chats of a file (also below $UNVEIL_DATA): .jsonl, an array of objects in .json, each also as .gz,
    or .parquet.

        {"prompt": "...", "response": "..."}
            a pair; or TRL's "completion"; each is a text or a list of messages
        {"instruction": "...", "input": "...", "output": "..."}
            Alpaca: "input", or Dolly's "context", follows the prompt
        {"messages": [{"role": "user", "content": "..."}, ...]}
            OpenAI and TRL
        {"conversations": [{"from": "human", "value": "..."}, ...]}
            ShareGPT
        {"prompt": "...", "chosen": "...", "rejected": "..."}
            preferences, of which the chosen answers are used

    "system" is put first, and "history", a list of [prompt, response], before the prompt. Unused fields are
    noted.

    Args:
        prompt, response: names of the fields of a pair.
        encoding: character encoding of the file.
    Raises:
        UnveilError: no file or no lines, or a line without a prompt or a response (names the line).
        ValueError: an unknown encoding.
    """
    file = found(Path(source))
    if not file.is_file():
        raise UnveilError(
            f"{source}: no such file, here, below $UNVEIL_DATA or in the cache; give a jsonl file of "
            "instructions"
        )
    chats: list[Chat] = []
    unread, mended = Counter[str](), list[str]()
    for value, place in records(file, encoding):
        if not isinstance(value, dict):
            raise UnveilError(f"{place}: no JSON object")
        line = _Line(cast(dict[str, object], value), place)
        turns = _turns_of(line, prompt, response)
        unread.update(name for name, it in line.fields.items() if name not in line.read and it not in _EMPTY)
        unread.update(line.inner)
        clean = tuple(Turn(turn.role, whole_text(turn.content)) for turn in turns)
        if clean != turns:
            mended.append(place)
        chats.append(Chat(clean, place))
    if not chats:
        raise UnveilError(
            f'{file}: no lines in it; needed is one JSON object a line, as {{"{prompt}": "...", '
            f'"{response}": "..."}}'
        )
    if unread:
        note(
            f"{file}: fields that are not read: "
            f"{', '.join(f'{name} ({count:,} times)' for name, count in unread.most_common(8))}"
        )
    note_mended(mended)
    return chats


class _Line:
    """The fields of a line and its place; `read` and `inner` collect the fields that were used, and unused
    fields of messages."""

    def __init__(self, fields: dict[str, object], place: str) -> None:
        self.fields, self.place, self.read, self.inner = fields, place, set[str](), set[str]()

    def take(self, name: str) -> object:
        self.read.add(name)
        return self.fields.get(name)

    def text(self, names: Sequence[str], otherwise: str = "") -> str:
        """The text of the first of these fields that is not empty."""
        for name in names:
            value = self.fields.get(name)
            if value in _EMPTY:
                self.read.add(name)
            elif not isinstance(value, str):
                raise UnveilError(
                    f"{self.place}: the field {name!r} is no text but {type(value).__name__}; make it a "
                    "text, or take it out"
                )
            else:
                return str(self.take(name))
        return otherwise


def _turns_of(line: _Line, prompt: str, response: str) -> tuple[Turn, ...]:
    """The turns of a line, in any of the formats."""
    fields = line.fields
    lists = ("messages", "conversations")
    present = [
        isinstance(fields.get(name), list) or (name in fields and prompt not in fields) for name in lists
    ]
    many = next(compress(lists, present), None)
    if many is not None:
        turns = _messages(line, line.take(many), many)
    elif any(isinstance(fields.get(name), list) for name in (prompt, response, "completion", "chosen")):
        begun = fields.get(prompt)
        turns = _messages(line, line.take(prompt), prompt) if begun is not None else []
        if isinstance(begun, str):
            turns = [Turn("user", begun)]
        name = next((name for name in (response, "completion", "chosen") if name in fields), response)
        answer = line.take(name)
        more = [Turn("assistant", answer)] if isinstance(answer, str) else _messages(line, answer, name)
        # TRL's chosen may hold the prompt, too
        turns = more if more[: len(turns)] == turns else [*turns, *more]
    else:
        turns = _pair(line, prompt, response)
    system = line.text(_SYSTEMS)
    if system and not (turns and turns[0].role == "system"):
        turns = [Turn("system", system), *turns]
    if not any(turn.role == "assistant" for turn in turns):
        raise UnveilError(
            f"{line.place}: no turn of the assistant in its {many or 'turns'}, so there is no response to "
            "learn"
        )
    return tuple(turns)


def _pair(line: _Line, prompt: str, response: str) -> list[Turn]:
    fields, names = line.fields, (prompt, response)
    if prompt == "prompt" and prompt not in fields and "instruction" in fields and response not in fields:
        names = ("instruction", "output")  # Alpaca
    elif response == "response" and response not in fields:
        names = (prompt, next((name for name in ("completion", "chosen") if name in fields), response))  # TRL
    has = ", ".join(map(str, fields))[:80] or "nothing"
    for name, flag in zip(names, ("`prompt_field`", "`response_field`"), strict=True):
        if not isinstance(line.take(name), str):
            raise UnveilError(
                f"{line.place}: no text in the field {name!r} (it has {has}); name another with {flag}"
            )
    message, turns = str(fields[names[0]]), list[Turn]()
    for name in (name for name in _INPUTS if name not in names):
        if more := line.text([name]):
            message = f"{message}\n\n{more}" if message else more
    for pair in cast(list[object], line.take("history") or []):
        if not isinstance(pair, list) or [type(part) for part in cast(list[object], pair)] != [str, str]:
            raise UnveilError(
                f"{line.place}: its history must be a list of [prompt, response], got {str(pair)[:60]}"
            )
        turns += [Turn("user", pair[0]), Turn("assistant", pair[1])]
    return [*turns, Turn("user", message), Turn("assistant", str(fields[names[1]]))]


def _messages(line: _Line, messages: object, name: str) -> list[Turn]:
    """The turns of a list of messages with the field names of OpenAI or ShareGPT."""
    turns: list[Turn] = []
    for message in cast(list[object], messages) if isinstance(messages, list) else []:
        it = cast(dict[str, object], message) if isinstance(message, dict) else {}
        role = SPEAKERS.get(str(it.get("role", it.get("from"))))
        content = _content(it.get("content", it.get("value")))
        where = f"{line.place}: turn {len(turns) + 1} of its {name}"
        if called := next((key for key in ("tool_calls", "function_call") if it.get(key)), None):
            raise UnveilError(f"{where} has {called}, which cannot be learned; take such lines out")
        if role is None or content is None:
            raise UnveilError(
                f"{where} needs a role ({', '.join(SPEAKERS)}) and a content that is a text, got "
                f"{str(message)[:60]}"
            )
        line.inner.update(
            f"{name}.{key}" for key, value in it.items() if key not in _MESSAGE and value not in _EMPTY
        )
        turns.append(Turn(role, content))
    return turns


def _content(content: object) -> str | None:
    """The text, or the joined texts of a list of OpenAI's content parts; None if there are other parts."""
    if isinstance(content, list):
        parts = cast(list[object], content)
        texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text"]
        plain = [text for text in texts if isinstance(text, str)]
        return "".join(plain) if len(plain) == len(parts) else None
    return content if isinstance(content, str) else None


class Pair(NamedTuple):
    """A prompt and a response as tokens (N,) of int32; the response includes the token that ends it."""

    prompt: np.ndarray
    response: np.ndarray


class Examples:
    """Chats as tokens: a pair for every turn of the assistant, whose prompt is everything before it. Nie et
    al. 2025, section 2.3.

    Args:
        context: longer pairs are left out, and counted in `left_out`.
    Raises:
        UnveilError: a turn holds a special token, or no pair fits.
    """

    def __init__(self, chats: Sequence[Chat], tokens: Tokens, context: int) -> None:
        self.eos_id, self.left_out = tokens.eos_id, 0
        self.chats: list[list[Pair]] = []
        for chat in chats:
            try:
                pairs = [
                    Pair(
                        np.asarray(encode_chat(tokens, chat.turns[:i]), np.int32),
                        np.asarray(encode_answer(tokens, turn.content), np.int32),
                    )
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
            raise UnveilError(
                f"no prompt with its response fits into {context} tokens, the model's context; give shorter "
                "examples"
            )

    def draw(self, count: int, generator: torch.Generator) -> tuple[Int[Tensor, "B L"], Bool[Tensor, "B L"]]:
        """`count` random chats, with one random turn of each: rows (B, L) of prompt and response, and a mask
        of the prompts.

        Responses are padded to the longest row with end-of-text, which is trained on like any other token, so
        that the model learns when to end.
        """
        chosen = torch.randint(len(self.chats), (count,), generator=generator, device="cpu").tolist()
        turn = torch.rand(count, generator=generator, device="cpu").tolist()
        pairs = [self.chats[i][int(u * len(self.chats[i]))] for i, u in zip(chosen, turn, strict=True)]
        return rows_of(pairs, self.eos_id)


def rows_of(pairs: Sequence[Pair], eos_id: int) -> tuple[Int[Tensor, "B L"], Bool[Tensor, "B L"]]:
    """Pairs as rows of one length, padded with end-of-text, and a mask of their prompts."""
    longest = max(len(pair.prompt) + len(pair.response) for pair in pairs)
    ids = torch.full((len(pairs), longest), eos_id, device="cpu")
    for row, pair in zip(ids, pairs, strict=True):
        row[: len(pair.prompt) + len(pair.response)] = torch.from_numpy(np.concatenate(pair))
    lengths = torch.tensor([len(pair.prompt) for pair in pairs], device="cpu")
    return ids, torch.arange(longest, device="cpu") < lengths[:, None]
