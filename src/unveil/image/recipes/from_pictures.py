"""What `unveil sample image --from` does with images: change, inpaint, restore, enlarge, invert or
interpolate them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from unveil.image.classifier import ImageClassifier
    from unveil.image.generation import Given
    from unveil.image.model import ImageModel
    from unveil.image.recipes.config import EvalImage, SampleImage
    from unveil.image.settings import ImageSettings
    from unveil.sampling.noise import Noise

MEASURED = 2**32  # added to the seed of an image for the noise of its measurement


class Prepared(NamedTuple):
    """Inputs of `generate`, and what to compare its results with.

    Args:
        noise: (n, C, S, S) initial noise, or None.
        truth: (n, C, S, S) uint8 original images, or None if they are unknown.
        others: (n, C, S, S) uint8 results of each method without learning.
        inputs: number of images of --from, which are used in turn.
        calls: network calls per image for the inversion.
    """

    given: Given
    noise: Tensor | None = None
    truth: np.ndarray | None = None
    others: Mapping[str, np.ndarray] = MappingProxyType({})
    inputs: int = 1
    calls: int = 0


def prepare(
    config: SampleImage,
    model: ImageModel,
    labels: Tensor | None,
    settings: ImageSettings,
    classifier: ImageClassifier | None,
) -> Prepared:
    """Read the images of --from and prepare what the flags ask for.

    Raises:
        ValueError: flags that exclude each other.
        UnveilError: images that cannot be read or do not fit.
    """
    import numpy as np
    import torch

    from unveil.image.evaluation.restoration import bicubic
    from unveil.image.generation import Given, image_times
    from unveil.image.inversion import inverted, slerp

    enlarges = model.shape.upsample > 1
    _check(config, enlarges)
    if not config.given:
        return Prepared(Given(classifier))
    side = model.shape.size
    factor = model.shape.upsample if enlarges else config.factor
    shrunk = enlarges or config.restore == "superres"
    if shrunk and side % factor:
        raise ValueError(f"`factor` {factor} does not divide the model's side of {side} pixels")
    inputs = _read(
        config, side // factor if shrunk and not config.degrade else side, model.shape.channels, shrunk
    )
    turn = np.arange(config.n) % len(inputs)
    pixels = torch.from_numpy(inputs[turn])
    if enlarges:
        low, truth, others = model.normalized(pixels), None, dict[str, np.ndarray]()
        if config.degrade:
            whole = low
            low = model.reduced(whole)
            assert low is not None
            truth = pixels.numpy()
            others = {"bicubic": bicubic(_pixels(low), factor)}
        return Prepared(Given(classifier, low=low), None, truth, others, len(inputs))
    if config.restore:
        ready = restoration(config, model, pixels, classifier, config.seed + MEASURED)
        return ready._replace(inputs=len(inputs))
    if config.task == "img2img":
        return Prepared(Given(classifier, begin=model.normalized(pixels)))
    if config.task == "inpaint":
        known = _known(config, side).expand(len(pixels), 1, side, side)
        return Prepared(Given(classifier, known=known, value=model.normalized(pixels)))
    calls = len(image_times(model, settings)) - 2
    if config.task == "reconstruct":
        noise = inverted(model, pixels, labels, settings, config.batch_size)
        return Prepared(Given(), noise, pixels.numpy(), {}, len(inputs), calls)
    if len(inputs) != 2:
        raise ValueError(f"`task=interpolate` needs two images in `given`, got {len(inputs)}")
    classes = None if labels is None else labels[torch.arange(2, device="cpu") % len(labels)]
    ends = inverted(model, torch.from_numpy(inputs), classes, settings, config.batch_size)
    share = (
        torch.linspace(0.0, 1.0, config.n, device=ends.device)
        if config.n > 1
        else torch.full((1,), 0.5, device=ends.device)
    )
    between = slerp(ends[:1].expand(config.n, -1, -1, -1), ends[1:].expand(config.n, -1, -1, -1), share)
    return Prepared(Given(), between, calls=calls)


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
    from unveil.image.restoration import Blur, Hide, Operator, Shrink, measurement_cost
    from unveil.sampling.noise import normal_like

    side, noise = model.shape.size, config.noise / 127.5
    known = (
        _known(config, side)
        if config.restore == "inpaint"
        else torch.ones((1, 1, side, side), dtype=torch.bool, device="cpu")
    )
    known = known.expand(len(pixels), 1, side, side).to(model.device)
    operators: dict[str, Operator] = {"deblur": Blur(config.blur), "superres": Shrink(config.factor)}
    operator = operators.get(config.restore, Hide(known))
    measured = model.normalized(pixels)
    if config.degrade:
        measured = operator.apply(measured)
        own = noise_by_sample(generator, len(measured))(slice(0, len(measured)))
        measured = measured + noise * normal_like(measured, own)
    if config.restore == "inpaint":
        measured = measured * known
    seen = _pixels(measured)
    others = {
        "denoise": lambda: {"as_given": seen, "median": median_filtered(seen)},
        "inpaint": lambda: {"median": median_filled(seen, known.cpu().numpy())},
        "deblur": lambda: {"as_given": seen, "median": median_filtered(seen)},
        "superres": lambda: {
            "bicubic": bicubic(seen, config.factor),
            "median": median_filtered(bicubic(seen, config.factor)),
        },
    }[config.restore]()

    def cost(some: slice):
        return measurement_cost(
            operator.rows(some), measured[some], noise, model.denoiser.schedule, model.shape.sigma_data
        )

    return Prepared(
        Given(classifier, cost=cost),
        None,
        pixels.numpy() if config.degrade else None,
        others if config.degrade else {},
    )


def _check(config: SampleImage, enlarges: bool) -> None:
    task, restore = config.task, config.restore
    if task and restore:
        raise ValueError("`task` and `restore` exclude each other; give one of them")
    if enlarges and (task or restore):
        raise ValueError(
            "this model is an upsampler, which does neither `task` nor `restore`; give `given` alone"
        )
    purpose = task or restore or ("an upsampler" if enlarges else "")
    if purpose and not config.given:
        raise ValueError(f"{purpose} needs images: give `given` FILE or FOLDER")
    if config.given and not purpose:
        raise ValueError(
            "`given`: choose what to do with the images, `task` img2img|inpaint|reconstruct|interpolate or `restore` ..."
        )
    if bool(config.mask) != ("inpaint" in (task, restore)):
        raise ValueError("inpainting needs `mask` FILE, and nothing else does")
    if config.degrade and not (restore or enlarges):
        raise ValueError("`degrade` needs `restore` or an upsampler")
    check_used(config)
    if task in ("reconstruct", "interpolate") and config.classifier:
        raise ValueError(f"`task={task}` excludes `classifier`")


def check_used(config: SampleImage | EvalImage) -> None:
    """Refuse settings without effect. `unveil eval image` has no tasks, so that strength, jumps and
    jump_length are refused there.

    Raises:
        ValueError: such a setting, and what it needs.
    """
    from unveil.runs.flags import flat

    asked, default = flat(config), flat(type(config)())
    guided = asked["scale"] != 1.0 or bool(config.classifier)
    task, restore = asked.get("task"), asked.get("restore")
    needs = {
        "strength": ("`task=img2img`", task == "img2img"),
        "jumps": ("`task=inpaint`", task == "inpaint"),
        "jump_length": ("`jumps` above 1", task == "inpaint" and asked["jumps"] > 1),
        "noise": ("`restore`", bool(restore)),
        "blur": ("`restore=deblur`", restore == "deblur"),
        "factor": ("`restore=superres`", restore == "superres"),
        "fit": ("`given`", bool(asked.get("given"))),
        "background": ("`given`", bool(asked.get("given"))),
        "classifier_scale": ("`classifier`", bool(config.classifier)),
        "classifier_form": ("`classifier`", bool(config.classifier)),
        "interval": ("guidance: `scale` or `classifier`", guided),
        "bits_variance": ("`bits`", asked.get("bits") != 0),
    }
    for name, (what, used) in needs.items():
        if name in asked and not used and asked[name] != default[name]:
            raise ValueError(f"`{name}` needs {what}, and would have no effect here")


def _read(config: SampleImage, side: int, channels: int, enlarged: bool) -> np.ndarray:
    from unveil.errors import UnveilError
    from unveil.image.data.folders import read_image_files
    from unveil.image.data.reading import Reading

    try:
        return read_image_files(
            [Path(path) for path in config.given], Reading(side, config.fit, config.background), channels
        )
    except UnveilError as error:
        if not enlarged or config.degrade or "is needed; give" not in str(error):
            raise
        raise UnveilError(
            f"{str(error).split(';')[0]}: small images are enlarged; give `fit`, or `degrade` to shrink whole ones"
        ) from error


def _known(config: SampleImage, side: int) -> Tensor:
    """(1, 1, S, S) bool: where the mask is dark."""
    import torch

    from unveil.image.data.folders import read_image_files
    from unveil.image.data.reading import Reading

    mask = read_image_files([Path(config.mask)], Reading(side, config.fit, config.background), 1)
    return torch.from_numpy(mask) < 128


def _pixels(x: Tensor) -> np.ndarray:
    from unveil.image.model import pixels_of

    return pixels_of(x).numpy()


def quality(prepared: Prepared, made: np.ndarray) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """PSNR of the samples, of their mean per input if there are several each, and, as references, of the
    other methods."""
    import numpy as np

    from unveil.image.evaluation.restoration import psnr

    assert prepared.truth is not None
    inputs = prepared.inputs
    scores = {"psnr_mean": float(psnr(prepared.truth, made).mean())}
    if len(made) >= 2 * inputs:
        means = np.stack([made[k::inputs].astype(np.float64).mean(0) for k in range(inputs)])
        scores["psnr_of_means"] = float(psnr(prepared.truth[:inputs], means.round().astype(np.uint8)).mean())
    return scores, {
        name: {"psnr_mean": float(psnr(prepared.truth, other).mean())}
        for name, other in prepared.others.items()
    }
