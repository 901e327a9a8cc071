"""Pictures that say how they were made: the parameters in their PNG files, and the config that these become again."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    import torch

    from unveil.image.recipes.config import SampleImage

DRAWN = "drawn"  # how the noise was, in the parameters
HERE = (
    "out",
    "from_png",
    "watch",
    "device",
    "threads",
    "json",
)  # of the machine and the moment, not of the picture


def parameters(config: SampleImage, device: torch.device) -> str:
    """What goes into the PNG."""
    said = {name: value for name, value in asdict(config).items() if name not in HERE}
    return json.dumps(
        said | {"weights": ingredients(config), "device": device.type, DRAWN: "by image"}, default=str
    )


def differs(png: Path) -> str:
    """What to tell of a picture that was made when noise was drawn batch by batch, which is not done any more; "" of others."""
    from unveil.files.pictures import read_parameters

    if DRAWN in json.loads(read_parameters(png)):
        return ""
    return f"\n{png} was made by an older version, which drew its noise otherwise: these are other pictures by the same settings"


def repeated(config: SampleImage) -> SampleImage:
    """The config that made a PNG, with the flags that are of the machine; on the kind of device that made it, unless one is given.

    Raises:
        UnveilError: no such parameters in it, or its checkpoint has other weights now.
    """
    from unveil.errors import UnveilError
    from unveil.files.pictures import read_parameters
    from unveil.image.recipes.config import SampleImage

    assert config.from_png is not None
    try:
        said: dict[str, Any] = json.loads(read_parameters(config.from_png))
        weights, device = said.pop("weights"), str(said.get("device", "auto"))
        made: dict[str, Any] = {
            n: tuple(v) if isinstance(v, list) else v for n, v in said.items() if n not in (*HERE, DRAWN)
        }
        hints = get_type_hints(SampleImage)
        for name, value in made.items():
            if not _fits(value, hints[name]):
                raise ValueError(f"{name} is {value!r}")
        before = SampleImage(**made)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UnveilError(
            f"{config.from_png}: its parameters are not those of unveil sample image ({error})"
        ) from error
    if weights != ingredients(before):
        raise UnveilError(
            f"{config.from_png} was made by other weights or from other pictures than those that its parameters name now"
        )
    before = replace(before, **{name: getattr(config, name) for name in HERE})
    return replace(before, device=device) if config.device == "auto" else before


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a field's type."""
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is UnionType:
        return any(_fits(value, one) for one in get_args(hint))
    if get_origin(hint) is tuple:
        parts = get_args(hint)
        wanted = parts[:1] * len(value) if isinstance(value, tuple) and parts[1:] == (...,) else parts
        return isinstance(value, tuple) and len(value) == len(wanted) and all(map(_fits, value, wanted))
    return type(value) is hint or (hint is float and type(value) is int)


def ingredients(config: SampleImage) -> str:
    """What, besides numbers, pictures are made of: SHA-256 of the weights of model and classifier, and of given files."""
    from unveil.runs.checkpoints import find_checkpoint

    used = [config.checkpoint, *([config.classifier] if config.classifier else [])]
    weights = [weights_digest(find_checkpoint(path)) for path in used]
    return "+".join(weights + [_digest(file) for file in given_files(config)])


def given_files(config: SampleImage) -> list[Path]:
    """The files of --from and --mask."""
    named = [Path(path) for path in (*config.given, *([config.mask] if config.mask else []))]
    files = [file for path in named for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    return [file for file in files if file.is_file()]


def weights_digest(folder: Path) -> str:
    """SHA-256 of the weights that are used."""
    from unveil.runs.checkpoints import weights_file

    return _digest(weights_file(folder))


def _digest(path: Path) -> str:
    import hashlib

    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def free_folder(config: SampleImage) -> None:
    """Refuse an --out that is no folder, that holds what is given, or files of somebody else under the names that are written.

    Raises:
        UnveilError: one of these.
    """
    from unveil.errors import UnveilError
    from unveil.files.atomic import check_output

    if config.out.exists() and not config.out.is_dir():
        raise UnveilError(f"{config.out} is a file, but --out needs a folder")
    inside = [file for file in given_files(config) if config.out.resolve() in file.resolve().parents]
    if inside:
        raise UnveilError(
            f"{inside[0]} is given and lies in --out {config.out}, whose pictures are replaced; give another --out"
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
    """Remove the pictures that an earlier run left in a folder: those that say that unveil made them."""
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
