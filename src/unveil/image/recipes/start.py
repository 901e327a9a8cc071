"""How a training of images starts: as the run that it resumes, or with the weights of another model."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unveil.errors import UnveilError
from unveil.image.recipes.config import TRAIN_PRESETS, UNSAID, TrainImage, said
from unveil.image.recipes.training_flags import UNetFlags
from unveil.runs.flags import changed, flat

if TYPE_CHECKING:
    from unveil.image.model import ImageModel

DIFFUSION = ("schedule", "diffusion_steps", "predicts", "learned_variance", "sigma_data")
TAKEN = (
    *(field.name for field in fields(UNetFlags)),
    "upsample",
    *DIFFUSION,
)  # flags that the weights decide
OTHERS = ("betas", "time_scale", "options", "linear")  # fields of converted models


def as_begun(config: TrainImage) -> tuple[TrainImage, dict[str, Any] | None]:
    """The config of a resumed run, with the fields that no flag sets as its config.json has them, because
    defaults may have changed since; and that config.json, if there is a checkpoint."""
    from unveil.training.checkpoint import latest_checkpoint

    if not config.run.resume or latest_checkpoint(config.run.folder, warn=False) is None:
        return config, None
    try:
        before = json.loads((config.run.folder / "config.json").read_text())
    except (OSError, ValueError):
        return config, None  # `write_config` reports the damage
    if (
        not isinstance(before, dict)
        or before.get("recipe") != "image"
        or before.get("origin", "unveil") != "unveil"
    ):
        return config, None
    known: dict[str, Any] = {
        name: before[name] for name in UNSAID if name in before and not said(config, name)
    }
    return changed(config, **known | {"start_from": config.start_from or before.get("start_from")}), before


def taken_over(
    config: TrainImage, described: dict[str, Any], before: dict[str, Any] | None
) -> dict[str, Any]:
    """The description of a run that starts with the weights of `--start-from`: it takes over their network
    and diffusion.

    Args:
        before: description of the run that is resumed, for which the other weights need not exist any more.
    Raises:
        UnveilError: no such weights, images of another size, or other classes.
        ValueError: a flag that asks for another shape.
    """
    from unveil.image.recipes.load import open_image
    from unveil.runs.checkpoints import zoo_names

    start = str(config.start_from)
    has = before or open_image(start).config
    kind = (described["channels"], described["size"])
    if (has["channels"], has["size"]) != kind:
        raise UnveilError(
            f"{start} makes images of {has['channels']} channels and {has['size']} pixels, these have {kind[0]} and {kind[1]}; "
            f"give --size {has['size']} --fit resize, or images of as many channels"
        )
    if has["names"] != described["names"]:
        raise UnveilError(
            f"{start} knows {_few(has['names'])}, this training {_few(described['names'])}; "
            f"{'give `classes` and images of the same classes' if has['names'] else 'leave `classes` out'}"
        )
    preset = TRAIN_PRESETS[config.preset]
    for name in TAKEN:
        asked, usual = flat(config)[name], flat(preset)[name]
        is_set = said(config, name) if name in UNSAID else asked != usual
        if before is None and is_set and json.loads(json.dumps(asked)) != has.get(name, asked):
            raise ValueError(
                f"`{name}` {asked}: the shape is that of {start}, which has {has.get(name)}; leave `{name}` out"
            )
    place = start if start in zoo_names() else str(Path(start).resolve())
    own = {"start_from": place, "method": "", "null": has["null"]}
    return described | {name: has[name] for name in (*TAKEN, *OTHERS) if name in has} | own


def load_start(model: ImageModel, start: str) -> None:
    """Load the averaged weights of a checkpoint into a model of the same shape.

    Raises:
        UnveilError: damaged.
    """
    from unveil.runs.checkpoints import find_checkpoint, read_weights

    model.load_state_dict(read_weights(find_checkpoint(start), model.state_dict()))


def _few(names: list[str]) -> str:
    return (
        f"{len(names)} classes ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        if names
        else "no classes"
    )
