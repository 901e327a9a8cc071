"""Images of a job: as `unveil sample image` makes them, but with uploads in place of files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from unveil.image.recipes.config import SampleImage
from unveil.runs.flags import changed
from unveil.serve.adapters import findable, tagged
from unveil.serve.config import Limits
from unveil.serve.jobs import Job
from unveil.serve.models import Described, Models
from unveil.serve.refusal import Refused

if TYPE_CHECKING:
    from torch import Tensor

    from unveil.image.given import Given
    from unveil.image.model import ImageModel

PREVIEW_SHARE = 0.1  # largest share of the time for previews
TWICE = ("heun", "dpmpp_sde")  # solvers that call the network twice in each step but the last


class Input(NamedTuple):
    """Uploaded images, of the size of the result.

    Args:
        pixels: (K, C, H, W) uint8, used in turn.
        masked: (H, W) bool, what is generated; None: everything.
        begins: sampling begins with the images, noised to `strength`; else with noise.
        digests: SHA-256 of the files.
        finish: changes the pixels (N, C, H, W) of the results; None: nothing.
        repeatable: `unveil sample image` makes the same images with the same files.
    """

    pixels: np.ndarray
    masked: np.ndarray | None = None
    begins: bool = True
    digests: tuple[str, ...] = ()
    finish: Callable[[np.ndarray], np.ndarray] | None = None
    repeatable: bool = True


class Ended(Exception):
    """A sampling that is ended early, with what it has: (B, C, H, W) uint8."""

    def __init__(self, pixels: np.ndarray) -> None:
        super().__init__("ended early")
        self.pixels = pixels


class Made(NamedTuple):
    """Images, their PNG files and what the files say.

    Args:
        pixels: (N, C, H, W) uint8.
        sides: height and width of the first pass.
        grid: a PNG of all with labels, of a plot.
    """

    pixels: np.ndarray
    files: list[bytes]
    infotexts: list[str]
    config: SampleImage
    sides: tuple[int, int]
    grid: bytes = b""

    @property
    def size(self) -> int:
        """Bytes."""
        return self.pixels.nbytes + len(self.grid) + sum(map(len, self.files))


def settled(model: Described, models: Models, values: dict[str, object]) -> SampleImage:
    """The config of `unveil sample image` with some of its settings, and the model's usual ones otherwise.

    Args:
        values: settings by name.
    Raises:
        ValueError, TypeError: values of another type or out of range.
    """
    from unveil.image.recipes.sample import with_usual

    given = {name: value for name, value in values.items() if value is not None}

    def flag(name: str) -> str | None:
        value = given.get(name)
        return None if value is None or value == () else str(value)

    usual = with_usual(changed(SampleImage(), checkpoint=model.place, n=1), flag)
    return changed(usual, **{"n": 1} | given)


def condition_of(model: Described, prompt: str, negative: str, scale: float | None) -> dict[str, object]:
    """The settings for a prompt: of models of classes the name of one; without a condition, no guidance.

    Raises:
        Refused: a prompt for a model that has neither.
    """
    values: dict[str, object] = {"negative": negative} if negative else {}
    if model.prompts:
        return values | {"prompt": (prompt,), "scale": scale}
    if model.classes:
        return values | {"label": (prompt,) if prompt else (-1,), "scale": scale if prompt else 1.0}
    if prompt or negative:
        raise Refused(400, "`prompt`: this model reads no prompts; leave it out")
    return {"scale": 1.0}


def check_limits(config: SampleImage, model: Described, limits: Limits) -> None:
    """Refuse a job that is too large.

    Raises:
        Refused: what is too large.
    """
    if config.n > limits.largest_n:
        raise Refused(400, f"`n` {config.n}: this server makes at most {limits.largest_n} images per job")
    steps = max(config.settings.steps * config.settings.jumps, config.high.hires_steps)
    if config.high.hires > 1:
        steps = max(steps, config.high.steps_of(config.settings.steps)[1])
    if steps > limits.largest_steps:
        raise Refused(400, f"`steps` {steps}: this server does at most {limits.largest_steps} steps")
    width, height = config.size or (model.width, model.height)
    check_sides(limits, config.n * config.high.hires**2, width, height)
    if config.size and config.size != (model.width, model.height) and not model.free_size:
        raise Refused(400, f"`size`: this model makes images of {model.width} x {model.height} pixels only")


def check_sides(limits: Limits, count: float, width: int, height: int) -> None:
    """Refuse too many pixels.

    Raises:
        Refused: too many.
    """
    pixels = count * width * height
    if pixels > limits.megapixels * 1e6:
        raise Refused(
            400, f"{pixels / 1e6:.1f} megapixels: this server makes at most {limits.megapixels:g} per job"
        )


def make_images(
    config: SampleImage, given: Input | None, described: Described, models: Models, job: Job
) -> Made:
    """Make the images of a job in the worker thread.

    Raises:
        ValueError, UnveilError: settings that this model cannot follow.
        Cancelled: the job was cancelled.
    """
    from unveil.files.digest import digest
    from unveil.files.pictures import png_bytes
    from unveil.image.given import Given
    from unveil.image.recipes.given_pictures import Prepared
    from unveil.image.recipes.infotexts import infotexts
    from unveil.image.recipes.passes import made_by
    from unveil.image.recipes.reproduce import input_files, parameters
    from unveil.image.recipes.sample import classes_of, prompts_of, settings_of
    from unveil.runs.device import enough_memory

    job.report(0, calls_of(config))
    loras, plain = tagged(config, models.adapters)
    opened, model = models.opened(described), models.tuned(described, config, loras)
    settings = settings_of(config.settings, opened.names, bool(opened.config.get("captions")))
    prompts = prompts_of(plain, config.n, opened)
    unconditional = given is not None and not config.label and bool(opened.names)
    labels = classes_of((-1,) if unconditional else config.label, config.n, opened.names)
    with enough_memory("lower `n`"):
        ready = Given() if given is None else input_of(model, given, config.n)
        if given is None and (model.shape.concat or model.shape.beside):
            raise ValueError("this model fills in parts of images: give `from` and `mask`, `task=inpaint`")
        ready = Prepared(replace(ready, prompts=prompts))
        size = None if given is None else (given.pixels.shape[2], given.pixels.shape[3])
        watch = Watching(model, job, calls_of(config))
        try:
            made, sides = made_by(config, model, labels, settings, ready._replace(size=size), watch)
            pixels = made.pixels.numpy()
        except Ended as ended:
            pixels = ended.pixels
            sides = (pixels.shape[2], pixels.shape[3])
    if given is not None and given.finish is not None:
        pixels = given.finish(pixels)
    texts = infotexts(changed(config, checkpoint=described.id), settings, prompts, config.n, sides)
    text = ""
    if not job.skip.is_set() and (given is None or given.repeatable) and findable(config, loras):
        used = map(digest, input_files(changed(config, given=(), mask="")))
        weights = "+".join([models.digest(described), *(given.digests if given else ()), *used])
        text = parameters(config, model.device, weights)
    files = [png_bytes(it.transpose(1, 2, 0), text, texts[k]) for k, it in enumerate(pixels)]
    return Made(pixels, files, texts, config, sides)


def input_of(model: ImageModel, given: Input, count: int) -> Given:
    """Inputs of `generate` for uploaded images."""
    import torch

    from unveil.image.given import Given
    from unveil.image.recipes.given_pictures import filled_in

    pixels = torch.from_numpy(given.pixels[np.arange(count) % len(given.pixels)])
    if given.masked is None:
        return Given(begin=model.clean(pixels))
    known = torch.from_numpy(~given.masked)[None, None]
    filled = filled_in(model, pixels, known)
    return replace(filled, begin=model.clean(pixels)) if given.begins else filled


def calls_of(config: SampleImage) -> int:
    """About how many times a network is called, for progress."""
    settings, batches = config.settings, -(-config.n // config.batch_size)
    twice = 2 if settings.solver in TWICE else 1
    steps = float(settings.steps)
    if config.task == "img2img":
        steps = max(1.0, steps * settings.strength)
    if config.high.hires > 1:
        steps += config.high.steps_of(settings.steps)[0]
    return max(1, round(twice * steps * batches * settings.jumps))


class Watching:
    """Report the progress of a sampling to its job, with previews of the predicted clean images.

    Previews are made when somebody has asked for one, and take at most a tenth of the time: one is made if
    the time since the last one is ten times what that one took.
    """

    def __init__(self, model: ImageModel, job: Job, calls: int) -> None:
        self.model, self.job, self.calls = model, job, calls
        self._done, self._last, self._took = 0, job.clock(), 0.0

    def begin(self, rows: slice) -> None:
        """The next beliefs are about these images."""
        self.job.check()

    def __call__(self, belief: Tensor, t: Tensor) -> None:
        self._done += 1
        if self.job.skip.is_set():
            raise Ended(self.model.pixels(belief).numpy())
        now, preview = self.job.clock(), None
        if self.job.watched and now - self._last >= self._took / PREVIEW_SHARE:
            preview = preview_of(self.model, belief)
            self._last = self.job.clock()
            self._took = self._last - now
        self.job.report(min(self._done, self.calls), self.calls, preview)


def preview_of(model: ImageModel, belief: Tensor, most: int = 16) -> bytes:
    """A PNG of the first predicted clean images, in a grid."""
    from unveil.files.pictures import png_bytes

    pixels = model.pixels(belief[:most]).numpy()
    count, channels, height, width = pixels.shape
    columns = int(np.ceil(count**0.5))
    rows = -(-count // columns)
    page = np.zeros((channels, rows * height, columns * width), np.uint8)
    for k, image in enumerate(pixels):
        y, x = k // columns * height, k % columns * width
        page[:, y : y + height, x : x + width] = image
    return png_bytes(page.transpose(1, 2, 0))


def typed_place(models: Models, place: str) -> str:
    """The id of the model that a PNG names; "" if it is not served."""
    for one in models.described.values():
        if place in (one.id, one.place) or (Path(place).name and Path(place).name == one.id):
            return one.id
    return ""
