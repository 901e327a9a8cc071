"""Other people's image models and classifiers: diffusers' folders and `.pt` files of openai's and
lucidrains', loaded and converted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unveil.errors import UnveilError
from unveil.image.weights.releases import read_images

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from unveil.image.classifier import ImageClassifier
    from unveil.image.model import ImageModel
    from unveil.image.weights.description import DescribedImages, ImageWeights

OPTIONS = (
    "norm_epsilon",
    "heads",
    "time_width",
    "cosine_first",
    "inclusive",
    "pad_after",
    "middle_attention",
    "middle_norm",
)
CLASSIFIER_OPTIONS = ("norm_epsilon", "time_width", "cosine_first", "inclusive")


def our_config(described: DescribedImages) -> dict[str, Any]:
    """What config.json of such a model says, as a run's of ours does."""
    from unveil.image.networks.unet2d import sides_of
    from unveil.image.weights.description import Classifier2dShape, LinearUNet2dShape

    it, network = described, described.network
    tells = isinstance(network, Classifier2dShape)
    config: dict[str, Any] = {
        "recipe": "classifier" if tells else "image",
        "origin": it.release,
        "size": it.size,
        "channels": network.channels,
        "names": [str(k) for k in range(network.labels)],
        "null": False,
        "dropout": 0.0,
        "stem": 1,
        "diffusion_steps": len(it.betas),
        "predicts": "eps" if it.predicts == "class" else it.predicts,
        "learned_variance": network.learned_variance,
        "sigma_data": 0.5,
        "time_scale": it.time_scale,
    } | _table(it.betas)
    if it.upsample > 1:
        config["upsample"] = it.upsample
    if tells:
        config |= {"clean": False, "counted_from": 0}
    if not isinstance(network, LinearUNet2dShape):
        sides = sides_of(it.size, 1, len(network.multiples))
        same = ("width", "blocks", "head_width", "scale_shift", "big_gan", "groups")
        return (
            config
            | {name: getattr(network, name) for name in same}
            | {"multiples": list(network.multiples), "attention": [sides[k] for k in network.attention]}
            | {
                "options": {
                    name: getattr(network, name) for name in (CLASSIFIER_OPTIONS if tells else OPTIONS)
                }
            }
        )
    own = {name: list(getattr(network, name)) for name in ("sizes", "heads", "head_width", "full")}
    unused: dict[str, Any] = {
        "blocks": 2,
        "head_width": 0,
        "scale_shift": True,
        "big_gan": False,
        "groups": 1,
        "attention": [],
    }
    multiples = [max(1, size // network.width) for size in network.sizes[1:]]
    return (
        config
        | unused
        | {"width": network.width, "multiples": multiples, "linear": {"width": network.width} | own}
    )


def _table(betas: tuple[float, ...]) -> dict[str, Any]:
    """The schedule by its name where it is one of ours, but for rounding to float32."""
    import torch

    from unveil.process.schedule import cosine_betas, linear_betas

    steps, given = len(betas), torch.tensor(betas, dtype=torch.float64, device="cpu")
    if steps > 20 and torch.allclose(
        given, linear_betas(steps, 0.1 / steps, 20.0 / steps), rtol=1e-6, atol=1e-9
    ):
        return {"schedule": "linear"}
    if torch.allclose(given, cosine_betas(steps), rtol=1e-6, atol=1e-9):
        return {"schedule": "cosine"}
    return {"schedule": "betas", "betas": list(betas)}


def model_of(read: ImageWeights, raw: bool = False) -> ImageModel | ImageClassifier:
    """Our model or classifier with these weights: the average where there is one, else the weights
    themselves."""
    import json

    from unveil.image.recipes.load import classifier_model, image_model

    config = json.loads(json.dumps(our_config(read.described)))
    weights = read.raw if raw or read.averaged is None else read.averaged
    if config["recipe"] == "classifier":
        classifier = classifier_model(config)
        classifier.network.load_state_dict(weights)
        return classifier.eval()
    model = image_model(config)
    model.load_state_dict(_ours(weights))
    return model.eval()


def _ours(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """With a row of zeros behind the labels, which stands for no class and is never read."""
    import torch

    found = {f"denoiser.network.{name}": value for name, value in weights.items()}
    if (label := found.get("denoiser.network.label.weight")) is not None:
        found["denoiser.network.label.weight"] = torch.cat([label, torch.zeros_like(label[:1])])
    return found


def load_images(
    path: Path, device: str = "auto", *, size: int = 0, flags: str = "", raw: bool = False
) -> ImageModel | ImageClassifier:
    """An `ImageModel` or `ImageClassifier` straight from a folder of diffusers or a `.pt` file; nothing in
    them is run.

    Args:
        size: side of its images, where the file does not say it.
        flags: of openai's scripts, see `read_images_file`.
        raw: take the weights themselves, not their average.
    Raises:
        UnveilError: it cannot be read, or cannot be used.
    """
    from unveil.runs.device import find_device

    return model_of(_usable(path, read_images(path, size, flags)), raw).to(find_device(device))


def _usable(path: Path, read: ImageWeights) -> ImageWeights:
    from unveil.image.recipes.load import shape_of

    try:
        shape_of(our_config(read.described))
    except ValueError as error:
        raise UnveilError(f"{path}: an image model that cannot be used: {error}") from error
    return read


def inspect_images(path: Path, size: int = 0, flags: str = "") -> str:
    """A description.

    Raises:
        UnveilError: it cannot be read, or cannot be used.
    """
    read = _usable(path, read_images(path, size, flags))
    it, config = read.described, our_config(read.described)
    network = it.network
    parameters = sum(value.numel() for value in read.raw.values())
    classes = f", {network.labels} classes" if network.labels else ""
    enlarged = (
        f", enlarged from {it.size // it.upsample} x {it.size // it.upsample}" if it.upsample > 1 else ""
    )
    guides = ", then --classifier OUT" if config["recipe"] == "classifier" else ""
    scale = f", times counted in {1 / it.time_scale:g}ths" if it.time_scale != 1.0 else ""
    learned = ", learns its variance" if network.learned_variance else ""
    rows = [
        ("release", it.release),
        ("network", f"{type(network).__name__.removesuffix('Shape')}, {parameters:,} parameters"),
        ("images", f"{it.size} x {it.size}, {network.channels} channels{classes}{enlarged}"),
        ("shape", _shape(config)),
        ("diffusion", f"{len(it.betas)} steps, {_named(config)}, predicts {it.predicts}{learned}{scale}"),
        ("sampled there", it.sampler),
        (
            "weights",
            ("raw" if read.averaged is None else "raw and averaged (EMA)")
            + "".join(f"; {k} {v:,}" for k, v in read.notes.items()),
        ),
        ("usable", f"yes: unveil.load(PATH), unveil weights convert PATH OUT{guides}"),
    ]
    return "\n".join([str(path), *(f"  {name:<13} {text}" for name, text in rows)])


def _named(config: Mapping[str, Any]) -> str:
    return "a table of its own" if config["schedule"] == "betas" else str(config["schedule"])


def _shape(config: Mapping[str, Any]) -> str:
    if "linear" in config:
        it = config["linear"]
        full = ", ".join("full" if whole else "linear" for whole in it["full"])
        return f"channels {', '.join(map(str, it['sizes']))}; attention {full}, heads {', '.join(map(str, it['heads']))}"
    channels = ", ".join(str(config["width"] * m) for m in config["multiples"])
    where = ", ".join(f"{side} x {side}" for side in config["attention"]) or "none but the middle's"
    heads = (
        f"heads of {config['head_width']}" if config["head_width"] else f"{config['options']['heads']} heads"
    )
    time = "scales and shifts" if config["scale_shift"] else "is added"
    return f"channels {channels}; {config['blocks']} blocks; attention at {where}, {heads}; the time {time}"


def convert_images(path: Path, out: Path, raw: bool, size: int = 0, flags: str = "") -> str:
    """Write a run of ours; returns what is printed.

    Raises:
        UnveilError: it cannot be read or used, or something else is where it would go; nothing is
            half-written.
    """
    import json
    import shlex

    from unveil.runs.checkpoints import check_free, write_converted

    read = _usable(path, read_images(path, size, flags))
    described = json.loads(json.dumps(our_config(read.described)))
    check_free(out, described)
    if out.absolute() in (path.absolute(), *path.absolute().parents):
        raise UnveilError(
            f"{out}: is {'what is converted' if out.absolute() == path.absolute() else f'a folder above {path}'}; give another"
        )
    step = read.notes.get("step", 0)
    chosen = "the weights" if read.averaged is None else "raw weights" if raw else "averaged weights"
    models = {"ema": model_of(read, raw)} | (
        {} if read.averaged is None else {"network": model_of(read, raw=True)}
    )
    state = {"step": step, "weights": chosen, "origin": read.described.release}
    write_converted(out, f"checkpoint-{step}", described, models, state)
    it = read.described
    classes = f" of {it.network.labels} classes" if it.network.labels else ""
    place = shlex.quote(str(out))
    use = f"--checkpoint {place} -n 16"
    if it.upsample > 1:
        use = f"--checkpoint {place} --from PICTURE --fit crop{' --class 0' if classes else ''} -n 1"
    if described["recipe"] == "classifier":
        use = f"--checkpoint MODEL --classifier {place} --class 0 -n 16"
    kind = (
        "classifier of noisy "
        if described["recipe"] == "classifier"
        else "upsampler to "
        if it.upsample > 1
        else ""
    )
    return (
        f"{out}: {kind}{it.size} x {it.size} images{classes} of {it.release}, {chosen}, {len(it.betas)} steps ({_named(described)})\n"
        f"next: unveil sample image {use}"
    )
