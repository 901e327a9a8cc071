"""Use and convert image models of other programs: folders of diffusers, `.pt` files of other programs."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from unveil.errors import UnveilError
from unveil.files.json_objects import JsonObject
from unveil.image.recipes.load import IMAGE_OPTIONS

if TYPE_CHECKING:
    from unveil.image.classifier import ImageClassifier
    from unveil.image.model import ImageModel
    from unveil.image.shape import ImageShape
    from unveil.image.weights.description import DescribedImages, ImageWeights

SAME = ("width", "multiples", "blocks", "head_width", "scale_shift", "big_gan", "groups")


class Usable(NamedTuple):
    """Weights of another program that our models can use, and the shape of the model."""

    weights: ImageWeights
    shape: ImageShape


def read_usable(path: Path, size: int, flags: str) -> Usable:
    """Read the weights; arguments as of `load_images`.

    Raises:
        UnveilError: they cannot be read, or cannot be used.
    """
    from unveil.image.weights.releases import read_images

    weights = read_images(path, size, flags)
    try:
        return Usable(weights, our_shape(weights.described))
    except ValueError as error:
        raise UnveilError(f"{path}: an image model that cannot be used: {error}") from error


def our_shape(described: DescribedImages) -> ImageShape:
    """The shape of our model; its network's shape is the description's.

    Raises:
        ValueError: there is no such model.
    """
    from unveil.image.networks.unet2d import sides_of
    from unveil.image.shape import ImageShape
    from unveil.image.weights.description import LinearUNet2dShape

    it, network = described, described.network
    if isinstance(network, LinearUNet2dShape):  # which reads none of these fields
        multiples = tuple(max(1, size // network.width) for size in network.sizes[1:])
        part = partial(ImageShape, width=network.width, multiples=multiples, blocks=2, groups=1, attention=())
    else:
        sides = sides_of(it.size, 1, len(network.multiples))
        same = {name: getattr(network, name) for name in SAME}
        part = partial(ImageShape, attention=tuple(sides[k] for k in network.attention), **same)
    schedule = _schedule(it.betas)
    return part(
        size=it.size,
        channels=network.channels,
        classes=network.labels,
        stem=1,
        diffusion_steps=len(it.betas),
        predicts="eps" if it.predicts == "class" else it.predicts,
        learned_variance=network.learned_variance,
        upsample=it.upsample,
        time_scale=it.time_scale,
        schedule=schedule,
        betas=it.betas if schedule == "betas" else (),
    )


def our_config(described: DescribedImages, shape: ImageShape) -> JsonObject:
    """The contents of config.json, as of a run of ours."""
    from dataclasses import asdict

    from unveil.image.weights.description import Classifier2dShape, LinearUNet2dShape

    network, fields = described.network, asdict(shape)
    config: dict[str, object] = {
        "recipe": "classifier" if isinstance(network, Classifier2dShape) else "image",
        "origin": described.release,
        "names": [str(k) for k in range(fields.pop("classes"))],
    }
    if shape.upsample == 1:
        del fields["upsample"]
    if not shape.betas:
        del fields["betas"]
    if isinstance(network, Classifier2dShape):
        fields |= {"clean": False, "counted_from": 0}
    if isinstance(network, LinearUNet2dShape):
        own = ("width", "sizes", "heads", "head_width", "full")
        fields["linear"] = {name: getattr(network, name) for name in own}
    else:
        options = {name: getattr(network, name) for name in IMAGE_OPTIONS if hasattr(network, name)}
        fields["options"] = options
    return json.loads(json.dumps(config | fields))


def _schedule(betas: tuple[float, ...]) -> Literal["linear", "cosine", "betas"]:
    """The schedule by its name where it is one of ours, but for rounding to float32."""
    import torch

    from unveil.process.schedule import cosine_betas, linear_betas

    steps, table = len(betas), torch.tensor(betas, dtype=torch.float64, device="cpu")
    same = partial(torch.allclose, table, rtol=1e-6, atol=1e-9)
    if steps > 20 and same(linear_betas(steps, 0.1 / steps, 20.0 / steps)):
        return "linear"
    return "cosine" if same(cosine_betas(steps)) else "betas"


def model_of(usable: Usable, raw: bool = False) -> ImageModel | ImageClassifier:
    """Our model or classifier with the averaged weights if there are any, else the weights themselves."""
    from dataclasses import replace

    import torch

    from unveil.image.classifier import ImageClassifier
    from unveil.image.model import ImageModel
    from unveil.image.networks.classifier2d import Classifier2d
    from unveil.image.weights.description import Classifier2dShape, network_of

    read, shape = usable
    weights = dict(read.raw if raw or read.averaged is None else read.averaged)
    network = read.described.network
    if isinstance(network, Classifier2dShape):
        classifier = ImageClassifier(shape, False, Classifier2d(network), counted_from=0)
        classifier.network.load_state_dict(weights)
        return classifier.eval()
    if shape.classes:  # a row of zeros behind the labels: no class, which is never read
        network = replace(network, labels=shape.classes + 1)
        label = weights["label.weight"]
        weights["label.weight"] = torch.cat([label, torch.zeros_like(label[:1])])
    model = ImageModel(shape, network_of(network))
    model.denoiser.network.load_state_dict(weights)
    return model.eval()


def load_images(
    path: Path, device: str = "auto", *, size: int = 0, flags: str = "", raw: bool = False
) -> ImageModel | ImageClassifier:
    """Load a model or classifier from a folder of diffusers or a `.pt` file; no code in them is run.

    Args:
        size: side of the images in pixels, where the file does not record it.
        flags: flags of OpenAI's scripts, see `read_images_file`.
        raw: take the weights themselves, not their average.
    Raises:
        UnveilError: it cannot be read, or cannot be used.
    """
    from unveil.runs.device import find_device

    return model_of(read_usable(path, size, flags), raw).to(find_device(device))


def inspect_images(path: Path, size: int = 0, flags: str = "") -> str:
    """Describe such a model for people; arguments and errors as of `load_images`."""
    from unveil.image.weights.description import Classifier2dShape

    read, shape = read_usable(path, size, flags)
    it, network = read.described, read.described.network
    parameters = sum(value.numel() for value in read.raw.values())
    classes = f", {network.labels} classes" if network.labels else ""
    low = it.size // it.upsample
    enlarged = f", enlarged from {low} x {low}" if it.upsample > 1 else ""
    guides = ", then --classifier OUT" if isinstance(network, Classifier2dShape) else ""
    scale = f", times counted in {1 / it.time_scale:g}ths" if it.time_scale != 1.0 else ""
    learned = ", learns its variance" if network.learned_variance else ""
    weights = "raw" if read.averaged is None else "raw and averaged (EMA)"
    rows = [
        ("release", it.release),
        ("network", f"{type(network).__name__.removesuffix('Shape')}, {parameters:,} parameters"),
        ("images", f"{it.size} x {it.size}, {network.channels} channels{classes}{enlarged}"),
        ("shape", _levels(it, shape)),
        ("diffusion", f"{len(it.betas)} steps, {_named(shape)}, predicts {it.predicts}{learned}{scale}"),
        ("sampled there", it.sampler),
        ("weights", weights + "".join(f"; {k} {v:,}" for k, v in read.notes.items())),
        ("usable", f"yes: unveil.load(PATH), unveil weights convert PATH OUT{guides}"),
    ]
    return "\n".join([str(path), *(f"  {name:<13} {text}" for name, text in rows)])


def _named(shape: ImageShape) -> str:
    return "a table of its own" if shape.schedule == "betas" else shape.schedule


def _levels(described: DescribedImages, shape: ImageShape) -> str:
    """The levels of the network, for people."""
    from unveil.image.weights.description import LinearUNet2dShape

    it = described.network
    if isinstance(it, LinearUNet2dShape):
        full = ", ".join("full" if whole else "linear" for whole in it.full)
        sizes, heads = (", ".join(map(str, numbers)) for numbers in (it.sizes, it.heads))
        return f"channels {sizes}; attention {full}, heads {heads}"
    channels = ", ".join(str(it.width * m) for m in it.multiples)
    where = ", ".join(f"{side} x {side}" for side in shape.attention) or "none but the middle's"
    heads = f"heads of {it.head_width}" if it.head_width else f"{getattr(it, 'heads', 1)} heads"
    time = "scales and shifts" if it.scale_shift else "is added"
    return f"channels {channels}; {it.blocks} blocks; attention at {where}, {heads}; the time {time}"


def convert_images(path: Path, out: Path, raw: bool, size: int = 0, flags: str = "") -> str:
    """Write such a model as a run of ours; returns what is printed.

    Raises:
        UnveilError: it cannot be read or used, or something else is at `out`; nothing is half-written.
    """
    import shlex

    from unveil.runs.checkpoints import check_free, write_converted

    usable = read_usable(path, size, flags)
    (read, shape), it = usable, usable.weights.described
    config = our_config(it, shape)
    check_free(out, config)
    if out.absolute() in (path.absolute(), *path.absolute().parents):
        what = "what is converted" if out.absolute() == path.absolute() else f"a folder above {path}"
        raise UnveilError(f"{out}: is {what}; give another")
    step = read.notes.get("step", 0)
    chosen = "the weights" if read.averaged is None else "raw weights" if raw else "averaged weights"
    models = {"ema": model_of(usable, raw)}
    if read.averaged is not None:
        models["network"] = model_of(usable, raw=True)
    state = {"step": step, "weights": chosen, "origin": it.release}
    write_converted(out, f"checkpoint-{step}", config, models, state)
    classes = f" of {shape.classes} classes" if shape.classes else ""
    place = shlex.quote(str(out))
    kind, use = "", f"--checkpoint {place} -n 16"
    if config["recipe"] == "classifier":
        kind, use = "classifier of noisy ", f"--checkpoint MODEL --classifier {place} --class 0 -n 16"
    elif it.upsample > 1:
        one = " --class 0" if classes else ""
        kind, use = "upsampler to ", f"--checkpoint {place} --from PICTURE --fit crop{one} -n 1"
    return (
        f"{out}: {kind}{it.size} x {it.size} images{classes} of {it.release}, {chosen}, {len(it.betas)} "
        f"steps ({_named(shape)})\nnext: unveil sample image {use}"
    )
