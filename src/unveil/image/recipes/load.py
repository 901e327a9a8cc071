"""Load image models and classifiers from runs, checkpoints and packaged weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from unveil.errors import UnveilError
from unveil.files.json_objects import JsonObject
from unveil.image.recipes.latents import latents_of_run
from unveil.image.recipes.prompts import caption_flags, text_of
from unveil.image.recipes.stable_diffusion import Precision, load_stable_diffusion
from unveil.image.recipes.tuned import RECIPES, apply_tuned, read_tuned_config
from unveil.runs.config import read_config, read_recipe

if TYPE_CHECKING:
    from unveil.image.classifier import ImageClassifier
    from unveil.image.latents.latent import Latents
    from unveil.image.model import ImageModel
    from unveil.image.prompts.text_conditioning import TextConditioning
    from unveil.image.shape import ImageShape

IMAGE_OPTIONS: dict[str, type] = {  # of U-Nets of other releases
    "norm_epsilon": float,
    "heads": int,
    "time_width": int,
    "cosine_first": bool,
    "inclusive": bool,
    "pad_after": bool,
    "middle_attention": bool,
    "middle_norm": bool,
    "token_norm": bool,
    "linear_vector": bool,
}
CLASSIFIER_OPTIONS = {"norm_epsilon", "time_width", "cosine_first", "inclusive"}
IMAGE_LINEAR: dict[str, type] = {"width": int, "sizes": list, "heads": list, "head_width": list, "full": list}
LONGEST_PART = 200  # characters of a folder's name
# fields of a shape that the config.json of older versions lacks
LATER = (
    *("upsample", "betas", "time_scale", "context", "pooled", "concat"),
    *("beside", "noise_levels", "trunk", "depth", "heads", "efficient", "embedding"),
)


class Opened(NamedTuple):
    """A checkpoint folder and its config.json, which is read once and carried from here on."""

    folder: Path
    config: JsonObject
    foreign: bool = False  # files of Stable Diffusion, used as they are
    tuned: Opened | None = None  # adapters or a word that were learned for it

    @property
    def folders(self) -> tuple[Path, ...]:
        """The places of all weights."""
        return (self.folder, *(() if self.tuned is None else (self.tuned.folder,)))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes."""
        return tuple(self.config["names"])


def open_models(image: str, classifier: str = "") -> tuple[Opened, Opened | None]:
    """The checkpoints of an image model and of the classifier that guides it, by path or by name of a
    packaged model.

    Args:
        classifier: "": none.
    Raises:
        UnveilError: no such checkpoint, damaged, of another recipe, or with other classes.
    """
    from unveil.files.hub_layouts import OURS, SINGLE, STABLE_DIFFUSION
    from unveil.runs.checkpoints import find_checkpoint, local_name

    guides = [find_checkpoint(classifier)] if classifier else []
    place = Path(local_name(image, only=(OURS, STABLE_DIFFUSION, SINGLE)))
    if _is_stable_diffusion(place):
        opened = Opened(place, {"recipe": "image", "names": [], "captions": "clip"}, True)
    else:
        folder = find_checkpoint(image)
        tuned = read_recipe(folder) in RECIPES
        opened = open_tuned(folder) if tuned else Opened(folder, read_image_config(folder))
    guide = Opened(guides[0], read_classifier_config(guides[0])) if guides else None
    return opened, _same_classes(classifier, guide, opened.names) if guide else None


def open_image(path: str) -> Opened:
    """The checkpoint of an image model; as `open_models`."""
    return open_models(path)[0]


def open_tuned(folder: Path) -> Opened:
    """The base of a checkpoint of `unveil train lora` or `unveil train inversion`, with the checkpoint.

    Raises:
        UnveilError: the base is not where it was; or damaged.
    """
    config = read_tuned_config(folder)
    try:
        opened = open_image(config["base"])
    except UnveilError as error:
        raise UnveilError(
            f"{folder} belongs to the model {config['base']}, which it was trained on; put that model there "
            f"again ({error})"
        ) from error
    return opened._replace(tuned=Opened(folder, config))


