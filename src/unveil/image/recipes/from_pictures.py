"""Tasks of `unveil sample image --from`: change, inpaint, outpaint, restore, enlarge, invert, interpolate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from unveil.image.recipes.given_pictures import Prepared, filled_in, known_of, read_given
from unveil.image.recipes.stable_diffusion_maps import map_of
from unveil.image.recipes.unclip import OF_IMAGES

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from unveil.image.classifier import ImageClassifier
    from unveil.image.clip_model import ClipModel
    from unveil.image.model import ImageModel
    from unveil.image.recipes.config import EvalImage, SampleImage
    from unveil.image.settings import ImageSettings
    from unveil.sampling.noise import Noise

UPSCALER_LEVELS = 350  # of the noise that Stable Diffusion's x4 upscaler knows
MEASURED = 2**32  # added to the seed of an image for the noise of its measurement


def prepare(
    config: SampleImage,
    model: ImageModel,
    labels: Tensor | None,
    settings: ImageSettings,
    classifier: ImageClassifier | None,
    clip: ClipModel | None = None,
) -> Prepared:
    """Read the images of --from and prepare the task of the config.

    Args:
        clip: that of a decoder of unCLIP, for tasks by embeddings.
    Raises:
        ValueError: settings that exclude each other.
        UnveilError: images that cannot be read or do not fit.
    """
    import numpy as np
    import torch

    from unveil.image.data.reading import Reading
    from unveil.image.evaluation.restoration import bicubic
    from unveil.image.generation import Given
    from unveil.image.inversion import inverted, slerp
    from unveil.image.model import pixels_of
    from unveil.image.recipes.concat import check_beside, maps_of, with_noise
    from unveil.image.recipes.glide import enlarged_inpainting
    from unveil.image.recipes.outpainting import outpainted
    from unveil.image.recipes.unclip import from_embeddings
    from unveil.image.solvers import image_times

    enlarges, count, (colours, side, _) = model.shape.upsample > 1, config.n, model.picture
    if config.low and not (enlarges and model.shape.beside == "known"):
        raise ValueError("`low` is for GLIDE's upsampler that fills in parts; give `given` alone")
    if enlarges and model.shape.beside == "known":
        return enlarged_inpainting(config, model)
    _check(config, enlarges, map_of(model) == "small picture")
    check_beside(config, model.shape)
    check_map(config, model)
    if config.outpaint:
        ready = outpainted(config, model)
        return ready._replace(given=replace(ready.given, classifier=classifier))
    if map_of(model) == "small picture":
        return _upscaled(config, model)
    if config.map:
        reading = Reading(side, config.fit, config.background)
        return Prepared(Given(classifier, beside=maps_of(config.map, model, reading, count)))
    beside = _depth(config, model)
    if not config.given:
        return Prepared(Given(classifier, beside=beside))
    factor = model.shape.upsample if enlarges else config.factor
    shrunk = enlarges or config.restore == "superres"
    if shrunk and side % factor:
        raise ValueError(f"`factor` {factor} does not divide the model's side of {side} pixels")
    small = shrunk and not config.degrade
    inputs = read_given(config, config.given, side // factor if small else side, colours, small)
    if clip is not None:
        return from_embeddings(config, model, clip, labels, settings, inputs)
    pixels = torch.from_numpy(inputs[np.arange(count) % len(inputs)])
    lowres = model.shape.beside == "lowres"  # pixels, also of a latent model
    x_0 = model.normalized(pixels) if lowres else model.clean(pixels)
    if enlarges and not config.degrade:
        low, level = with_noise(x_0, config, model)
        return Prepared(Given(classifier, low=low, level=level), inputs=len(inputs))
    if enlarges:
        low = model.reduced(x_0)
        assert low is not None
        others = {"bicubic": bicubic(pixels_of(low).numpy(), factor)}
        low, level = with_noise(low, config, model)
        return Prepared(Given(classifier, low=low, level=level), None, pixels.numpy(), others, len(inputs))
    if config.restore and model.latent is not None:
        raise ValueError("`restore` needs a model of pixels, and this model is of latents")
    if config.restore:
        ready = restoration(config, model, pixels, classifier, config.job.seed + MEASURED)
        return ready._replace(inputs=len(inputs))
    if config.task == "img2img":
        return Prepared(Given(classifier, begin=x_0, beside=beside))
    if config.task == "inpaint":
        given = filled_in(model, pixels, known_of(config, side))
        return Prepared(replace(given, classifier=classifier), inputs=len(inputs))
    calls = len(image_times(model, settings)) - 2
    if config.task == "reconstruct":
        noise = inverted(model, pixels, labels, settings, config.batch_size)
        return Prepared(Given(), noise, pixels.numpy(), {}, len(inputs), calls)
    if len(inputs) != 2:
        raise ValueError(f"`task=interpolate` needs two images in `given`, got {len(inputs)}")
    classes = None if labels is None else labels[torch.arange(2, device="cpu") % len(labels)]
    ends = inverted(model, torch.from_numpy(inputs), classes, settings, config.batch_size)
    share = torch.linspace(0.0, 1.0, count, device=ends.device) if count > 1 else 0.5
    first, last = (end.expand(count, -1, -1, -1) for end in ends.split(1))
    return Prepared(Given(), slerp(first, last, share), calls=calls)


def restoration(
    config: SampleImage,
    model: ImageModel,
    pixels: Tensor,
    classifier: ImageClassifier | None,
    generator: Noise | int,
) -> Prepared:
    """Inputs of `generate` for `--restore`.

    Args:
        pixels: (n, C, S, S) in 0 .. 255: degraded images, or with `degrade` whole ones, which are degraded
            first.
        generator: of the measurement noise, as of `generate`; each image has noise of its own.
    """
    import torch

    from unveil.image.evaluation.restoration import bicubic, median_filled, median_filtered
    from unveil.image.generation import Given, noise_by_sample
    from unveil.image.model import pixels_of
    from unveil.image.restoration import Blur, Hide, Operator, Shrink, measurement_cost
    from unveil.sampling.noise import normal_like

    side, noise, inpaint = model.shape.size, config.noise / 127.5, config.restore == "inpaint"
    known = torch.ones((1, 1, side, side), dtype=torch.bool, device="cpu")
    if inpaint:
        known = known_of(config, side)
    known = known.expand(len(pixels), 1, side, side).to(model.device)
    operators: dict[str, Operator] = {"deblur": Blur(config.blur), "superres": Shrink(config.factor)}
    operator = operators.get(config.restore, Hide(known))
    measured = model.normalized(pixels)
    if config.degrade:
        measured = operator.apply(measured)
        own = noise_by_sample(generator, len(measured))(slice(0, len(measured)))
        measured = measured + noise * normal_like(measured, own)
    if inpaint:
        measured = measured * known

    def cost(some: slice):
        return measurement_cost(
            operator.rows(some), measured[some], noise, model.denoiser.schedule, model.shape.sigma_data
        )

    given = Given(classifier, cost=cost)
    if not config.degrade:
        return Prepared(given)
    seen = pixels_of(measured).numpy()
    if inpaint:
        return Prepared(given, None, pixels.numpy(), {"median": median_filled(seen, known.cpu().numpy())})
    name, large = "as_given", seen
    if config.restore == "superres":
        name, large = "bicubic", bicubic(seen, config.factor)
    return Prepared(given, None, pixels.numpy(), {name: large, "median": median_filtered(large)})


def _upscaled(config: SampleImage, model: ImageModel) -> Prepared:
    """Small pictures for Stable Diffusion's upscaler, which are as large as its latent."""
    import numpy as np
    import torch

    from unveil.image.generation import Given
    from unveil.image.recipes.given_pictures import read_own
    from unveil.image.recipes.stable_diffusion_maps import noised

    assert model.latent is not None
    (colours, _, _), count, factor = model.picture, config.n, model.latent.factor
    if config.fit == "exact":
        inputs = read_own(config, config.given, colours)
    else:
        inputs = read_given(config, config.given, model.shape.size, colours)
    if config.noise_level > UPSCALER_LEVELS:
        raise ValueError(f"`noise_level` {config.noise_level}: this model knows 0 .. {UPSCALER_LEVELS}")
    small = model.normalized(torch.from_numpy(inputs[np.arange(count) % len(inputs)]))
    beside = noised(small, config.noise_level, config.job.seed + MEASURED)
    level = torch.full((count,), config.noise_level, device="cpu")
    size = (factor * small.shape[2], factor * small.shape[3])
    return Prepared(Given(beside=beside, level=level), inputs=len(inputs), size=size)


