"""AUTOMATIC1111's prompt language: weights, schedules, alternation, AND, BREAK and tags of LoRA files.

| prompt | meaning |
|---|---|
| `(x)`, `[x]`, `(x:1.3)` | output vectors of x times 1.1, 1 / 1.1, 1.3; nested factors multiply |
| `[a:b:0.5]`, `[a:b:10]` | a until half of the steps or until step 10, then b |
| `[b:0.5]`, `[a::0.5]` | nothing and then b; a and then nothing |
| `[a|b|c]` | one after another, another at each step |
| `a AND b:0.5` | two prompts: u + scale * sum_i w_i (c_i - u), with c_i and u the denoisers' outputs |
| `BREAK` | what follows begins a new chunk of 75 tokens |
| `<lora:name:0.8>`, `<lora:name:0.8:0.5>` | a LoRA file and its factors: text encoder, U-Net |
| `\\(`, `\\[`, `\\\\` | the character itself |

Brackets that are never closed weight everything up to the end. Whatever cannot be parsed is literal text, so
that no prompt is refused. Three things differ from AUTOMATIC1111's program: a weight `:0.5` at the end of a
prompt counts only beside an AND, a BREAK inside weighted brackets is a break, and tags of other networks than
LoRA stay text. Imports no torch.
"""

import re
from dataclasses import dataclass, field
from math import isfinite
from typing import NamedTuple

from unveil.checks import whole

ROUND, SQUARE = 1.1, 1 / 1.1
DEEPEST = 100
"""Schedules that are nested deeper are literal text, and brackets that are have no weight."""
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_LORA = re.compile(r"<(?:lora|lyco):([^<>]+)>")
_AND, _BREAK = re.compile(r"\bAND\b"), re.compile(r"\bBREAK\b")
_SCHEDULES = re.compile(r"\\.|[\[\]():|]|\\|[^\\\[\]():|]+", re.DOTALL)
_WEIGHTS = re.compile(r"\\[()\[\]\\]|\\|[(\[]|:\s*([+-]?[.0-9]+)\s*\)|[)\]]|[^\\()\[\]:]+|:")
_CLOSES = {")": "(", "]": "["}


class Piece(NamedTuple):
    """A piece of text, and the factor of its tokens' output vectors."""

    text: str
    weight: float


WeightedText = tuple[tuple[Piece, ...], ...]
"""What is encoded at a step: passages, divided by BREAK, of pieces; neighbours differ in weight."""


@dataclass(frozen=True)
class Scheduled:
    """`[before:after:when]`: `before` while step <= when; `when` is a fraction of the steps or a step."""

    before: tuple["Node", ...]
    after: tuple["Node", ...]
    when: float
    fraction: bool


@dataclass(frozen=True)
class Alternating:
    """`[a|b|c]`: option (step - 1) mod n."""

    options: tuple[tuple["Node", ...], ...]


Node = str | Scheduled | Alternating


@dataclass(frozen=True)
class LoraTag:
    """`<lora:name:text_encoder:unet>`: a LoRA file, and the factors of its two parts."""

    name: str
    text_encoder: float = 1.0
    unet: float = 1.0


@dataclass(frozen=True)
class PromptPart:
    """One of the prompts that AND joins.

    Args:
        nodes: text, with the brackets of weights in it, and what changes with the step.
        weight: its factor in the sum of guidance.
    """

    nodes: tuple[Node, ...]
    weight: float = 1.0

    def at_step(self, step: int, steps: int, earlier: int = 0) -> WeightedText:
        """The text of a step, with its weights.

        Args:
            step: 1 .. steps, counted in this pass.
            steps: number of steps of this pass.
            earlier: steps of the pass before this one; in a second (high-resolution) pass, steps of the
                prompt count on from them, and fractions lie in 1 .. 2. 0: this is the first pass.
        Raises:
            ValueError: `step` is not in 1 .. steps.
        """
        whole("`steps`", steps)
        whole("step", step, 1, steps)
        return weighted(_text(self.nodes, step, steps, whole("earlier", earlier, 0)))


@dataclass(frozen=True)
class Prompt:
    """A parsed prompt: the parts that AND joins, at least one, and the LoRA files that it names, in order."""

    parts: tuple[PromptPart, ...]
    loras: tuple[LoraTag, ...] = ()


