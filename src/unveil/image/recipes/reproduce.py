"""Make images again: the settings in their PNG files, and the config that these become."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from unveil.errors import UnveilError
from unveil.files.json_objects import JsonObject

if TYPE_CHECKING:
    import torch

    from unveil.image.recipes.config import SampleImage

DRAWN = "drawn"  # how the noise was drawn, in the text of the PNG
HERE = ("out", "from_png", "watch", "device", "threads", "json")  # belong to the machine, not to the images


class Repeated(NamedTuple):
    """The settings of a PNG.

    Args:
        config: the config that made it; the fields of `HERE` are those of the command.
        weights: the digests of the weights and files that made it.
        note: a remark about a PNG of an older version.
    """

    config: SampleImage
    weights: str
    note: str


def parameters(config: SampleImage, device: torch.device, weights: str) -> str:
    """The text of the PNG: the settings by name, and the digests of what else the images depend on."""
    from unveil.runs.flags import flat

    settings = {name: value for name, value in flat(config).items() if name not in HERE}
    return json.dumps(settings | {"weights": weights, "device": device.type, DRAWN: "by image"}, default=str)


def repeated(config: SampleImage) -> Repeated:
    """The settings of the PNG of --from-png. The device is of the kind that made it, unless one is given.

    Raises:
        UnveilError: the PNG does not hold settings of `unveil sample image`.
    """
    from unveil.files.pictures import read_parameters
    from unveil.image.recipes.config import SampleImage
    from unveil.runs.flags import changed, flat

    png = config.from_png
    assert png is not None
    try:
        stored: JsonObject = json.loads(read_parameters(png))
        weights, device = str(stored.pop("weights")), str(stored.get("device", "auto"))
        older = stored.pop(DRAWN, None) is None
        settings = {name: tuple(v) if isinstance(v, list) else v for name, v in stored.items()}
        here = {name: value for name, value in flat(config).items() if name in HERE}
        if config.job.device == "auto":
            here["device"] = device
        before = changed(SampleImage(), **settings | here)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UnveilError(f"{png}: its settings are not those of unveil sample image ({error})") from error
    note = f"{png} was made by an older version with other noise: these are other images with its settings"
    return Repeated(before, weights, note if older else "")


def digests(checkpoints: Sequence[Path], inputs: Sequence[Path]) -> str:
    """SHA-256 of all that images depend on besides settings: weights, and the files of `input_files`."""
    from unveil.files.digest import digest

    return "+".join([*map(weights_digest, checkpoints), *map(digest, inputs)])


def input_files(config: SampleImage) -> list[Path]:
    """The files of --from, --low, --mask, --depth, --map, --embedding and --lora."""
    from unveil.image.recipes.loras import named_loras

    mask = [config.mask] if config.mask else []
    files = (*config.given, *config.low, *config.depth, *config.map, *mask, *config.embedding)
    named = [Path(path) for path in files]
    named += [path for path, _ in named_loras(config.lora, config.prompt)[0]]
    files = [file for path in named for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    return [file for file in files if file.is_file()]


def weights_digest(checkpoint: Path) -> str:
    """SHA-256 of the weights that are used, as the manifest has it, which they were verified against."""
    from unveil.files.digest import digest
    from unveil.runs.checkpoints import weights_file

    if checkpoint.is_file():  # Stable Diffusion in one file
        return digest(checkpoint)
    if (checkpoint / "unet").is_dir():
        files = [f for f in sorted(checkpoint.rglob("*")) if f.suffix in (".safetensors", ".bin")]
        return "+".join(map(digest, files))
    file = weights_file(checkpoint)
    try:
        return str(json.loads((checkpoint / "manifest.json").read_text())[file.name]["sha256"])
    except (OSError, ValueError, LookupError, TypeError):
        return digest(file)


def check_folder(out: Path, names: Iterable[str], inputs: Sequence[Path] = ()) -> None:
    """Refuse an output folder that is a file, that holds an input, or that holds files of other programs.

    Args:
        names: names of the files that will be written; only these are checked.
    Raises:
        UnveilError: it is one of these.
    """
    from unveil.files.atomic import check_output

    if out.exists() and not out.is_dir():
        raise UnveilError(f"{out} is a file, but `out` needs a folder")
    inside = [file for file in inputs if out.resolve() in file.resolve().parents]
    if inside:
        raise UnveilError(
            f"{inside[0]} is an input and lies in {out}, whose images are replaced; give another `out`"
        )
    for name in names:
        check_output(out / name)


def clear(out: Path) -> None:
    """Remove the images that an earlier run left in a folder: those that hold settings of unveil."""
    from unveil.files.atomic import made_by_unveil
    from unveil.files.pictures import read_parameters

    for file in [*out.glob("[0-9][0-9][0-9][0-9]*.png"), *out.glob("grid.png")]:
        try:
            read_parameters(file)
        except UnveilError:
            continue
        file.unlink()
        animation = out / "denoising.gif"
        if file.name == "grid.png" and animation.is_file() and made_by_unveil(animation):
            animation.unlink()
