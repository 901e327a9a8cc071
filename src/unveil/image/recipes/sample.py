"""`unveil sample image`: images as files that hold the settings that made them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from shlex import quote
from typing import TYPE_CHECKING, Any

from unveil.runs.device import enough_memory

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from unveil.image.recipes.config import EvalImage, SampleImage
    from unveil.image.recipes.from_pictures import Prepared
    from unveil.image.settings import ImageSettings
    from unveil.runs.progress import Progress

ANIMATED = 64  # images of an animation


def settings_of(settings: ImageSettings, names: Sequence[str]) -> ImageSettings:
    """The settings with the negative class by its number among the model's classes."""
    return replace(settings, negative=numbered((settings.negative,), names, "`negative`")[0])


def numbered(classes: Sequence[int | str], names: Sequence[str], field: str = "`label`") -> tuple[int, ...]:
    """Classes by their numbers. Names may be in any case if only one class fits; numbers stay as they are.

    Raises:
        ValueError: no such name.
    """
    numbers: list[int] = []
    for one in classes:
        if not isinstance(one, str):
            numbers.append(one)
            continue
        same = [k for k, name in enumerate(names) if name == one] or [
            k for k, name in enumerate(names) if name.casefold() == one.casefold()
        ]
        if len(same) != 1:
            close = get_close_matches(one, names, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            known = f"; there are {_first(names)}" if names else ", and the model knows no names"
            raise ValueError(f"{field} {one}: no such class{hint}{known}")
        numbers.append(same[0])
    return tuple(numbers)


def classes_of(classes: Sequence[int | str], count: int, names: Sequence[str]) -> Tensor | None:
    """A class for each image, or None for unconditional sampling.

    Args:
        classes: numbers or names, used in turn; none: all classes in turn.
        names: of all classes; none: the model was trained without classes.
    Raises:
        ValueError: a class that does not exist, or -1 among others.
    """
    import torch

    if not names:
        if classes:
            raise ValueError("`label`: this model was trained without `classes`")
        return None
    numbers = numbered(classes, names)
    if numbers == (-1,):
        return None
    for k in numbers:
        if not 0 <= k < len(names):
            others = ", and -1 alone for no class" if k == -1 else f", or by name: {_first(names)}"
            raise ValueError(f"`label` {k}: there are 0 .. {len(names) - 1}{others}")
    turns = torch.tensor(numbers or range(len(names)), device="cpu")
    return turns[torch.arange(count, device="cpu") % len(turns)]


def _first(names: Sequence[str]) -> str:
    return f"{', '.join(names[:12])}{' ..' if len(names) > 12 else ''}"


class Watched:
    """Records the beliefs about the first `count` images at each network call, in whatever batches: the
    frames of an animation."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.calls: list[list[np.ndarray]] = []  # for each call, a part from each batch
        self._rows, self._call = slice(0, 0), 0

    def begin(self, rows: slice) -> None:
        """The next beliefs are about these images."""
        self._rows, self._call = rows, 0

    def __call__(self, belief: Tensor, t: Tensor) -> None:
        from unveil.image.model import pixels_of

        if self._rows.start >= self.count:
            return
        if self._call == len(self.calls):
            self.calls.append([])
        self.calls[self._call].append(pixels_of(belief[: self.count - self._rows.start]).numpy())
        self._call += 1

    def frames(self) -> list[np.ndarray]:
        """(count, C, S, S) uint8 of each call."""
        import numpy as np

        return [np.concatenate(parts) for parts in self.calls]


def sample_image(config: SampleImage, progress: Progress) -> dict[str, Any]:
    """Sample images, write them, and describe them."""
    import time

    import torch

    from unveil.image.generation import generate
    from unveil.image.recipes.from_pictures import prepare
    from unveil.image.recipes.load import load_classifier, load_image, open_classifier, open_image
    from unveil.image.recipes.reproduce import check_weights, digests, free_folder, parameters, repeated

    recorded = None
    if config.from_png is not None:
        config, recorded = repeated(config)
    free_folder(config)
    opened = open_image(config.checkpoint)
    known = tuple(opened.config["names"])
    guide = open_classifier(config.classifier, known) if config.classifier else None
    weights = digests(config, [opened.folder, *([guide.folder] if guide else [])])
    check_weights(config, recorded, weights)
    names = known or tuple(guide.config["names"] if guide else ())
    settings = settings_of(config.settings, known)
    if config.threads:
        torch.set_num_threads(config.threads)
    model = load_image(opened.folder, config.device, opened.config)
    classifier = load_classifier(guide.folder, config.device, guide.config) if guide else None
    unconditional = config.given and not config.label and names and not guide  # the content is in --from
    with enough_memory("lower `n`"):
        labels = classes_of((-1,) if unconditional else config.label, config.n, names)
    watched = Watched(min(config.n, ANIMATED)) if config.watch else None
    begin = None if watched is None else watched.begin
    began = time.perf_counter()
    with enough_memory():
        ready = prepare(config, model, labels, settings, classifier)
        size, seed = config.batch_size, config.seed
        made = generate(
            model, labels, config.n, settings, seed, size, watched, ready.noise, ready.given, on_batch=begin
        )
    seconds = time.perf_counter() - began
    pixels = made.pixels.numpy()
    several = labels is not None and config.n > model.shape.classes
    columns = len(config.label or range(model.shape.classes)) if several else 0
    _write(config, pixels, columns, parameters(config, model.device, weights), watched)
    return _described(config, ready, pixels, labels, names, ready.calls + made.calls, seconds)


def _write(config: SampleImage, pixels: np.ndarray, columns: int, text: str, watched: Watched | None) -> None:
    """Replace the images of an earlier run by these; `text` goes into each."""
    from unveil.files.pictures import write_animation, write_picture
    from unveil.image.evaluation.pages import grid
    from unveil.image.recipes.reproduce import clear

    clear(config.out)
    write_picture(config.out / "grid.png", grid(pixels, columns if columns > 1 else 0), text)
    for k, image in enumerate(pixels):
        write_picture(config.out / f"{k:04d}.png", image.transpose(1, 2, 0), text)
    if watched is not None:
        frames = [grid(frame, least=64) for frame in (*watched.frames(), pixels[:ANIMATED])]
        write_animation(config.out / "denoising.gif", frames)


def _described(
    config: SampleImage,
    ready: Prepared,
    pixels: np.ndarray,
    labels: Tensor | None,
    names: Sequence[str],
    calls: int,
    seconds: float,
) -> dict[str, Any]:
    """What the record says of the samples; `summary` is for people."""
    from unveil.image.data.folder_listing import natural
    from unveil.image.recipes.from_pictures import quality
    from unveil.image.recipes.reproduce import differs

    scores, others = quality(ready, pixels) if ready.truth is not None else ({}, {})
    shown = sorted({names[int(k)] for k in labels}, key=natural) if labels is not None else []
    classes = f" of {', '.join(shown)}" if shown else ""
    grid = config.out / "grid.png"
    lines = [f"{grid}: {config.n} images{classes}, {calls} calls each, {config.n / seconds:.1f} images/s"]
    for name, part in {"restored": scores, **others}.items():
        if part:
            lines.append(f"{name}: " + ", ".join(f"{k} {v:.2f} dB" for k, v in part.items()))
    if config.from_png is not None and (note := differs(config.from_png)):
        lines.append(note)
    numbers = [k for k in config.label if isinstance(k, int) and k >= 0]
    odd = [k for k in numbers if names[k].isdecimal() and names[k] != str(k)]
    lines += [f"--class counts from 0: {k} is the class named {names[k]}" for k in odd[:1]]
    lines.append(f"again: unveil sample image --from-png {quote(str(grid))}")
    return {
        "checkpoint": config.checkpoint,
        "protocol": protocol(config),
        "metrics": {"images_per_second": config.n / seconds, "nfe": calls, "n": config.n} | scores,
        "reference": others,
        "files": str(config.out),
        "summary": "\n".join(lines),
    }


def protocol(config: SampleImage | EvalImage) -> str:
    """How images are sampled, in words."""
    from unveil.image.recipes.config import SampleImage

    settings = config.settings
    parts = [settings.solver, settings.respacing or f"{settings.steps} steps", f"scale {settings.scale}"]
    if config.classifier:
        parts.append(f"classifier scale {settings.classifier_scale} on the {settings.classifier_form}")
    if isinstance(config, SampleImage) and config.restore:
        parts.append(f"restore {config.restore}, noise {config.noise}")
    return ", ".join(parts)
