"""Images that can be made again: the settings in their PNG files, and the config that these become."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from unveil.image.recipes.config import SampleImage

DRAWN = "drawn"  # how the noise was drawn, in the text of the PNG
HERE = ("out", "from_png", "watch", "device", "threads", "json")  # belong to the machine, not to the images


def parameters(config: SampleImage, device: torch.device, weights: str) -> str:
    """The text of the PNG: the settings by name, and the digests of what else the images depend on."""
    from unveil.runs.flags import flat

    said = {name: value for name, value in flat(config).items() if name not in HERE}
    return json.dumps(said | {"weights": weights, "device": device.type, DRAWN: "by image"}, default=str)


def differs(png: Path) -> str:
    """A note about a PNG of an older version, which drew noise batch by batch; "" about others."""
    from unveil.files.pictures import read_parameters

    if DRAWN in json.loads(read_parameters(png)):
        return ""
    return f"{png} was made by an older version, which drew its noise otherwise: these are other images with the same settings"


def repeated(config: SampleImage) -> tuple[SampleImage, str]:
    """The config that made a PNG, and the digests of the weights and files that made it.

    The fields of `HERE` stay as they are; the device is of the kind that made the PNG, unless one is given.

    Raises:
        UnveilError: the PNG does not hold settings of `unveil sample image`.
    """
    from unveil.errors import UnveilError
    from unveil.files.pictures import read_parameters
    from unveil.image.recipes.config import SampleImage
    from unveil.runs.flags import changed

    assert config.from_png is not None
    try:
        said: dict[str, Any] = json.loads(read_parameters(config.from_png))
        weights, device = str(said.pop("weights")), str(said.get("device", "auto"))
        before = changed(
            SampleImage(),
            **{
                name: tuple(value) if isinstance(value, list) else value
                for name, value in said.items()
                if name not in (*HERE, DRAWN)
            },
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UnveilError(
            f"{config.from_png}: its settings are not those of unveil sample image ({error})"
        ) from error
    here: dict[str, Any] = {name: getattr(config, name) for name in HERE}
    if config.device == "auto":
        here["device"] = device
    return changed(before, **here), weights


def check_weights(config: SampleImage, recorded: str | None, now: str) -> None:
    """Refuse to repeat a PNG with other weights or other files.

    Args:
        recorded: the digests in the PNG; None: nothing is repeated.
        now: the digests of the weights and files that its settings name now.
    Raises:
        UnveilError: they differ.
    """
    from unveil.errors import UnveilError

    if recorded not in (None, now):
        raise UnveilError(
            f"{config.from_png} was made by other weights or from other images than those that its settings name now"
        )


def digests(config: SampleImage, checkpoints: Sequence[Path]) -> str:
    """SHA-256 of all that images depend on besides settings: the weights of model and classifier, and the
    files of --from and --mask."""
    return "+".join([*map(weights_digest, checkpoints), *map(_digest, given_files(config))])


def given_files(config: SampleImage) -> list[Path]:
    """The files of --from and --mask."""
    named = [Path(path) for path in (*config.given, *([config.mask] if config.mask else []))]
    files = [file for path in named for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    return [file for file in files if file.is_file()]


def weights_digest(checkpoint: Path) -> str:
    """SHA-256 of the weights that are used, as the manifest of the checkpoint has it, which they were
    verified against."""
    from unveil.runs.checkpoints import weights_file

    file = weights_file(checkpoint)
    try:
        return str(json.loads((checkpoint / "manifest.json").read_text())[file.name]["sha256"])
    except (OSError, ValueError, LookupError, TypeError):
        return _digest(file)


def _digest(path: Path) -> str:
    import hashlib

    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def free_folder(config: SampleImage) -> None:
    """Refuse an output folder that is a file, that holds an input, or that holds files of somebody else under
    names to be written.

    Raises:
        UnveilError: it is one of these.
    """
    from unveil.errors import UnveilError
    from unveil.files.atomic import check_output

    if config.out.exists() and not config.out.is_dir():
        raise UnveilError(f"{config.out} is a file, but `out` needs a folder")
    inside = [file for file in given_files(config) if config.out.resolve() in file.resolve().parents]
    if inside:
        raise UnveilError(
            f"{inside[0]} is an input and lies in {config.out}, whose images are replaced; give another `out`"
        )
    written = {config.out / "grid.png", *([config.out / "denoising.gif"] if config.watch else [])}
    numbered = [
        file
        for file in config.out.glob("[0-9][0-9][0-9][0-9]*.png")
        if file.stem.isdecimal() and int(file.stem) < config.n
    ]
    for file in sorted(written | set(numbered)):
        check_output(file)


def clear(out: Path) -> None:
    """Remove the images that an earlier run left in a folder: those that hold settings of unveil."""
    from unveil.errors import UnveilError
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
