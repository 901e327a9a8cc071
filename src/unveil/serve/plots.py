"""X/Y/Z plots: one job whose pictures are those of single jobs with other values of up to three settings."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np

from unveil.image.recipes.config import SampleImage
from unveil.serve.images import Input, Made, calls_of, make_images
from unveil.serve.jobs import Job
from unveil.serve.models import Described, Models
from unveil.serve.refusal import Refused

if TYPE_CHECKING:
    from PIL.Image import Image

Whole = Literal["seed", "steps", "variation_seed", "hires_steps"]
Real = Literal["scale", "rescale", "threshold", "eta", "strength", "variation", "hires_strength"]
Named = Literal["solver", "grid", "class", "prompt"]
Setting = Literal[Whole, Real, Named]
LONGEST = 64  # values of an axis
CHUNK = "unveil_plot"  # of the PNG of a grid
RANGE = re.compile(
    r"(-?[\d.]+)\s*-\s*(-?[\d.]+)\s*(?:\(\s*([+-]?[\d.]+)\s*\)|\[\s*(\d{1,9})\s*\])?", re.ASCII
)
SMALLEST = 128  # side of a cell: smaller pictures are enlarged
GAP, LINE, LETTER, MARGIN = (
    8,
    16,
    7,
    150,
)  # pixels: between cells, of a line and a letter, most left of the cells


class Axis(NamedTuple):
    """A setting and its values."""

    setting: str
    values: list[int | float | str]

    @property
    def labels(self) -> list[str]:
        """What is written beside its cells; a replaced text speaks for itself."""
        if self.setting == "prompt":
            return [str(it) for it in self.values]
        return [
            f"{self.setting} {it:g}" if isinstance(it, float) else f"{self.setting} {it}"
            for it in self.values
        ]


class Plot(NamedTuple):
    """The cells of a plot.

    Args:
        axes: x, y and z; None: one value.
        cells: a config of one image each; x runs first, then y, then z.
        said: the request as JSON, which the PNG of the grid holds.
    """

    axes: tuple[Axis | None, Axis | None, Axis | None]
    cells: list[SampleImage]
    said: str


def axis_of(setting: str, text: str) -> Axis:
    """Parse the values of an axis, as those of A1111's script.

    Numbers are separated by commas; `4-8` is 4, 5, 6, 7, 8; `1-9 (+2)` has a step, and `0-1 [5]` a number of
    values. Texts may be in double quotes. Of a prompt, the first text is replaced by each in turn.

    Raises:
        Refused: no values, too many, or no numbers.
    """
    parts = [
        it.strip() for it in next(csv.reader(io.StringIO(text.replace("\n", " ")), skipinitialspace=True), [])
    ]
    parts = [it for it in parts if it]
    if not parts:
        raise Refused(400, f"`{setting}`: an axis needs values, such as 1, 2, 4-8")
    if setting in get_args(Named):
        values: list[int | float | str] = [*parts]
    else:
        found = [value for part in parts for value in _numbers(setting, part)]
        values = [int(it) if setting in get_args(Whole) else float(it) for it in found]
    if len(values) > LONGEST:
        raise Refused(400, f"`{setting}`: an axis has at most {LONGEST} values")
    return Axis(setting, values)


def _numbers(setting: str, part: str) -> list[Decimal]:
    """The numbers of `4`, `4-8`, `4-8 (+2)` or `4-8 [3]`."""
    whole = setting in get_args(Whole)
    kind = r"\d{1,17}" if whole else r"\d{0,9}\.?\d{1,9}|\d{1,9}\."
    if re.fullmatch(rf"-?(?:{kind})", part, re.ASCII):
        return [Decimal(part)]
    match = RANGE.fullmatch(part)
    numbers = [it for it in match.groups()[:3] if it] if match else []
    if match is None or not all(re.fullmatch(rf"[+-]?(?:{kind})", it, re.ASCII) for it in numbers):
        raise Refused(400, f"`{setting}`: {part[:60]!r} is no {'whole ' if whole else ''}number and no range")
    first, last, count = Decimal(match[1]), Decimal(match[2]), int(match[4] or 0)
    if count:
        if count > LONGEST:
            raise Refused(400, f"`{setting}`: an axis has at most {LONGEST} values")
        shares = [Decimal(k) / max(1, count - 1) for k in range(count)]
        spread = [first + (last - first) * share for share in shares]
        return [it.to_integral_value() if whole else round(it, 9) for it in spread]
    step = Decimal(match[3]) if match[3] else Decimal(1 if last >= first else -1)
    if step == 0 or (last - first) / step < 0:
        raise Refused(400, f"`{setting}`: the range {part[:60]!r} never ends")
    if (last - first) / step >= LONGEST:
        raise Refused(400, f"`{setting}`: an axis has at most {LONGEST} values")
    return [first + k * step for k in range(int((last - first) / step) + 1)]


def replaced(prompts: Sequence[str], axis: Axis, value: str) -> tuple[str, ...]:
    """Prompts with the first text of an axis replaced.

    Raises:
        Refused: no prompt contains it.
    """
    searched = str(axis.values[0])
    if not any(searched in prompt for prompt in prompts):
        raise Refused(400, f"`prompt`: the first text of the axis, {searched[:60]!r}, is not in the prompt")
    return tuple(prompt.replace(searched, value) for prompt in prompts)


def make_plot(plot: Plot, given: Input | None, described: Described, models: Models, job: Job) -> Made:
    """Make the cells one after another, and draw the grid; as `make_images`.

    A job that is ended early has the cells so far.
    """
    calls = [calls_of(config) for config in plot.cells]
    job.all = sum(calls)
    made: list[Made] = []
    for config, count in zip(plot.cells, calls, strict=True):
        made.append(make_images(config, given, described, models, job))
        job.earlier += count
        job.report(0, 0, data={"cells": len(made), "of": len(plot.cells)})
        if job.skip.is_set():
            break
    pixels = np.concatenate([it.pixels for it in made])
    grid = drawn(pixels, plot)
    files, texts = [it.files[0] for it in made], [it.infotexts[0] for it in made]
    return Made(pixels, files, texts, made[0].config, made[0].sides, grid)


def drawn(pixels: np.ndarray, plot: Plot) -> bytes:
    """The PNG of a plot: a block of rows (y) and columns (x) for each z, with labels."""
    from PIL import Image as Images
    from PIL import ImageDraw, PngImagePlugin

    factor = max(1, -(-SMALLEST // min(pixels.shape[2:])))
    large = pixels.repeat(factor, 2).repeat(factor, 3)
    height, width = large.shape[2:]
    xs, ys, zs = (axis.labels if axis else [""] for axis in plot.axes)
    left = min(MARGIN, LETTER * max(map(len, ys)) + GAP) if plot.axes[1] else 0
    head = [_lines(label, width) for label in xs]
    top = LINE * max(map(len, head)) + GAP if plot.axes[0] else 0
    title = LINE + GAP if plot.axes[2] else 0
    block = title + top + len(ys) * (height + GAP)
    page = Images.new("RGB", (left + len(xs) * (width + GAP) + GAP, GAP + len(zs) * block), "white")
    draw = ImageDraw.Draw(page)
    for k, (z, y, x) in enumerate(np.ndindex(len(zs), len(ys), len(xs))):
        corner = (GAP + left + x * (width + GAP), GAP + z * block + title + top + y * (height + GAP))
        if (x, y) == (0, 0):
            _write(draw, _lines(zs[z], page.width - 2 * GAP)[:1], (GAP, GAP + z * block))
        if y == 0:
            _write(draw, head[x], (corner[0], GAP + z * block + title))
        if x == 0:
            lines = _lines(ys[y], left - GAP)
            _write(draw, lines, (GAP, corner[1] + max(0, (height - LINE * len(lines)) // 2)))
        if k < len(large):
            page.paste(_picture(large[k]), corner)
    info = PngImagePlugin.PngInfo()
    info.add_text(CHUNK, plot.said)
    file = io.BytesIO()
    page.save(file, "png", pnginfo=info)
    return file.getvalue()


def _picture(pixels: np.ndarray) -> Image:
    from PIL.Image import fromarray

    return fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def _lines(text: str, width: int, most: int = 4) -> list[str]:
    """A text in lines of a width in pixels, at most four of them."""
    import textwrap

    return textwrap.wrap(text, max(4, width // LETTER), max_lines=most, placeholder=" ..") or [""]


def _write(draw: object, lines: Sequence[str], corner: tuple[int, int]) -> None:
    from PIL import ImageDraw, ImageFont

    assert isinstance(draw, ImageDraw.ImageDraw)
    for k, line in enumerate(lines):
        draw.text((corner[0], corner[1] + k * LINE), line, "#16202c", ImageFont.load_default(13))
