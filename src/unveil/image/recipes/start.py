"""Start a training of images as the run that it resumes, or with the weights of another model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from unveil.errors import UnveilError
from unveil.files.atomic import check_output, replacing
from unveil.files.json_objects import JsonObject
from unveil.image.recipes.latents import latents_of_run, write_latents
from unveil.image.recipes.load import Opened, few, open_image
from unveil.image.recipes.prompts import FILE, caption_flags, new_text, text_of
from unveil.image.recipes.train_config import FROM_IMAGES, TRAIN_PRESETS, TrainImage, for_trunk, is_set
from unveil.image.recipes.training_flags import CaptionFlags, TransformerFlags, UNetFlags
from unveil.runs.config import stored_config
from unveil.runs.flags import changed, flat

if TYPE_CHECKING:
    from unveil.image.latents.latent import Latents
    from unveil.image.model import ImageModel
    from unveil.image.prompts.text_conditioning import TextConditioning

DIFFUSION = ("schedule", "diffusion_steps", "predicts", "learned_variance", "sigma_data")
# flags that the weights decide
SIZES = (*(field.name for field in fields(UNetFlags)), *(field.name for field in fields(TransformerFlags)))
TAKEN = (*SIZES, "upsample", *DIFFUSION)
OTHERS = ("betas", "time_scale", "options", "linear", "unet", "clip")  # fields of converted models
WORDED = ("context", "pooled", "tokenizer_digest", "encoder_digest")  # fields that follow from captions


def as_tuned(config: TrainImage) -> TrainImage:
    """The config with the model of `--from` as the one that it starts from.

    Raises:
        ValueError: as `beginning`, or `statistics`, which images do not have.
    """
    flags = config.run
    if flags.source and config.start_from not in (None, flags.source):
        raise ValueError("`from` and `start_from` both name the initial weights; give one of them")
    if flags.statistics != "kept":
        raise ValueError("`statistics`: images have none, their pixels are scaled to -1 .. 1; leave it out")
    if not flags.source and flags.freeze != "none":
        raise ValueError("`freeze` is of a training that begins with weights; give `from`")
    return changed(config, start_from=flags.source) if flags.source else config


def freeze_text(model: ImageModel, source: str) -> None:
    """Exclude the text encoder from training.

    Raises:
        ValueError: a model without text.
    """
    if model.text is None:
        raise ValueError(
            f"`freeze=encoder`: {source} reads no text, so it has no encoder; leave `freeze` out"
        )
    model.text.freeze()


def as_begun(config: TrainImage) -> tuple[TrainImage, JsonObject | None]:
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


def started(config: TrainImage, before: JsonObject | None) -> Opened | None:
    """The model whose weights a training begins with; of a resumed run the run itself, since the other need
    not exist any more. None: random weights.

    Raises:
        UnveilError: no such model, or adapters, which are no whole model.
    """
    if not config.start_from:
        return None
    if before is not None:
        return Opened(config.run.folder, before)
    opened = open_image(config.start_from)
    if opened.tuned is not None:
        raise UnveilError(
            f"{config.start_from} holds what was trained on {opened.tuned.config['base']} alone; start from "
            "that model"
        )
    if opened.foreign:
        raise UnveilError(
            f"{config.start_from} has the layout of Stable Diffusion; make a run of it first: unveil weights "
            f"convert {config.start_from} OUT"
        )
    return opened


def new_latents(name: str, run: Path, resume: bool, device: str) -> tuple[Latents | None, dict[str, object]]:
    """The latent space of a training, and the fields of config.json that describe it.

    Its weights are written into the run folder; a resumed run keeps its own.

    Args:
        name: taef2, or a run, a checkpoint or a packaged model of `unveil train autoencoder`; "": pixels.
    Raises:
        UnveilError: no such autoencoder, or a damaged one.
    """
    from unveil.image.recipes.autoencoder.load import load_latents

    if not name:
        return None, {}
    latents = load_latents(name, device)
    described = write_latents(latents, run, keep=resume)
    stored = latents_of_run({"autoencoder": described}, run, device)
    return stored, {"autoencoder": described}


def start_latents(config: TrainImage, start: Opened | None) -> tuple[Latents | None, dict[str, object]]:
    """The latent space of a training, and the fields of config.json that describe it, as `new_latents`: that
    of the model it starts from, if that has one.

    Raises:
        UnveilError: as `new_latents`, or `latent` names another autoencoder.
    """
    run, device = config.run.folder, config.run.device
    if start is None or "autoencoder" not in start.config:
        return new_latents(config.latent, run, config.run.resume, device)
    if config.latent:
        latents, coded = new_latents(config.latent, run, config.run.resume, device)
        if json.loads(json.dumps(coded["autoencoder"])) != start.config["autoencoder"]:  # lists, not tuples
            raise UnveilError(
                f"{config.start_from} was trained on the codes of another autoencoder than {config.latent}; "
                "leave `latent` out"
            )
        return latents, coded
    latents = latents_of_run(start.config, start.folder, device)
    assert latents is not None
    described = write_latents(latents, run, keep=True)
    return latents_of_run({"autoencoder": described}, run, device), {"autoencoder": described}


def start_text(
    config: TrainImage, captions: Sequence[str] | None, start: Opened | None
) -> tuple[TextConditioning | None, dict[str, object]]:
    """The text side of a training, and the fields of config.json that describe it, as `new_text`: that of the
    model it starts from, with its vocabulary.

    Args:
        captions: of the images.
    Raises:
        UnveilError: captions for a model without, or none for a model that reads them.
        ValueError: a flag that asks for another encoder.
    """
    flags, run = config.text, config.run.folder
    if start is None:
        return new_text(flags, captions, run, config.run.resume)
    if bool(start.config.get("captions")) != bool(flags.captions):
        reads = "reads prompts; give" if start.config.get("captions") else "reads no prompts; leave out"
        raise UnveilError(f"{config.start_from} {reads} `captions`")
    if not flags.captions:
        return None, {"context": 0, "pooled": 0}
    has = caption_flags(start.config)
    for field in fields(CaptionFlags):
        name, usual, value = field.name, field.default, getattr(flags, field.name)
        if name != "captions" and value not in (usual, getattr(has, name)):
            raise ValueError(
                f"`{name}` {value}: the text encoder is that of {config.start_from}; leave `{name}` out"
            )
    text = text_of(start.config, start.folder)
    places = [place / FILE for place in (start.folder, start.folder.parent) if (place / FILE).is_file()]
    if start.folder != run and (has.learned or has.encoder == "clip"):
        check_output(run / FILE)
        run.mkdir(parents=True, exist_ok=True)
        with replacing(run / FILE) as partial:
            partial.write_bytes(places[0].read_bytes())
    kept = {name: value for name, value in vars(has).items() if name != "captions"}
    return text, kept | {name: start.config[name] for name in WORDED if name in start.config}


def taken_over(
    config: TrainImage, described: JsonObject, before: JsonObject | None, opened: Opened
) -> JsonObject:
    """The description of a run that starts with the weights of `--start-from`: it takes over their network
    and diffusion.

    Args:
        before: description of the run that is resumed.
        opened: of `started`.
    Raises:
        UnveilError: no such weights, images of another size, or other classes.
        ValueError: a flag with another shape than the weights have.
    """
    from unveil.runs.checkpoints import lasting_name
    from unveil.runs.training import as_json

    has, start = opened.config, str(config.start_from)
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


def as_started(config: TrainImage, start: Opened | None) -> TrainImage:
    """The config with the loss weights and the sides of the network of the model of text or of latents that
    the training starts from, where no flag chooses others; `taken_over` compares the flags."""
    has = {} if start is None else start.config
    if not (has.get("captions") or "autoencoder" in has):
        return config
    gamma = config.min_snr if config.min_snr is not None else float(has.get("min_snr") or 0.0)
    return changed(config, min_snr=gamma, stem=has["stem"], multiples=tuple(has["multiples"]))


def as_named(config: TrainImage, flags: TrainImage, before: JsonObject | None) -> TrainImage:
    """The resolved config with the method that a resumed run has in its config.json, unless a flag names one:
    that of colour images is "", whose parts alone would be called ddpm."""
    if before is None or flags.method or "method" not in before:
        return config
    return changed(config, method=str(before["method"]))


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
