"""Infotext: the settings of an image as one text, in the form that AUTOMATIC1111's web interface reads.

    a cat
    Negative prompt: blurry
    Steps: 20, Sampler: Euler a, CFG scale: 7.0, Seed: 1, Size: 512x512, Model: NAME

Programs find it in the PNG text chunk `parameters`. Imports no torch.
"""

import json
import re
from collections.abc import Mapping
from typing import NamedTuple

NEGATIVE = "Negative prompt: "
LEAST = 3  # pairs in a last line of settings
PAIR = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')


class Infotext(NamedTuple):
    """What an infotext says.

    Args:
        prompt, negative: the texts, which may have several lines.
        settings: names, such as "Steps", to values; `Size` is split into `Size-1` and `Size-2`.
    """

    prompt: str
    negative: str
    settings: dict[str, str]


def infotext(prompt: str, negative: str, settings: Mapping[str, object]) -> str:
    """Write the text. Values with a comma, a colon or a line break are quoted as JSON; "" is left out."""
    pairs = [f"{name}: {_quoted(str(value))}" for name, value in settings.items() if str(value)]
    lines = [prompt, *([NEGATIVE + negative] if negative else []), ", ".join(pairs)]
    return "\n".join(lines)


def parse_infotext(text: str) -> Infotext:
    """Read a text back; without a last line of at least three settings all of it is the prompt."""
    lines = text.strip().split("\n")
    settings: dict[str, str] = {}
    pairs = PAIR.findall(lines[-1])
    if len(pairs) >= LEAST:
        settings = {name: _unquoted(value.strip()) for name, value in pairs}
        lines = lines[:-1]
    for name, value in list(settings.items()):
        if sides := re.fullmatch(r"(\d+)x(\d+)", value):
            settings[f"{name}-1"], settings[f"{name}-2"] = sides.groups()
    prompt, negative, inside = [], [], False
    for line in lines:
        if line.startswith(NEGATIVE.rstrip()) and not inside:
            inside, line = True, line.removeprefix(NEGATIVE.rstrip()).removeprefix(" ")
        (negative if inside else prompt).append(line)
    return Infotext("\n".join(prompt), "\n".join(negative), settings)


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if re.search("[,:\n]", value) else value


def _unquoted(value: str) -> str:
    if len(value) < 2 or not value.startswith('"') or not value.endswith('"'):
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        return value