def load_tuned(folder: Path, device: str = "auto") -> ImageModel:
    """The base of a checkpoint of `unveil train lora` or `unveil train inversion`, with what was trained.

    Raises:
        UnveilError: as `open_tuned` and `load_models`.
    """
    return load_models(open_tuned(folder), None, device)[0]


def open_classifier(path: str, names: tuple[str, ...] = ()) -> Opened:
    """The checkpoint of a classifier with these classes; as `open_models`."""
    from unveil.runs.checkpoints import find_checkpoint

    folder = find_checkpoint(path)
    return _same_classes(path, Opened(folder, read_classifier_config(folder)), names)


def _same_classes(path: str, opened: Opened, names: tuple[str, ...]) -> Opened:
    """A classifier, if it has these classes; of converted ones, which do not name them, as many."""
    known = opened.names
    if names and (len(known) != len(names) if opened.config.get("origin") else known != names):
        raise UnveilError(
            f"{path} was trained on the classes {', '.join(known[:5])}, but the classes here are "
            f"{', '.join(names[:5])}; train one on these data"
        )
    return opened


def _is_stable_diffusion(path: Path) -> bool:
    """Whether a path is of Stable Diffusion's files; folders of ours, which have a config.json, are not."""
    if any(len(part) > LONGEST_PART for part in path.parts):  # which systems refuse
        return False
    if path.is_dir() and not (path / "unet").is_dir():
        return False
    if path.is_file() and path.suffix not in (".safetensors", ".ckpt", ".pt", ".pth", ".bin"):
        return False
    from unveil.image.weights.stable_diffusion import is_stable_diffusion

    return is_stable_diffusion(path)


def load_models(
    opened: Opened, guide: Opened | None, device: str, dtype: Precision = "float32"
) -> tuple[ImageModel, ImageClassifier | None]:
    """The models of `open_models`.

    Args:
        dtype: precision of the networks of Stable Diffusion.
    Raises:
        UnveilError: damaged, or other weights than those that adapters were trained on.
    """
    from unveil.image.recipes.reproduce import weights_digest
    from unveil.runs.checkpoints import load_weights

    tuned = opened.tuned
    if tuned is not None and weights_digest(opened.folder) != tuned.config["base_digest"]:
        raise UnveilError(
            f"{tuned.folder} was trained on other weights than {tuned.config['base']} has now; put the old "
            "ones there again, or train anew"
        )
    classifier = classifier_model(guide.config) if guide else None
    if classifier is not None and guide is not None:
        load_weights(classifier, guide.folder, device)
    if opened.foreign:
        model = load_stable_diffusion(opened.folder, device, dtype=dtype)
    else:
        model = load_image(opened.folder, device, opened.config)
    if tuned is not None:
        apply_tuned(model, tuned.folder, tuned.config)
    return model, classifier


def few(names: Sequence[str], count: int = 3) -> str:
    """The number of classes, and the names of the first."""
    if not names:
        return "no classes"
    return f"{len(names)} classes ({', '.join(names[:count])}{', ...' if len(names) > count else ''})"


def read_image_config(folder: Path) -> JsonObject:
    """config.json of an image model; raises as `read_config`."""
    return read_config(folder, "image", check_image)


def read_classifier_config(folder: Path) -> JsonObject:
    """config.json of a classifier; raises as `read_config`."""
    return read_config(folder, "classifier", check_classifier)