def _depth(config: SampleImage, model: ImageModel) -> Tensor | None:
    """The maps of --depth for a model that sees depth, (n, 1, h, w)."""
    import numpy as np
    import torch

    from unveil.image.data.folders import read_image_files
    from unveil.image.data.reading import Reading
    from unveil.image.recipes.stable_diffusion_maps import depth_map

    if not config.depth:
        return None
    found = read_image_files([Path(path) for path in config.depth], Reading(), 1)
    size = (config.size[1], config.size[0]) if config.size else None
    maps = depth_map(torch.from_numpy(found), model.sides_of(size)[1:])
    return maps[torch.from_numpy(np.arange(config.n) % len(maps))]


def check_map(config: SampleImage, model: ImageModel) -> None:
    """Refuse settings that do not give a model what it sees beside the noisy image, or give it to another.

    Raises:
        ValueError: such settings, and what to give.
    """
    kind = map_of(model)
    noisy = kind == "small picture" or model.shape.beside == "lowres"
    if not (noisy or config.cascade.upsampler) and config.noise_level != type(config).noise_level:
        raise ValueError(
            "`noise_level` is for models that know the noise of small images (Stable Diffusion's x4 "
            "upscaler, `concat=lowres`); leave it out"
        )
    if kind == "other":
        raise ValueError("this model sees a map beside the image: give it in Python, as `given.beside`")
    if kind == "inpainting" and config.task != "inpaint" and not config.outpaint:
        raise ValueError(
            "this model fills in parts of images: give `task=inpaint`, `given` and `mask`, or `outpaint`"
        )
    if kind == "depth" and not config.depth:
        raise ValueError(
            "this model sees depth, which unveil does not estimate: give `depth` FILE, a depth map"
        )
    if kind == "depth" and (config.outpaint or config.task not in ("", "img2img")):
        raise ValueError("this model sees depth: it makes images from noise, or by `task=img2img`")
    if kind != "depth" and config.depth:
        raise ValueError("`depth` is for Stable Diffusion's models that see depth, and this is none")
    if kind == "small picture" and (config.task or config.outpaint or config.size or not config.given):
        raise ValueError("this model is an upscaler: give `given`, small images, without `task` or `size`")


