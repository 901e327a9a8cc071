"""Chats as tokens: turns of system, user and assistant. Templates are recognised, never run.

LLaDA-8B-Instruct's and LLaDA-1.5's template begins with <|startoftext|>, encodes each turn as

    <|start_header_id|> role <|end_header_id|> \\n\\n content <|eot_id|>

and always ends with the answer's header, <|start_header_id|> assistant <|end_header_id|> \\n\\n.

Our format, for vocabularies without such tokens, has end-of-text in place of <|eot_id|> and no other special
token.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from unveil.errors import UnveilError
from unveil.text.data.tokens import LibraryTokens, Tokens

Role = Literal["system", "user", "assistant"]
ROLES = ("system", "user", "assistant")
BEGIN, OPEN, CLOSE, END = "<|startoftext|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"
_LITERAL = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_WORD = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
_TEXTS = {OPEN, f"{CLOSE}\n\n", END, f"{OPEN}assistant{CLOSE}\n\n", "role", "content"}
_WORDS = {
    *("set", "for", "in", "if", "endfor", "endif", "loop", "index0", "trim", "first"),
    *("loop_messages", "messages", "message", "content", "bos_token", "add_generation_prompt"),
}


class Turn(NamedTuple):
    """A message and the role of its author."""

    role: Role
    content: str


@dataclass(frozen=True)
class ChatFormat:
    """The special tokens around turns.

    Args:
        begin: tokens before everything.
        opening, closing: tokens before and after the role.
        end: token after the content.
    """

    begin: tuple[int, ...]
    opening: tuple[int, ...]
    closing: tuple[int, ...]
    end: int


def chat_format(tokens: Tokens) -> ChatFormat:
    """The format of a vocabulary: LLaDA's if it has LLaDA's special tokens, otherwise ours.

    Raises:
        UnveilError: another template than LLaDA's.
    """
    if not isinstance(tokens, LibraryTokens):
        return ChatFormat((), (), (), tokens.eos_id)
    if tokens.template and not is_lladas(tokens.template):
        raise UnveilError(
            "this model's chat template is not one that is known (LLaDA's), and templates are not run; use: "
            "unveil sample text"
        )
    begin, opening, closing, end = map(tokens.special, (BEGIN, OPEN, CLOSE, END))
    if opening is None or closing is None or end is None:
        if tokens.template:
            raise UnveilError(
                f"this model's tokenizer lacks what its chat template needs: {OPEN}, {CLOSE} or {END}"
            )
        return ChatFormat((), (), (), tokens.eos_id)
    return ChatFormat(() if begin is None else (begin,), (opening,), (closing,), end)


def chat_name(tokens: Tokens) -> str:
    """The name of the format, for people."""
    try:
        lladas = bool(chat_format(tokens).opening)
    except UnveilError:
        return "a template that is not known; it can write, but not chat"
    return "LLaDA's template" if lladas else "no template; ours, for fine-tuning"


def is_lladas(template: str) -> bool:
    """Whether a Jinja template consists of the texts and words of LLaDA's template only."""
    texts = {(a or b).replace("\\n", "\n") for a, b in _LITERAL.findall(template)}
    words = set(_WORD.findall(_LITERAL.sub(" ", template)))
    return (
        texts <= _TEXTS and {OPEN, f"{CLOSE}\n\n", END} <= texts and {"bos_token", "trim"} <= words <= _WORDS
    )


def encode_chat(tokens: Tokens, turns: Sequence[Turn]) -> list[int]:
    """The tokens of a chat, up to the beginning of the assistant's next answer.

    Raises:
        UnveilError: a turn holds a special token's text, or the format is unknown.
        ValueError: an unknown role.
    """
    form = chat_format(tokens)
    ids = list(form.begin)
    for turn in turns:
        if turn.role not in ROLES:
            raise ValueError(f"a turn's role must be one of {', '.join(ROLES)}, got {turn.role!r}")
        ids += [*_headed(tokens, form, turn.role, turn.content.strip()), form.end]
    return ids + _headed(tokens, form, "assistant", "")


def encode_answer(tokens: Tokens, content: str) -> list[int]:
    """The tokens of an answer and the token that ends it; end-of-text fills the remaining room.

    The content is encoded by itself, so that its first token is not merged with the header's blank line.
    """
    return [*_plain(tokens, chat_format(tokens), content.strip()), chat_format(tokens).end]


def answer_of(tokens: Tokens, row: Sequence[int]) -> list[int]:
    """The tokens of an answer, up to the first that ends it."""
    ends = {chat_format(tokens).end, tokens.eos_id}
    return list(row[: next((i for i, token in enumerate(row) if token in ends), len(row))])


def _headed(tokens: Tokens, form: ChatFormat, role: str, content: str) -> list[int]:
    if not form.closing:
        return _plain(tokens, form, f"{role}\n\n{content}")
    return [
        *form.opening,
        *_plain(tokens, form, role),
        *form.closing,
        *_plain(tokens, form, f"\n\n{content}"),
    ]


def _plain(tokens: Tokens, form: ChatFormat, text: str) -> list[int]:
    ids = tokens.encode(text)
    if special := {tokens.mask_id, tokens.eos_id, form.end, *form.begin, *form.opening, *form.closing} & set(
        ids
    ):
        raise UnveilError(f"a turn holds the text of a special token (number {min(special)}); take it out")
    return ids
