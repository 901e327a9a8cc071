"""What `unveil sample image --from` does with pictures: begin from them, fill, restore, enlarge, or walk between two."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from unveil.image.classifier import ImageClassifier
    from unveil.image.generation import Given, ImageSettings
    from unveil.image.model import ImageModel
    from unveil.image.recipes.config import EvalImage, SampleImage
    from unveil.sampling.noise import Noise

MEASURED = 2**32  # added to the seed of an image for the noise of its measurement


class Prepared(NamedTuple):
    """What is given to `generate`, and what to hold the results against.

    Args:
        noise: (n, C, S, S), or None.
        truth: (n, C, S, S) uint8, or None where it is not known.
        others: (n, C, S, S) uint8 of each method without learning.
        pictures: how many of --from take turns.
        calls: of the network for each picture, to find its noise.
    """

    given: Given
    noise: Tensor | None = None
    truth: np.ndarray | None = None
    others: Mapping[str, np.ndarray] = MappingProxyType({})
    pictures: int = 1
    calls: int = 0


def prepare(
    config: SampleImage,
    model: ImageModel,
    labels: Tensor | None,
    settings: ImageSettings,
    classifier: ImageClassifier | None,
) -> Prepared:
    """Read the pictures of --from and make of them what the flags ask for.

    Raises:
        ValueError: flags that do not go together.
        UnveilError: pictures that cannot be read or do not fit.
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
        raise ValueError(f"--factor {factor} does not divide the model's side of {side} pixels")
    pictures = _read(
        config,
        side // factor if shrunk and not config.degrade else side,
        model.shape.channels,
        enlarges or shrunk,
    )
    turn = np.arange(config.n) % len(pictures)
    pixels = torch.from_numpy(pictures[turn])
    if enlarges:
        low, truth, others = model.normalized(pixels), None, dict[str, np.ndarray]()
        if config.degrade:
            whole = low
            low = model.reduced(whole)
            assert low is not None
            truth = pixels.numpy()
            others = {"bicubic": bicubic(_pixels(low), factor)}
        return Prepared(Given(classifier, low=low), None, truth, others, len(pictures))
    if config.restore:
        return restoration(config, model, pixels, classifier, config.seed + MEASURED)._replace(
            pictures=len(pictures)
        )
    if config.task == "img2img":
        return Prepared(Given(classifier, begin=model.normalized(pixels)))
    if config.task == "inpaint":
        known = _known(config, side).expand(len(pixels), 1, side, side)
        return Prepared(Given(classifier, known=known, value=model.normalized(pixels)))
    calls = len(image_times(model, settings)) - 2
    if config.task == "reconstruct":
        noise = inverted(model, pixels, labels, settings, config.batch_size)
        return Prepared(Given(), noise, pixels.numpy(), {}, len(pictures), calls)
    if len(pictures) != 2:
        raise ValueError(f"--task interpolate needs two pictures, --from A B; got {len(pictures)}")
    told = None if labels is None else labels[torch.arange(2, device="cpu") % len(labels)]
    ends = inverted(model, torch.from_numpy(pictures), told, settings, config.batch_size)
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
    """What `--restore` gives to `generate`, for images (n, C, S, S), 0 .. 255: damaged ones, or whole ones that it damages (`degrade`).

    Args:
        generator: of the damage, as of `generate`: each image's is its own.
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
    if config.task and config.restore:
        raise ValueError("--task and --restore are two things; give one of them")
    wants = config.task or config.restore or ("an upsampler" if enlarges else "")
    if enlarges and (config.task or config.restore):
        raise ValueError(
            "this model is an upsampler, which --task and --restore do not fit; give --from alone"
        )
    if wants and not config.given:
        raise ValueError(f"{wants} needs pictures: give --from FILE or FOLDER")
    if config.given and not wants:
        raise ValueError(
            "--from: say what to do with the pictures, --task img2img|inpaint|reconstruct|interpolate or --restore ..."
        )
    if bool(config.mask) != ("inpaint" in (config.task, config.restore)):
        raise ValueError("inpainting needs --mask FILE, and nothing else does")
    if config.degrade and not (config.restore or enlarges):
        raise ValueError("--degrade is of --restore and of upsamplers")
    check_used(config)
    if config.task in ("reconstruct", "interpolate") and config.classifier:
        raise ValueError(f"--task {config.task} takes no --classifier")
    if not 0.0 < config.noise < inf or not 0.0 < config.blur < inf or config.factor < 1:
        raise ValueError(
            f"--noise and --blur must be finite and above 0, --factor at least 1, got {config.noise}, {config.blur} and {config.factor}"
        )


def check_used(config: SampleImage | EvalImage) -> None:
    """Refuse flags that would do nothing.

    Raises:
        ValueError: one, and what it is of.
    """

    def said(name: str) -> Any:
        return getattr(config, name, None)

    wants = {
        "strength": ("--task img2img", said("task") == "img2img"),
        "jumps": ("--task inpaint", said("task") == "inpaint"),
        "jump_length": ("--jumps above 1", (said("jumps") or 1) > 1),
        "noise": ("--restore", bool(said("restore"))),
        "blur": ("--restore deblur", said("restore") == "deblur"),
        "factor": ("--restore superres", said("restore") == "superres"),
        "fit": ("--from", bool(said("given"))),
        "background": ("--from", bool(said("given"))),
        "classifier_scale": ("--classifier", bool(config.classifier)),
        "classifier_form": ("--classifier", bool(config.classifier)),
        "interval": ("guidance: --scale or --classifier", config.scale != 1.0 or bool(config.classifier)),
        "bits_variance": ("--bits", said("bits") != 0),
    }
    default = type(config)()
    for name, (what, used) in wants.items():
        if hasattr(config, name) and not used and getattr(config, name) != getattr(default, name):
            raise ValueError(f"--{name.replace('_', '-')} is of {what}, and would do nothing here")


def _read(config: SampleImage, side: int, channels: int, enlarged: bool) -> np.ndarray:
    from unveil.errors import UnveilError
    from unveil.image.data.folders import read_pictures
    from unveil.image.data.images import Reading

    try:
        return read_pictures(
            [Path(path) for path in config.given], Reading(side, config.fit, config.background), channels
        )
    except UnveilError as error:
        if not enlarged or config.degrade or "is asked" not in str(error):
            raise
        raise UnveilError(
            f"{str(error).split(';')[0]}: small pictures are enlarged; give --fit, or --degrade to shrink whole ones"
        ) from error


def _known(config: SampleImage, side: int) -> Tensor:
    """(1, 1, S, S) bool: where the mask is dark."""
    import torch

    from unveil.image.data.folders import read_pictures
    from unveil.image.data.images import Reading

    mask = torch.from_numpy(
        read_pictures([Path(config.mask)], Reading(side, config.fit, config.background), 1)
    )
    return mask < 128


def _pixels(x: Tensor) -> np.ndarray:
    from unveil.image.model import pixels_of

    return pixels_of(x).numpy()


def quality(prepared: Prepared, made: np.ndarray) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """PSNR of what was made, of the mean of those of one picture if there are several, and, as references, of the other methods."""
    import numpy as np

    from unveil.image.evaluation.restoration import psnr

    assert prepared.truth is not None
    pictures = prepared.pictures
    scores = {"psnr_mean": float(psnr(prepared.truth, made).mean())}
    if len(made) >= 2 * pictures:
        means = (
            np.stack([made[k::pictures].astype(np.float64).mean(0) for k in range(pictures)])
            .round()
            .astype(np.uint8)
        )
        scores["psnr_of_means"] = float(psnr(prepared.truth[:pictures], means).mean())
    return scores, {
        name: {"psnr_mean": float(psnr(prepared.truth, other).mean())}
        for name, other in prepared.others.items()
    }
