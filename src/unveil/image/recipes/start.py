"""Start a training of images as the run that it resumes, or with the weights of another model."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from unveil.errors import UnveilError
from unveil.image.recipes.load import few, open_image
from unveil.image.recipes.train_config import FROM_IMAGES, TRAIN_PRESETS, TrainImage, for_trunk, is_set
from unveil.image.recipes.training_flags import TransformerFlags, UNetFlags
from unveil.runs.config import stored_config
from unveil.runs.flags import changed, flat

if TYPE_CHECKING:
    from unveil.image.model import ImageModel

DIFFUSION = ("schedule", "diffusion_steps", "predicts", "learned_variance", "sigma_data")
# flags that the weights decide
SIZES = (*(field.name for field in fields(UNetFlags)), *(field.name for field in fields(TransformerFlags)))
TAKEN = (*SIZES, "upsample", *DIFFUSION)
OTHERS = ("betas", "time_scale", "options", "linear")  # fields of converted models


def as_begun(config: TrainImage) -> tuple[TrainImage, dict[str, Any] | None]:
    """The config of a resumed run, and its config.json if there is a checkpoint.

    Fields that no flag sets are those of config.json, because defaults may have changed since."""
    from unveil.training.checkpoint import latest_checkpoint

    if not config.run.resume or latest_checkpoint(config.run.folder, warn=False) is None:
        return config, None
    before = stored_config(config.run.folder)  # {} if damaged, which `write_config` reports
    if before.get("recipe") != "image" or before.get("origin", "unveil") != "unveil":
        return config, None
    known = {name: before[name] for name in FROM_IMAGES if name in before and not is_set(config, name)}
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
        ValueError: a flag with another shape than the weights have.
    """
    from unveil.runs.checkpoints import lasting_name
    from unveil.runs.training import as_json

    start = str(config.start_from)
    has = before or open_image(start).config
    kind = (described["channels"], described["size"])
    if (has["channels"], has["size"]) != kind:
        raise UnveilError(
            f"{start} makes images of {has['channels']} channels and {has['size']} pixels, these have "
            f"{kind[0]} and {kind[1]}; give --size {has['size']} --fit resize, or images of as many channels"
        )
    if has["names"] != described["names"]:
        raise UnveilError(
            f"{start} knows {few(has['names'])}, this training {few(described['names'])}; "
            f"{'give `classes` and images of the same classes' if has['names'] else 'leave `classes` out'}"
        )
    sees, seen = described["beside"], has.get("beside", "")
    if seen != sees and (seen or has.get("concat") or has.get("upsample", 1) > 1):
        raise UnveilError(
            f"{start} sees {seen or 'something else'} beside the image, this training "
            f"{sees or 'nothing'}; {f'give `concat={seen}`' if seen else 'give the weights of another model'}"
        )
    usual = for_trunk(TRAIN_PRESETS[config.preset], config.transformer.trunk)
    values, preset = as_json(flat(config)), as_json(flat(usual))
    taken = TAKEN if seen == sees else [name for name in TAKEN if name != "upsample"]  # which `concat` needs
    for name in taken if before is None else ():
        chosen = is_set(config, name) if name in FROM_IMAGES else values[name] != preset[name]
        if chosen and values[name] != has.get(name, values[name]):
            raise ValueError(
                f"`{name}` {values[name]}: the shape is that of {start}, which has {has.get(name)}; leave "
                f"`{name}` out"
            )
    own = {"start_from": lasting_name(start), "method": "", "null": has["null"]}
    return described | {name: has[name] for name in (*taken, *OTHERS) if name in has} | own


def load_start(model: ImageModel, start: str) -> None:
    """Load the averaged weights of a checkpoint into a model of the same shape.

    The model may see more beside the image than that of the weights: weights of these channels and of the
    noise level then start at zero, so that it begins as the other one (as Stable Diffusion's inpainting
    models).

    Raises:
        UnveilError: damaged.
    """
    import torch

    from unveil.runs.checkpoints import find_checkpoint, read_weights

    folder = find_checkpoint(start)
    own = model.state_dict()
    if not model.shape.beside or open_image(start).config.get("beside"):
        model.load_state_dict(read_weights(folder, own))
        return
    first, level = "denoiser.network.enter.weight", "denoiser.network.level."
    inputs = own[first].shape[1] * model.shape.channels // (model.shape.channels + model.shape.concat)
    read = read_weights(
        folder,
        {
            name: value[:, :inputs] if name == first else value
            for name, value in own.items()
            if level not in name
        },
    )
    read[first] = torch.cat([read[first], torch.zeros_like(own[first][:, inputs:])], dim=1)
    zeros = {name: torch.zeros_like(value) for name, value in own.items() if level in name and ".2." in name}
    model.load_state_dict(own | read | zeros)
