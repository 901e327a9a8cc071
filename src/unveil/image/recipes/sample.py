"""`unveil sample image`: pictures as files that say how they were made, and are made again from what they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from difflib import get_close_matches
from shlex import quote
from typing import TYPE_CHECKING, Any

from unveil.runs.device import enough_memory

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from unveil.image.generation import ImageSettings
    from unveil.image.recipes.config import EvalImage, SampleImage
    from unveil.runs.progress import Progress


SHOWN = 64  # images of an animation


def settings_of(config: SampleImage | EvalImage, names: Sequence[str] = ()) -> ImageSettings:
    """How to make images, as flags say it.

    Args:
        names: of the classes.
    """
    from unveil.image.generation import ImageSettings

    fields_ = {field.name for field in fields(ImageSettings)} & {field.name for field in fields(config)}
    said: dict[str, Any] = {name: getattr(config, name) for name in fields_}
    said["negative"] = numbered((config.negative,), names, "--negative")[0]
    return ImageSettings(**said)


def numbered(asked: Sequence[int | str], names: Sequence[str], flag: str = "--class") -> tuple[int, ...]:
    """Classes by their numbers, which may be said by name, in any case where that is plain; -1 and wrong numbers as they are.

    Raises:
        ValueError: no such name.
    """
    found: list[int] = []
    for one in asked:
        if not isinstance(one, str):
            found.append(one)
            continue
        same = [k for k, name in enumerate(names) if name == one] or [
            k for k, name in enumerate(names) if name.casefold() == one.casefold()
        ]
        if len(same) != 1:
            close = get_close_matches(one, names, n=1)
            known = (
                f"; there are {', '.join(names[:12])}{' ..' if len(names) > 12 else ''}"
                if names
                else ", and the model knows no names"
            )
            raise ValueError(
                f"{flag} {one}: no such class{f' (did you mean {close[0]}?)' if close else ''}{known}"
            )
        found.append(same[0])
    return tuple(found)


def classes_of(asked: Sequence[int | str], count: int, names: Sequence[str]) -> Tensor | None:
    """A class for each image, or None for no class.

    Args:
        asked: by number or name; none: all in turn.
        names: of all classes; none: the model was trained without.
    Raises:
        ValueError: a class that there is not, or -1 among others.
    """
    import torch

    if not names:
        if asked:
            raise ValueError("--class: this model was trained without classes (--classes)")
        return None
    chosen = numbered(asked, names)
    if chosen == (-1,):
        return None
    for k in chosen:
        if not 0 <= k < len(names):
            named = f", or by name: {', '.join(names[:12])}{' ..' if len(names) > 12 else ''}"
            raise ValueError(
                f"--class {k}: there are 0 .. {len(names) - 1}"
                + (", and -1 alone for no class" if k == -1 else named)
            )
    turns = torch.tensor(chosen or range(len(names)), device="cpu")
    return turns[torch.arange(count, device="cpu") % len(turns)]


class Watched:
    """What is believed about the first `count` images at each call of the network, whatever the batches: the frames of an animation."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.calls: list[list[np.ndarray]] = []  # of each call, a part of each batch
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
    """Make images, write them, and describe them."""
    import time

    import torch

    from unveil.files.pictures import write_animation, write_picture
    from unveil.image.data.folder_listing import natural
    from unveil.image.evaluation.pages import grid
    from unveil.image.generation import generate
    from unveil.image.recipes.from_pictures import prepare, quality
    from unveil.image.recipes.load import (
        load_image,
        named_classifier,
        read_classifier_config,
        read_image_config,
    )
    from unveil.image.recipes.reproduce import clear, differs, free_folder, parameters, repeated
    from unveil.runs.checkpoints import find_checkpoint
    from unveil.runs.machine import commit, machine

    if config.from_png is not None:
        config = repeated(config)
    for name, least in (("n", 1), ("batch_size", 1), ("threads", 0)):
        if getattr(config, name) < least:
            raise ValueError(
                f"-{'-' if len(name) > 1 else ''}{name.replace('_', '-')} must be at least {least}, got {getattr(config, name)}"
            )
    free_folder(config)
    folder = find_checkpoint(config.checkpoint)
    described = read_image_config(folder)
    guide = find_checkpoint(config.classifier) if config.classifier else None
    names = described["names"] or (read_classifier_config(guide)["names"] if guide else [])
    settings = settings_of(config, described["names"])
    if config.threads:
        torch.set_num_threads(config.threads)
    model = load_image(folder, config.device)
    classifier = (
        named_classifier(config.classifier, tuple(described["names"]), config.device)
        if config.classifier
        else None
    )
    free = config.given and not config.label and names and not classifier  # pictures bring their own content
    with enough_memory("lower -n"):
        labels = classes_of((-1,) if free else config.label, config.n, names)
    watched = Watched(min(config.n, SHOWN)) if config.watch else None
    begin = None if watched is None else watched.begin
    began = time.perf_counter()
    with enough_memory():
        ready = prepare(config, model, labels, settings, classifier)
        size, seed = config.batch_size, config.seed
        made = generate(
            model, labels, config.n, settings, seed, size, watched, ready.noise, ready.given, on_batch=begin
        )
    seconds, calls = time.perf_counter() - began, ready.calls + made.calls
    pixels = made.pixels.numpy()
    text = parameters(config, model.device)
    clear(config.out)
    scores, others = quality(ready, pixels) if ready.truth is not None else ({}, {})
    columns = (
        len(config.label or range(model.shape.classes))
        if labels is not None and config.n > model.shape.classes
        else 0
    )
    write_picture(config.out / "grid.png", grid(pixels, columns if columns > 1 else 0), text)
    for k, picture in enumerate(pixels):
        write_picture(config.out / f"{k:04d}.png", picture.transpose(1, 2, 0), text)
    if watched is not None:
        write_animation(
            config.out / "denoising.gif",
            [grid(frame, least=64) for frame in (*watched.frames(), pixels[:SHOWN])],
        )
    parts = {"restored": scores, **others}
    compared = "".join(
        f"\n{name}: " + ", ".join(f"{k} {v:.2f} dB" for k, v in part.items())
        for name, part in parts.items()
        if part
    )
    compared += differs(config.from_png) if config.from_png is not None else ""
    odd = [
        k
        for k in config.label
        if isinstance(k, int) and k >= 0 and names[k].isdecimal() and names[k] != str(k)
    ]
    compared += "".join(f"\n--class counts from 0: {k} is the class named {names[k]}" for k in odd[:1])
    shown = sorted({names[int(k)] for k in labels}, key=natural) if labels is not None else []
    return {
        "recipe": "image",
        "checkpoint": config.checkpoint,
        "protocol": protocol(config),
        "metrics": {"images_per_second": config.n / seconds, "nfe": calls, "n": config.n} | scores,
        "reference": others,
        "files": str(config.out),
        "config": asdict(config),
        "seeds": [config.seed],
        "commit": commit(),
        **machine(config.device),
        "seconds": seconds,
        "summary": f"{config.out / 'grid.png'}: {config.n} images{' of ' + ', '.join(shown) if shown else ''}, {calls} calls each, "
        f"{config.n / seconds:.1f} images/s{compared}\nagain: unveil sample image --from-png {quote(str(config.out / 'grid.png'))}",
    }


def protocol(config: SampleImage | EvalImage) -> str:
    """How images are made, in words."""
    from unveil.image.recipes.config import SampleImage

    steps = config.respacing or f"{config.steps} steps"
    parts = [config.solver, steps, f"scale {config.scale}"]
    if config.classifier:
        parts.append(f"classifier scale {config.classifier_scale} on the {config.classifier_form}")
    if isinstance(config, SampleImage) and config.restore:
        parts.append(f"restore {config.restore}, noise {config.noise}")
    return ", ".join(parts)
