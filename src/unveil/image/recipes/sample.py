"""`unveil sample image`: images as files that hold the settings that made them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from unveil.errors import UnveilError
from unveil.runs.device import enough_memory

if TYPE_CHECKING:
    from torch import Tensor

    from unveil.image.recipes.config import SampleImage
    from unveil.image.recipes.load import Opened
    from unveil.image.settings import ImageSettings
    from unveil.runs.progress import Progress

OWN_SCALE, STABLE_DIFFUSION_SCALE = 3.0, 7.5  # of guidance towards a prompt


def with_usual(config: SampleImage, flag: Callable[[str], str | None]) -> SampleImage:
    """Defaults that depend on the model, if there is a prompt. The scale of guidance is 7.5 for Stable
    Diffusion, as usual, and 3 for models that were trained on a few thousand images, whose held-out pairs
    larger scales avoid. Stable Diffusion makes one image, since each takes minutes on a CPU. GLIDE has the
    settings of its notebooks."""
    from dataclasses import fields

    from unveil.image.recipes.glide import CAPTIONS, usual_settings
    from unveil.image.recipes.karlo import USUAL as KARLO
    from unveil.image.recipes.load import open_image
    from unveil.image.settings import ImageSettings
    from unveil.image.weights.karlo import is_karlo
    from unveil.runs.flags import changed

    if is_karlo(Path(flag("checkpoint") or config.checkpoint)):
        return changed(config, **{name: value for name, value in KARLO.items() if flag(name) is None})
    if config.edit or config.task in ("variations", "interpolate"):  # which invert images
        eta = {"eta": 1.0} if config.task == "variations" and flag("eta") is None else {}
        config = changed(config, solver="ddim", **eta) if flag("solver") in (None, "ddim") else config
    if flag("prompt") is None:
        return config
    try:
        described = open_image(flag("checkpoint") or config.checkpoint).config
    except (UnveilError, ValueError):
        return config  # the verb itself reports it
    kind = described.get("captions")
    if kind == CAPTIONS:
        names = {field.name for field in fields(ImageSettings)} | {"n", "clip_model"}
        return changed(
            config, **usual_settings(described, {name for name in names if flag(name) is not None})
        )
    decodes = bool(described.get("embedding"))
    if not (kind or decodes) or flag("clip_model") is not None:  # nothing to guide by, or CLIP guides instead
        return config
    if described.get("encoder") == "glide" and described.get("upsample", 1) > 1:  # GLIDE's are not guided
        return config
    usual: dict[str, object] = {"scale": STABLE_DIFFUSION_SCALE if kind == "clip" else OWN_SCALE}
    if kind == "clip":
        usual["n"] = 1
    return changed(config, **{name: value for name, value in usual.items() if flag(name) is None})


def settings_of(settings: ImageSettings, names: Sequence[str], text: bool = False) -> ImageSettings:
    """The settings with the negative class by its number among the model's classes.

    Args:
        text: the model reads prompts, so that a negative word is a text.
    """
    if text and isinstance(settings.negative, str):
        return settings
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
        exact = [k for k, name in enumerate(names) if name == one]
        same = exact or [k for k, name in enumerate(names) if name.casefold() == one.casefold()]
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


def prompts_of(prompts: Sequence[str], count: int, opened: Opened) -> list[str] | None:
    """A prompt for each image, used in turn; None for a model without text.

    Raises:
        ValueError: prompts for such a model.
    """
    if not opened.config.get("captions"):
        if prompts:
            raise ValueError(
                "`prompt`: this model was trained without `captions`; leave it out, or train one with "
                "`captions`"
            )
        return None
    return [prompts[i % len(prompts)] for i in range(count)] if prompts else None


def _first(names: Sequence[str]) -> str:
    return f"{', '.join(names[:12])}{' ..' if len(names) > 12 else ''}"


def sample_image(config: SampleImage, progress: Progress) -> dict[str, object]:
    """Sample images, write them, and describe them."""
    import time

    import torch

    from unveil.image.data.folder_listing import natural
    from unveil.image.recipes.cascades import cascaded, load_upsamplers, open_upsamplers
    from unveil.image.recipes.clip.load import load_clip, open_clip
    from unveil.image.recipes.embeddings import add_embeddings
    from unveil.image.recipes.from_pictures import prepare, quality
    from unveil.image.recipes.infotexts import infotexts
    from unveil.image.recipes.karlo import sample_karlo
    from unveil.image.recipes.load import load_models, open_models
    from unveil.image.recipes.loras import add_loras, named_loras
    from unveil.image.recipes.passes import made_by
    from unveil.image.recipes.reproduce import check_folder, digests, input_files, parameters, repeated
    from unveil.image.recipes.unclip import check_embedded, clip_for, drawn_embeddings, prior_folders
    from unveil.image.recipes.watching import Watched
    from unveil.image.recipes.written import ANIMATED, protocol, write_images
    from unveil.image.weights.karlo import is_karlo

    recorded, note = None, ""
    if config.from_png is not None:
        config, recorded, note = repeated(config)
    if is_karlo(Path(config.checkpoint)):
        return sample_karlo(config, progress)
    job, count = config.job, config.n
    files = ["grid.png", *(["denoising.gif"] if config.watch else [])]
    numbered = (file for file in config.out.glob("[0-9][0-9][0-9][0-9]*.png") if file.stem.isdecimal())
    files += [file.name for file in sorted(numbered) if int(file.stem) < count]
    inputs = input_files(config)
    check_folder(config.out, files, inputs)
    opened, guide = open_models(config.checkpoint, config.classifier)
    stages = open_upsamplers(config)
    places = [place for one in (opened, *([guide] if guide else []), *stages) for place in one.folders]
    clip = open_clip(config.clip_model) if config.clip_model else None
    check_embedded(config, opened)
    prior = prior_folders(config)
    places += [*([clip.folder] if clip else []), *prior]
    weights = digests(places, inputs)
    if recorded not in (None, weights):
        raise UnveilError(
            f"{config.from_png} was made by other weights or other images than its settings name now"
        )
    names = opened.names or (guide.names if guide else ())
    settings = settings_of(config.settings, opened.names, bool(opened.config.get("captions")))
    unconditional = config.given and not config.label and names and not guide  # the content is in --from
    loras, plain = named_loras(config.lora, config.prompt)
    texts = [plain[i % len(plain)] for i in range(count)] if (clip or config.prior) and plain else None
    reads = opened.config.get("captions") or not (clip or config.prior)
    prompts = prompts_of(plain, count, opened) if reads else None
    if job.threads:
        torch.set_num_threads(job.threads)
    with enough_memory("lower `n`"):
        labels = classes_of((-1,) if unconditional else config.label, count, names)
    model, classifier = load_models(opened, guide, job.device, config.dtype)
    upsamplers = load_upsamplers(config, stages, model)
    seeing = None if clip is None else load_clip(clip.folder, job.device, clip.config)
    add_loras(model, loras)
    add_embeddings(model, config.embedding)
    text = parameters(config, model.device, weights)
    watched = Watched(model, min(count, ANIMATED)) if config.watch else None
    began = time.perf_counter()
    with enough_memory():
        ready = prepare(config, model, labels, settings, classifier, clip_for(config, opened))
        guided = replace(ready.given, prompts=prompts, clip=seeing, texts=texts if clip else None)
        drawn = drawn_embeddings(config, opened, prior, texts or ())
        ready = ready._replace(given=guided if drawn is None else replace(guided, embeddings=drawn))
        made, sides = made_by(config, model, labels, settings, ready, watched)
        made = cascaded(config, made, upsamplers, settings, prompts or texts, labels)
    seconds = time.perf_counter() - began
    pixels = made.pixels.numpy()
    if ready.kept is not None:
        pixels = ready.kept.pasted(pixels)
    scores, references = quality(ready, pixels)
    several = labels is not None and count > model.shape.classes
    columns = len(config.label or range(model.shape.classes)) if several else 0
    if prompts and count > len(config.prompt) > 1:
        columns = len(config.prompt)
    write_images(config, pixels, columns, text, infotexts(config, settings, prompts, count, sides), watched)
    rate, calls = count / seconds, ready.calls + made.calls
    kinds = sorted({names[int(k)] for k in labels}, key=natural) if labels is not None else []
    if prompts or texts:
        kinds = [repr(prompt) for prompt in config.prompt]
    classes = f" of {', '.join(kinds)}" if kinds else ""
    grid = config.out / "grid.png"
    lines = [f"{grid}: {count} images{classes}, {calls} calls each, {rate:.1f} images/s"]
    for name, part in {"restored": scores, **references}.items():
        if part:
            lines.append(f"{name}: " + ", ".join(f"{k} {v:.2f} dB" for k, v in part.items()))
    numbers = [k for k in config.label if isinstance(k, int) and k >= 0]
    odd = [k for k in numbers if names[k].isdecimal() and names[k] != str(k)]
    lines += [it for it in (note, ready.note) if it]
    lines += [f"--class counts from 0: {k} is the class named {names[k]}" for k in odd[:1]]
    lines.append(f"again: unveil sample image --from-png {quote(str(grid))}")
    return {
        "checkpoint": config.checkpoint,
        "protocol": protocol(config),
        "metrics": {"images_per_second": rate, "nfe": calls, "n": count} | scores,
        "reference": references,
        "files": str(config.out),
        "summary": "\n".join(lines),
    }