def _check(config: SampleImage, enlarges: bool, upscales: bool) -> None:
    task, restore = config.task, config.restore
    if task and restore:
        raise ValueError("`task` and `restore` exclude each other; give one of them")
    if enlarges and (task or restore or config.outpaint):
        raise ValueError(
            "this model is an upsampler, which does neither `task` nor `restore`; give `given` alone"
        )
    if config.edit and (task or restore or config.outpaint):
        raise ValueError("`edit` changes images by itself; leave out `task`, `restore` and `outpaint`")
    purpose = task or restore or ("outpaint" if config.outpaint else "edit" if config.edit else "")
    purpose = purpose or ("an upsampler" if enlarges or upscales else "")
    if purpose and not config.given:
        raise ValueError(f"{purpose} needs images: give `given` FILE or FOLDER")
    if config.given and not purpose:
        raise ValueError(
            "`given`: choose what to do with the images, `task` img2img|inpaint|reconstruct|interpolate|"
            "variations, `edit` or `restore` ..."
        )
    if bool(config.mask) != ("inpaint" in (task, restore) and not config.outpaint):
        raise ValueError("inpainting needs `mask` FILE, and nothing else does")
    if config.degrade and not (restore or enlarges):
        raise ValueError("`degrade` needs `restore` or an upsampler")
    check_used(config)
    inverts = "edit" if config.edit else f"task={task}" if task in OF_IMAGES else ""
    if inverts and (config.classifier or config.clip_model):
        raise ValueError(f"`{inverts}` excludes `{'classifier' if config.classifier else 'clip_model'}`")


def check_used(config: SampleImage | EvalImage) -> None:
    """Refuse settings without effect. `unveil eval image` has no tasks, so it refuses `strength`, `jumps` and
    `jump_length`.

    Raises:
        ValueError: such a setting, and what it needs.
    """
    values = vars(config) | vars(config.settings)
    default = vars(type(config)()) | vars(type(config.settings)())
    classifier, given, restore = bool(config.classifier), bool(values.get("given")), values.get("restore")
    clip = bool(values.get("clip_model"))
    guided = values["scale"] != 1.0 or classifier or clip
    inpaint = values.get("task") == "inpaint" or bool(values.get("outpaint"))
    needs = {
        "strength": ("`task=img2img`", values.get("task") == "img2img"),
        "jumps": ("`task=inpaint` or `outpaint`", inpaint),
        "jump_length": ("`jumps` above 1", inpaint and values["jumps"] > 1),
        "noise": ("`restore`", bool(restore)),
        "blur": ("`restore=deblur`", restore == "deblur"),
        "factor": ("`restore=superres`", restore == "superres"),
        "fit": ("`given` or `map`", given or bool(values.get("map"))),
        "background": ("`given`", given),
        "classifier_scale": ("`classifier`", classifier),
        "classifier_form": ("`classifier` or `clip_model`", classifier or clip),
        "clip_scale": ("`clip_model`", clip),
        "interval": ("guidance: `scale`, `classifier` or `clip_model`", guided),
        "bits_variance": ("`bits`", values.get("bits") != 0),
    }
    for name, (what, used) in needs.items():
        if name in values and not used and values[name] != default[name]:
            raise ValueError(f"`{name}` needs {what}, and would have no effect here")


def quality(prepared: Prepared, made: np.ndarray) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """PSNR of the samples, of their mean per input if there are several each, and, as references, of the
    other methods; nothing if the original images are unknown."""
    import numpy as np

    from unveil.image.evaluation.restoration import psnr

    truth, inputs = prepared.truth, prepared.inputs
    if truth is None:
        return {}, {}
    scores = {"psnr_mean": float(psnr(truth, made).mean())}
    if len(made) >= 2 * inputs:
        means = np.stack([made[k::inputs].astype(np.float64).mean(0) for k in range(inputs)])
        scores["psnr_of_means"] = float(psnr(truth[:inputs], means.round().astype(np.uint8)).mean())
    others = {name: {"psnr_mean": float(psnr(truth, it).mean())} for name, it in prepared.others.items()}
    return scores, others
