"""Sampling of images by name of solver and guidance, in batches."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from numbers import Integral
from typing import NamedTuple

import torch
from torch import Tensor

from unveil.checks import whole
from unveil.image.generation_checks import check_clip, check_followed, check_level, check_tensors, negative_of
from unveil.image.given import NOTHING as NOTHING
from unveil.image.given import Given as Given
from unveil.image.model import ImageModel
from unveil.image.prompted import prompted
from unveil.image.settings import ImageSettings
from unveil.image.shape import TABLES
from unveil.image.solvers import image_times, solver_of
from unveil.network.condition import Condition
from unveil.process.corrupt import corrupt
from unveil.process.denoised import GaussianDenoise, GaussianDenoised
from unveil.process.grid import jumping
from unveil.sampling.edit import LogPotential, Replace, identity
from unveil.sampling.gaussian import Renoise
from unveil.sampling.guidance import Branch, cfg, clipped, dynamic_threshold, pinned, steered, tilted, within
from unveil.sampling.loop import Solver, sample
from unveil.sampling.noise import Noise, generators, normal_like


class Generated(NamedTuple):
    """Images, uint8 (N, C, H, W), or what `finish` made of the samples; and network calls per image, where
    both halves of guidance are one call."""

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
    finish: Callable[[Tensor], Tensor] | None = None,
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
        finish: maps the clean samples (B, C, h, w) of each batch to what is returned; None: to their pixels.
    Raises:
        ValueError: settings that this model cannot follow, tensors of another shape or type, or samples that
            are not finite.
    """
    count, batch = whole("count", count), whole("batch", batch)
    shape = model.sides_of(size)
    check_followed(model, labels, count, settings, given)
    check_clip(model, count, given)
    check_tensors(given, count, shape, model)
    check_level(given, count, model.levels)
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
        if given.last:
            times = times[len(times) - 1 - whole("given.last", given.last, 1, len(times) - 1) :]
        elif settings.grid:
            times = _last(times, settings.strength)
        else:
            times = _from(times, settings.strength, model.shape.diffusion_steps if table else 0)
    noises_known = given.known is not None and not given.exact  # RePaint
    if noises_known:
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
        level = float(model.denoiser.schedule.sigma(times[0])) if scaled else 1.0
        x, edit = level * settings.noise_factor * first, identity
        if given.begin is not None:
            x = corrupt(model.denoiser.schedule, given.begin[some].to(first), times[0], first)
        if noises_known:
            assert given.known is not None and given.value is not None
            edit = Replace(
                given.known[some].to(model.device), given.value[some].to(first), model.denoiser.schedule
            )
        made.append((finish or model.pixels)(sample(denoise, solver, x, times, edit=edit, generator=drawn)))
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
    schedule, log_h, factor = model.denoiser.schedule, None, 0.0
    own = labels if model.shape.classes or given.classifier is None else None  # else for the classifier only
    low, level = (None if part is None else part[some] for part in (given.low, given.level))
    z = None if given.embeddings is None else given.embeddings[some]
    seen = model.condition(own, rows, low, level=level, embeddings=z)
    cond = _with_map(seen, given, some, model.device)
    denoise: GaussianDenoise = partial(denoiser, cond=cond)
    null, text = cond, None
    if settings.scale != 1.0:
        negative, text = negative_of(model, settings)
        away = None if negative < 0 else torch.full((rows,), negative, device="cpu")
        null = _with_map(model.condition(away, rows, low, level=level), given, some, model.device)
        denoise = cfg(
            denoiser, Branch(cond), Branch(null), settings.scale, settings.interval, settings.rescale
        )
    if given.prompts is not None:
        words, pair = given.prompts[some], (cond, null)
        denoise = prompted(model, denoiser, words, text or "", pair, settings, times, given.earlier)
    if given.cost is not None:
        denoise = steered(
            denoise,
            given.cost(some),
            schedule,
            interval=(0.0, 1.0 if model.shape.schedule != "flow" else 0.999),
        )
    if (potential := _potential(given, labels, some, settings)) is not None:
        log_h, factor = potential
        if settings.classifier_form == "belief":
            denoise, log_h = tilted(denoise, log_h, schedule, factor, settings.interval), None
    if given.exact:
        assert given.known is not None and given.value is not None
        known, value = (part[some].to(model.device) for part in (given.known, given.value))
        denoise = pinned(denoise, known, value)
    if settings.threshold and model.latent is not None:
        raise ValueError("`threshold` clips pixels, and this model is of latents; leave it out")
    if settings.threshold:
        denoise = dynamic_threshold(denoise, settings.threshold)
    elif settings.clip and model.latent is None:  # codes have no range
        denoise = clipped(denoise, -1.0, 1.0)
    shifting = None if log_h is None else within(log_h, settings.interval)
    solver = solver_of(model, settings, shifting, factor)
    return denoise, Renoise(solver, schedule) if given.known is not None and not given.exact else solver


def _potential(
    given: Given, labels: Tensor | None, some: slice, settings: ImageSettings
) -> tuple[LogPotential, float] | None:
    """The log-potential of classifier and CLIP, and its scale; None without guidance by these."""
    parts: list[tuple[LogPotential, float]] = []
    if given.classifier is not None and settings.classifier_scale:
        assert labels is not None
        parts.append((given.classifier.log_probability(labels), settings.classifier_scale))
    if given.clip is not None and settings.clip_scale:
        assert given.texts is not None
        with torch.no_grad():
            log_similarity = given.clip.log_similarity(given.texts[some])
        parts.append((log_similarity, settings.clip_scale))
    if len(parts) < 2:
        return parts[0] if parts else None

    def total(x_t: Tensor, t: Tensor) -> Tensor:
        return torch.stack([scale * log_h(x_t, t) for log_h, scale in parts]).sum(0)

    return total, 1.0


def _with_map(cond: Condition | None, given: Given, some: slice, device: torch.device) -> Condition | None:
    if given.beside is None:
        return cond
    channels = given.beside[some].to(device)
    if cond is not None and cond.concat is not None:  # of an upsampler that fills in parts
        channels = torch.cat([channels, cond.concat], dim=1)
    seen = replace(cond or Condition(), concat=channels)
    return seen if given.level is None else replace(seen, label=given.level[some].to(device))


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
