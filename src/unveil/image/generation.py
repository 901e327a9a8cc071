"""Sampling of images by name of solver and guidance, in batches."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from numbers import Integral
from typing import NamedTuple

import torch
from torch import Tensor

from unveil.checks import whole
from unveil.image.classifier import ImageClassifier
from unveil.image.model import TABLES, ImageModel, check_labels
from unveil.image.prompted import prompted
from unveil.image.settings import ImageSettings
from unveil.image.solvers import image_times, solver_of
from unveil.network.condition import Condition
from unveil.process.corrupt import corrupt
from unveil.process.denoised import GaussianDenoise, GaussianDenoised
from unveil.process.grid import jumping
from unveil.sampling.edit import LogPotential, Replace, identity
from unveil.sampling.gaussian import Renoise
from unveil.sampling.guidance import Branch, cfg, clipped, dynamic_threshold, steered, tilted, within
from unveil.sampling.loop import Solver, sample
from unveil.sampling.noise import Noise, generators, normal_like


@dataclass(frozen=True, eq=False)
class Given:
    """Inputs besides classes; tensors have one row per image, in -1 .. 1 or as codes of a latent model.

    Args:
        classifier: guides towards the classes; the model itself may be unconditional.
        begin: (N, C, S, S) images to change, as `ImageModel.clean` gives them: noised to t = strength, and
            denoised from there.
        known: (N, 1, S, S) bool mask of the known pixels of `value` (N, C, S, S); the others are generated
            (RePaint).
        cost: from rows (a slice) to a cost of their clean images, in nats, such as that of a measurement; see
            `steered`.
        low: (N, C, s, s) low-resolution images for an upsampler.
        level: (N,) noise levels of `low`, for models that know these; None: it has no noise.
        prompts: N texts, for a model of captions.
        beside: (N, K, S, S) map that a model with `concat` K sees: of inpainting, the mask (1: generate) and
            the masked image; of semantic maps, their channels (`ImageModel.mapped`).
    """

    classifier: ImageClassifier | None = None
    begin: Tensor | None = None
    known: Tensor | None = None
    value: Tensor | None = None
    cost: Callable[[slice], LogPotential] | None = None
    low: Tensor | None = None
    prompts: Sequence[str] | None = None
    beside: Tensor | None = None
    level: Tensor | None = None


NOTHING = Given()


class Generated(NamedTuple):
    """Images, uint8 (N, C, H, W), and network calls per image; both halves of guidance are one call."""

    pixels: Tensor
    calls: int


def generate(
    model: ImageModel,
    labels: Tensor | None,
    count: int,
    settings: ImageSettings,
    generator: Noise | int = None,
    batch: int = 64,
    on_step: Callable[[Tensor, Tensor], object] | None = None,
    noise: Tensor | None = None,
    given: Given = NOTHING,
    *,
    scaled: bool = True,
    on_batch: Callable[[slice], object] | None = None,
    size: tuple[int, int] | None = None,
) -> Generated:
    """Sample `count` images. Each has random numbers of its own, so that none depends on `batch`, on `count`
    or on the others.

    Args:
        labels: (count,) classes, or None for unconditional sampling.
        generator: a seed, where image i uses `seed + i`; a `torch.Generator`, which draws the seed (None:
            torch's own); or one generator per image.
        batch: images per batch; lower it to save memory.
        on_step: called with the belief about x_0 of a batch, (B, C, S, S) in -1 .. 1, and t, at each network
            call.
        noise: (count, C, S, S) initial noise of variance 1, such as from `inverted` or `slerp`; None draws
            it.
        scaled: the state at the first time t is sigma(t) * noise; False: it is `noise` itself, for noise
            recorded elsewhere.
        on_batch: called with the rows of each batch before it is sampled.
        size: height and width in pixels; None: the size of the training.
    Raises:
        ValueError: settings that this model cannot follow, or tensors of another shape or type.
    """
    count, batch = whole("count", count), whole("batch", batch)
    shape = model.sides_of(size)
    _check(model, labels, count, settings, given)
    _check_tensors(given, count, shape, model)
    if noise is not None and (
        tuple(noise.shape) != (count, *shape)
        or not noise.is_floating_point()
        or not bool(noise.isfinite().all())
    ):
        raise ValueError(
            f"noise must be finite floating-point numbers {(count, *shape)}, got {noise.dtype} "
            f"{tuple(noise.shape)}"
        )
    if not scaled and noise is None:
        raise ValueError("scaled=False is for recorded noise; give noise")
    times = image_times(model, settings)
    if given.begin is not None:
        table = model.shape.schedule in TABLES and settings.solver in ("ddpm", "ddim", "pndm")
        if settings.grid:
            times = _last(times, settings.strength)
        else:
            times = _from(times, settings.strength, model.shape.diffusion_steps if table else 0)
    if given.known is not None:
        times = jumping(times, settings.jump_length, settings.jumps)
    model.eval()
    own = noise_by_sample(generator, count)
    made: list[Tensor] = []
    calls = 0

    def counted(x_t: Tensor, t: Tensor, cond: Condition | None = None) -> GaussianDenoised:
        nonlocal calls
        calls += 1
        return model.denoiser(x_t, t, cond)

    for start in range(0, count, batch):
        some = slice(start, min(count, start + batch))
        rows = some.stop - start
        calls = 0
        if on_batch is not None:
            on_batch(some)
        classes = labels[some] if labels is not None else None
        denoise, solver = _guided(model, counted, classes, rows, some, settings, given, times)
        if on_step is not None:
            denoise = _watched_by(denoise, on_step)
        # allocated before the generators, so that too many images run out of memory at once
        first = torch.empty((rows, *shape), device=model.device)
        drawn = own(some)
        first = normal_like(first, drawn) if noise is None else noise[some].to(first)
        x, edit = (float(model.denoiser.schedule.sigma(times[0])) if scaled else 1.0) * first, identity
        if given.begin is not None:
            x = corrupt(model.denoiser.schedule, given.begin[some].to(first), times[0], first)
        if given.known is not None:
            assert given.value is not None
            edit = Replace(
                given.known[some].to(model.device), given.value[some].to(first), model.denoiser.schedule
            )
        made.append(model.pixels(sample(denoise, solver, x, times, edit=edit, generator=drawn)))
    return Generated(torch.cat(made), calls)


def noise_by_sample(generator: Noise | int, count: int) -> Callable[[slice], Sequence[torch.Generator]]:
    """A function from rows to the generators of those samples: as passed in, or with seed + i for sample i; a
    single generator draws the seed now.

    Raises:
        ValueError: not as many generators as samples, or a seed out of range.
    """
    if isinstance(generator, Sequence):
        if len(generator) != count:
            raise ValueError(f"{count} samples need as many generators, got {len(generator)}")
        return lambda some: generator[some]
    if generator is None or isinstance(generator, torch.Generator):
        device = "cpu" if generator is None else generator.device
        generator = int(torch.randint(2**62, (), generator=generator, device=device))
    seed = generator
    if not isinstance(seed, Integral) or not -(2**63) <= int(seed) < 2**63 - count:
        raise ValueError(
            f"generator must be a torch.Generator, one for each sample, or a seed below 2^63, got {seed!r}"
        )
    return lambda some: generators(int(seed), some.stop - some.start, some.start)


def _guided(
    model: ImageModel,
    denoiser: Callable[..., GaussianDenoised],
    labels: Tensor | None,
    rows: int,
    some: slice,
    settings: ImageSettings,
    given: Given,
    times: Tensor,
) -> tuple[GaussianDenoise, Solver[GaussianDenoised]]:
    """The belief with all guidance of the settings, and the solver for it."""
    schedule, log_h = model.denoiser.schedule, None
    own = labels if model.shape.classes or given.classifier is None else None  # else for the classifier only
    low, level = (None if part is None else part[some] for part in (given.low, given.level))
    cond = _with_map(model.condition(own, rows, low, level=level), given, some, model.device)
    denoise: GaussianDenoise = partial(denoiser, cond=cond)
    null, text = cond, None
    if settings.scale != 1.0:
        negative, text = _negative(model, settings)
        away = None if negative < 0 else torch.full((rows,), negative, device="cpu")
        null = _with_map(model.condition(away, rows, low, level=level), given, some, model.device)
        denoise = cfg(
            denoiser, Branch(cond), Branch(null), settings.scale, settings.interval, settings.rescale
        )
    if given.prompts is not None:
        denoise = prompted(model, denoiser, given.prompts[some], text or "", (cond, null), settings, times)
    if given.cost is not None:
        denoise = steered(
            denoise,
            given.cost(some),
            schedule,
            interval=(0.0, 1.0 if model.shape.schedule != "flow" else 0.999),
        )
    if given.classifier is not None and settings.classifier_scale:
        assert labels is not None
        log_h = given.classifier.log_probability(labels)
        if settings.classifier_form == "belief":
            denoise = tilted(denoise, log_h, schedule, settings.classifier_scale, settings.interval)
            log_h = None
    if settings.threshold and model.latent is not None:
        raise ValueError("`threshold` clips pixels, and this model is of latents; leave it out")
    if settings.threshold:
        denoise = dynamic_threshold(denoise, settings.threshold)
    elif settings.clip and model.latent is None:  # codes have no range
        denoise = clipped(denoise, -1.0, 1.0)
    solver = solver_of(model, settings, None if log_h is None else within(log_h, settings.interval))
    return denoise, solver if given.known is None else Renoise(solver, schedule)


def _with_map(cond: Condition | None, given: Given, some: slice, device: torch.device) -> Condition | None:
    if given.beside is None:
        return cond
    return replace(cond or Condition(), concat=given.beside[some].to(device))


def _negative(model: ImageModel, settings: ImageSettings) -> tuple[int, str | None]:
    """The number of the negative class, -1 for none, and the negative prompt.

    Raises:
        ValueError: the name of a class; only recipes know the names of classes.
    """
    if isinstance(settings.negative, int):
        return settings.negative, None
    if model.text is None:
        raise ValueError(f"`negative` must be the number of a class here, got {settings.negative!r}")
    return -1, settings.negative


def _check(
    model: ImageModel, labels: Tensor | None, count: int, settings: ImageSettings, given: Given
) -> None:
    """Refuse what this model cannot follow."""
    classes, null, scale = model.shape.classes, model.shape.null, settings.scale
    negative, text = _negative(model, settings)
    if labels is not None:
        known = 0 if given.classifier is None else given.classifier.shape.classes
        check_labels(labels, count, classes or known)
    if negative >= 0 and negative >= classes:
        known = f"there are 0 .. {classes - 1}" if classes else "this model was trained without `classes`"
        raise ValueError(f"`negative` {negative}: {known}")
    if given.prompts is not None and (model.text is None or len(given.prompts) != count):
        model.worded(None, count, given.prompts)  # which refuses them
    if text is not None and (scale == 1.0 or given.prompts is None):
        raise ValueError(
            "a negative text is what guidance leads away from; give `prompt`, and `scale` above 1"
        )
    if scale != 1.0 and given.prompts is None and not (classes and (null or negative >= 0)):
        what = (
            "without dropping labels (`label_drop`); or give `negative`" if classes else "without `classes`"
        )
        raise ValueError(
            f"`scale` {scale} needs a model of images with and without a class; this was trained {what}"
            if model.text is None
            else f"`scale` {scale} guides towards a text; give `prompt`"
        )
    if scale != 1.0 and labels is None and given.prompts is None:
        raise ValueError(f"`scale` {scale} guides towards a class; give `label`")
    if negative >= 0 and scale == 1.0:
        raise ValueError(f"`negative` {negative} is what guidance leads away from; give `scale` above 1")
    if given.classifier is not None:
        _check_pair(model, given.classifier)
        if labels is None:
            raise ValueError("`classifier` guides towards a class; give `label`")


def _check_tensors(given: Given, count: int, image: tuple[int, int, int], model: ImageModel) -> None:
    """Refuse tensors that do not fit these images.

    Raises:
        ValueError: one of them, what was got and what is needed.
    """
    height, width = image[1:]
    concat = 0 if model.shape.upsample > 1 else model.shape.concat  # the map that the model sees
    wanted = {
        "begin": image,
        "value": image,
        "known": (1, height, width),
        "low": model.low,
        "beside": (concat, height, width),
    }
    for name, shape in wanted.items():
        it: Tensor | None = getattr(given, name)
        if it is None:
            continue
        if tuple(it.shape) != (count, *shape):
            raise ValueError(f"given.{name} must be of shape {(count, *shape)}, got {tuple(it.shape)}")
        if name == "known" and it.dtype != torch.bool:
            raise ValueError(f"given.known must be bool, got {it.dtype}")
        if name != "known" and (not it.is_floating_point() or not bool(it.isfinite().all())):
            raise ValueError(f"given.{name} must be finite floating-point numbers in -1 .. 1, got {it.dtype}")
    if (given.beside is None) != (concat == 0):
        raise ValueError(
            f"this model sees a map of {concat} channels beside the image; give `given.beside`"
            if concat
            else "this model sees no map beside the image; leave `given.beside` out"
        )
    if given.level is not None and (given.low is None or tuple(given.level.shape) != (count,)):
        raise ValueError(f"given.level must be the noise levels of given.low, of shape {(count,)}")
    if (given.known is None) != (given.value is None):
        raise ValueError("given.known and given.value belong together; give both or neither")


def _check_pair(model: ImageModel, classifier: ImageClassifier) -> None:
    ours, theirs = (
        (s.size, s.channels, s.schedule, s.diffusion_steps) for s in (model.shape, classifier.shape)
    )
    if classifier.clean:
        raise ValueError(
            "this classifier was trained on clean images (`clean`); guidance needs one that knows noisy ones"
        )
    if ours != theirs or (model.shape.classes and model.shape.classes != classifier.shape.classes):
        raise ValueError(
            "classifier and model do not fit: side, channels, schedule, T and classes are "
            f"{(*theirs, classifier.shape.classes)} and {(*ours, model.shape.classes)}"
        )


def _from(times: Tensor, strength: float, table: int) -> Tensor:
    """The grid from `strength` on; its first time is `strength` itself, or with a table the nearest entry."""
    begin = max(1, round(strength * table)) / table if table else min(strength, float(times[0]))
    nearest = int((times[:-1] - begin).abs().argmin())
    kept = times[nearest:].clone()
    kept[0] = begin
    return kept


def _last(times: Tensor, strength: float) -> Tensor:
    """The last int(N * strength) of N steps, at least one, as in diffusers' img2img."""
    steps = len(times) - 1
    return times[steps - max(1, int(steps * strength)) :]


def _watched_by(denoise: GaussianDenoise, show: Callable[[Tensor, Tensor], object]) -> GaussianDenoise:
    def watched(x_t: Tensor, t: Tensor) -> GaussianDenoised:
        belief = denoise(x_t, t)
        show(belief.mean, t[0])
        return belief

    return watched