def check_image(config: JsonObject) -> None:
    """Refuse fields that do not describe an image model; `ImageShape` has the bounds.

    Raises:
        ValueError: a field out of bounds.
        LookupError, TypeError: a field that is missing or of another type.
    """
    names = config["names"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("names must be a list of words")
    if not isinstance(config.get("clean", False), bool):
        raise ValueError("clean must be true or false")
    for part, known in (("options", IMAGE_OPTIONS), ("linear", IMAGE_LINEAR)):
        values = config.get(part, {})
        if set(values) - known.keys() or not all(isinstance(values[name], known[name]) for name in values):
            raise ValueError(f"{part} are {str(values)[:80]}")
    shape_of(config)
    caption_flags(config)


def check_classifier(config: JsonObject) -> None:
    """Refuse fields that do not describe a classifier; raises as `check_image`."""
    check_image(config)
    options, first = config.get("options", {}), config.get("counted_from", 1)
    if set(options) - CLASSIFIER_OPTIONS or first not in (0, 1):
        raise ValueError(f"options are {str(options)[:80]} and counted_from {first!r}")


def shape_of(config: JsonObject) -> ImageShape:
    """The shape of the network and the diffusion that config.json of a run describes."""
    from unveil.image.shape import ImageShape

    names = [field.name for field in fields(ImageShape) if field.name != "classes"]
    values = {name: config[name] for name in names if name in config or name not in LATER}
    return ImageShape(**_tuples(values), classes=len(config["names"]))


def model_of(config: JsonObject, folder: Path, device: str = "auto") -> ImageModel:
    """The untrained model of config.json of a run or checkpoint folder, with its text side and latent space.

    Raises:
        UnveilError: the files of these are missing or damaged.
    """
    return image_model(config, text_of(config, folder), latents_of_run(config, folder, device))


def image_model(
    config: JsonObject, text: TextConditioning | None = None, latent: Latents | None = None
) -> ImageModel:
    """The untrained model of config.json: our U-Net, with options of another release, our transformer, or the
    linear U-Net.

    Args:
        text: what reads its prompts, see `text_of`.
        latent: its latent space, see `latents_of_run`.
    """
    from unveil.image.model import ImageModel
    from unveil.image.networks.linear_unet2d import LinearUNet2d
    from unveil.image.networks.unet2d import UNet2d, UNet2dShape
    from unveil.image.shape_parts import image_network

    shape = shape_of(config)
    if "unet" in config:  # of Stable Diffusion
        return ImageModel(shape, UNet2d(UNet2dShape(**_tuples(config["unet"]))), text, latent)
    if "linear" not in config:
        return ImageModel(shape, image_network(shape, **config.get("options", {})), text, latent)
    own, learned = _tuples(config["linear"]), shape.learned_variance
    return ImageModel(shape, LinearUNet2d(shape.channels, **own, learned_variance=learned))


def classifier_model(config: JsonObject) -> ImageClassifier:
    """The untrained classifier of config.json, with the options of another release if there are any."""
    from unveil.image.classifier import ImageClassifier, classifier_network

    shape = shape_of(config)
    network = classifier_network(shape, **config.get("options", {}))
    return ImageClassifier(shape, bool(config["clean"]), network, config.get("counted_from", 1))


def load_image(folder: Path, device: str = "auto", config: JsonObject | None = None) -> ImageModel:
    """The model of a checkpoint folder of `unveil train image`.

    Args:
        config: its config.json, if it has been read already.
    Raises:
        UnveilError: damaged, or of another recipe.
    """
    from unveil.runs.checkpoints import load_weights

    config = read_image_config(folder) if config is None else config
    model = model_of(config, folder, device)
    load_weights(model, folder, device)
    return model


def load_classifier(folder: Path, device: str = "auto", config: JsonObject | None = None) -> ImageClassifier:
    """The classifier of a checkpoint folder of `unveil train classifier`; as `load_image`."""
    from unveil.runs.checkpoints import load_weights

    model = classifier_model(read_classifier_config(folder) if config is None else config)
    load_weights(model, folder, device)
    return model


def _tuples(values: JsonObject) -> JsonObject:
    """With tuples instead of the lists of JSON."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