@dataclass(frozen=True)
class Timeline:
    """What is encoded over a sampling, each text once.

    Args:
        texts: the distinct texts, in order of their first use.
        steps: `steps[i][k]` is the index in `texts` of part k at step i + 1.
        weights: the parts' factors in the sum of guidance.
    """

    texts: tuple[WeightedText, ...]
    steps: tuple[tuple[int, ...], ...]
    weights: tuple[float, ...]


def parse(text: str, composed: bool = True) -> Prompt:
    """Parse a prompt. No text is refused: what cannot be parsed is literal.

    Args:
        composed: whether AND joins prompts. A negative prompt is one prompt, in which AND is a word.
    """
    text, loras = without_loras(text)
    written = _AND.split(text) if composed else [text]
    parts = [_composed(part) for part in written] if len(written) > 1 else [(text, 1.0)]
    return Prompt(tuple(PromptPart(_nodes(part), weight) for part, weight in parts), loras)


def without_loras(text: str) -> tuple[str, tuple[LoraTag, ...]]:
    """A prompt without its tags of LoRA files, and the tags in order."""
    loras: list[LoraTag] = []

    def taken(match: re.Match[str]) -> str:
        if (tag := _lora(match[1])) is None:
            return match[0]
        loras.append(tag)
        return ""

    return _LORA.sub(taken, text), tuple(loras)


def timeline(prompt: Prompt, steps: int, earlier: int = 0) -> Timeline:
    """The distinct texts of all steps, and which of them each step uses; see `PromptPart.at_step`."""
    known: dict[WeightedText, int] = {}
    used = tuple(
        tuple(known.setdefault(part.at_step(step, steps, earlier), len(known)) for part in prompt.parts)
        for step in range(1, whole("`steps`", steps) + 1)
    )
    return Timeline(tuple(known), used, tuple(part.weight for part in prompt.parts))


def weighted(text: str) -> WeightedText:
    """Parse the weights of a text without schedules: `(x)`, `[x]`, `(x:1.3)`, escapes and BREAK."""
    pieces: list[tuple[str, float] | None] = []  # None: BREAK
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def close(bracket: str, factor: float) -> None:
        start = opened[bracket].pop()
        for i in range(start, len(pieces)) if len(opened[bracket]) < DEEPEST else ():
            if (piece := pieces[i]) is not None:
                pieces[i] = (piece[0], piece[1] * factor)

    for match in _WEIGHTS.finditer(text):
        token = match[0]
        factor = _number(match[1]) if match[1] else None
        if token[0] == "\\":
            pieces.append((token[1:], 1.0))
        elif token in opened:
            opened[token].append(len(pieces))
        elif factor is not None and opened["("]:
            close("(", factor)
        elif token in _CLOSES and opened[_CLOSES[token]]:
            close(_CLOSES[token], ROUND if token == ")" else SQUARE)
        elif match[1] and opened["("]:  # no number after all, such as 1.2.3
            pieces.append((token[:-1], 1.0))
            close("(", ROUND)
        else:
            passages = _BREAK.split(token)
            for i, passage in enumerate(passages):
                passage = passage.lstrip() if i else passage
                passage = passage.rstrip() if i < len(passages) - 1 else passage
                pieces += [None, (passage, 1.0)] if i else [(passage, 1.0)]
    for bracket, factor in (("(", ROUND), ("[", SQUARE)):
        while opened[bracket]:
            close(bracket, factor)
    return _merged(pieces)


def _merged(pieces: list[tuple[str, float] | None]) -> WeightedText:
    """Join neighbours of equal weight, and divide at breaks."""
    passages: list[list[tuple[list[str], float]]] = [[]]
    for piece in pieces:
        if piece is None:
            passages.append([])
        elif passages[-1] and passages[-1][-1][1] == piece[1]:
            passages[-1][-1][0].append(piece[0])
        else:
            passages[-1].append(([piece[0]], piece[1]))
    joined = [[Piece("".join(texts), weight) for texts, weight in passage] for passage in passages]
    return tuple(tuple(piece for piece in passage if piece.text) for passage in joined)


def _number(text: str) -> float | None:
    value = float(text) if _NUMBER.fullmatch(text) else None
    return value if value is not None and isfinite(value) else None


def _lora(body: str) -> LoraTag | None:
    """The tag of `name:te:unet`; numbers may be named (`te=`, `unet=`), and `unet` defaults to `te`."""
    name, *written = body.split(":")
    named: dict[str, str] = {}
    plain: list[str] = []
    for part in written:
        key, equals, value = part.partition("=")
        if equals:
            named[key] = value
        else:
            plain.append(part)
    if not name.strip() or len(plain) > 2 or not set(named) <= {"te", "unet"}:
        return None
    text_encoder = _number(named.get("te", plain[0] if plain else "1"))
    if text_encoder is None:
        return None
    unet = _number(named.get("unet", plain[1] if len(plain) > 1 else str(text_encoder)))
    return None if unet is None else LoraTag(name.strip(), text_encoder, unet)


def _composed(part: str) -> tuple[str, float]:
    """The text and the weight of a part `text : weight` between ANDs."""
    text, colon, last = part.rpartition(":")
    weight = _number(last.strip()) if colon else None
    return (part, 1.0) if weight is None else (text, weight)


@dataclass(eq=False)
class _Group:
    """A bracket that is open: its fields, what separates them, and whether it is known to be literal."""

    bracket: str
    fields: list[list[Node]] = field(default_factory=lambda: [[]])
    separators: list[str] = field(default_factory=list)
    literal: bool = False

    def written(self) -> list[Node]:
        """The fields as one, with what separates them."""
        nodes: list[Node] = [self.bracket, *self.fields[0]]
        for separator, nodes_after in zip(self.separators, self.fields[1:], strict=True):
            nodes += [separator, *nodes_after]
        return nodes


def _nodes(text: str) -> tuple[Node, ...]:
    """Parse the schedules and alternations of a prompt; all other brackets stay text."""
    groups = [_Group("")]
    for match in _SCHEDULES.finditer(text):
        token = match[0]
        if token in ("(", "["):
            groups.append(_Group(token))
        elif token in (":", "|") and len(groups) > 1:
            groups[-1].separators.append(token)
            groups[-1].fields.append([])
        elif token in _CLOSES:
            if groups[-1].bracket != _CLOSES[token]:
                _dissolve(groups)
                groups[0].fields[-1].append(token)
                continue
            group = groups.pop()
            node = _closed(group) if len(groups) <= DEEPEST else None
            groups[-1].literal |= node is None
            groups[-1].fields[-1] += _joined([*group.written(), token]) if node in (None, "") else [node]
        else:
            groups[-1].fields[-1].append(token)
    _dissolve(groups)
    return _joined(groups[0].fields[0])


def _dissolve(groups: list[_Group]) -> None:
    """Make all open brackets literal text."""
    for group in groups[1:]:
        groups[0].fields[0] += group.written()
    del groups[1:]


def _closed(group: _Group) -> Scheduled | Alternating | str | None:
    """What a closed bracket is: a schedule, an alternation, "" for a weight, or None if it is neither."""
    kinds = set(group.separators)
    if group.literal:
        return None
    if not kinds or (group.bracket == "(" and group.separators == [":"]):
        return ""
    if group.bracket == "[" and kinds == {"|"}:
        return Alternating(tuple(_joined(option) for option in group.fields))
    if group.bracket == "[" and kinds == {":"} and len(group.separators) < 3:
        *texts, last = (_joined(part) for part in group.fields)
        when = last[0].strip() if len(last) == 1 and isinstance(last[0], str) else ""
        if _NUMBER.fullmatch(when):
            return Scheduled(texts[0] if len(texts) > 1 else (), texts[-1], float(when), "." in when)
    return None


def _joined(nodes: list[Node]) -> tuple[Node, ...]:
    """Join neighbouring texts."""
    joined: list[Node] = []
    texts: list[str] = []
    for node in [*nodes, None]:
        if isinstance(node, str):
            texts.append(node)
            continue
        if texts and (text := "".join(texts)):
            joined.append(text)
        texts = []
        if node is not None:
            joined.append(node)
    return tuple(joined)


def _text(nodes: tuple[Node, ...], step: int, steps: int, earlier: int) -> str:
    """The text of a step, with the brackets of its weights."""
    texts: list[str] = []
    for node in nodes:
        if isinstance(node, str):
            texts.append(node)
        elif isinstance(node, Alternating):
            texts.append(_text(node.options[(step - 1) % len(node.options)], step, steps, earlier))
        else:
            offset = float(earlier > 0) if node.fraction else float(earlier)
            when = (node.when - offset) * (steps if node.fraction else 1)
            past = step > int(min(max(when, 0.0), float(steps)))
            texts.append(_text(node.after if past else node.before, step, steps, earlier))
    return "".join(texts)
