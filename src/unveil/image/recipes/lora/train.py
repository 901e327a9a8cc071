"""`unveil train lora`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from unveil.image.adapters import Part
    from unveil.image.recipes.lora.config import TrainLora
    from unveil.image.training import ImageBatch
    from unveil.image.weights.lora_names import BaseLayers
    from unveil.network.lora import LowRank
    from unveil.runs.progress import Progress

KOHYA_FILE = "lora-kohya.safetensors"


def train_lora(config: TrainLora, progress: Progress) -> Path:
    """Train adapters of a model of text to image; returns the run folder."""
    from dataclasses import replace

    import torch

    from unveil.image.adapters import adapted_layers, add_adapters, updates
    from unveil.image.dreambooth import dreambooth_batches
    from unveil.image.networks.unet2d import UNet2d
    from unveil.image.recipes.lora.config import TrainLora
    from unveil.image.recipes.lora.prior import prior_pictures
    from unveil.image.recipes.tuned import adapter_shape
    from unveil.image.recipes.tuning import (
        LOWER,
        check_given,
        learned_from,
        open_base,
        random_data,
        read_pictures,
        sampler,
        tuned_task,
    )
    from unveil.image.training import image_batches
    from unveil.image.weights.lora_layers import layers_of
    from unveil.runs.device import enough_memory
    from unveil.runs.finetuning import refuse
    from unveil.runs.flags import flat
    from unveil.runs.training import as_json, begin, run_task

    run, rank = config.run.folder, config.rank
    refuse(config.run, "adapters are trained on a model; give that as `base`")
    check_given(config.model, config.pictures)
    device = begin(config.run, run)
    base = open_base(config.model, device)
    model = base.model
    described = as_json(flat(config) | base.described | {"alpha": config.alpha or float(rank)})
    layers = adapted_layers(model, adapter_shape(described))
    captions = "" if config.dreambooth else config.captions or "auto"
    images = read_pictures(config.pictures, captions, model, progress)
    size = images.pixels.shape[-1]
    if config.dreambooth:
        images = replace(images, captions=(config.dreambooth,) * len(images), drawings=None)
    assert images.captions is not None
    flip, drop = config.pictures.flip, config.model.label_drop
    with enough_memory(LOWER):
        data = random_data(model, images, run, flip, progress)
        prior = None
        if config.prior:
            seed, count = config.run.seed, config.prior_images
            shown = prior_pictures(base, config.prior, count, size, seed, run, progress)
            prior = random_data(model, shown, run, False, progress)
    described |= as_json({"recipe": "lora"} | learned_from(images, config.pictures))
    network, text = model.denoiser.network, model.text
    assert isinstance(network, UNet2d) and text is not None
    names = layers_of(network, text.network)
    torch.manual_seed(config.run.seed)  # initial matrices
    trained = add_adapters(model, layers)

    def draws(count: int) -> Callable[[torch.Generator], ImageBatch]:
        instance = image_batches(data, model.shape, count, drop)
        if prior is None:
            return instance
        return dreambooth_batches(
            instance, image_batches(prior, model.shape, count, drop), config.prior_weight
        )

    def on_save(step: int, averaged: dict[str, Tensor]) -> None:
        write_loras(run, names, updates(layers, averaged), described, step)

    task = tuned_task(model, trained, draws, config.run.batch_size, described["min_snr"])
    on_sample = sampler(base, trained, images.captions, size, run, progress)
    with enough_memory(LOWER):
        run_task(task, config.run, device, run, described, TrainLora(), progress, on_sample, on_save)
    return run


def write_loras(
    run: Path,
    names: BaseLayers,
    found: Mapping[Part, Mapping[str, LowRank]],
    described: Mapping[str, object],
    step: int,
) -> None:
    """Write adapters as files of kohya and of diffusers.

    Args:
        names: of the layers of the base.
        found: the updates by part and by our path of the layer.
        described: config.json of the run.
    Raises:
        UnveilError: a file cannot be written, or another program made it.
    """
    from unveil.image.weights.lora import LoraWeights
    from unveil.image.weights.lora_files import write_diffusers, write_kohya

    parts: dict[Part, dict[str, LowRank]] = {}
    for part, updates in found.items():
        theirs = {ours: name for name, ours in names.ours(part).items()}
        parts[part] = {theirs[path]: update for path, update in updates.items()}
    lora = LoraWeights(parts["unet"], parts["text_encoder"])
    notes = {
        "ss_steps": str(step),
        "ss_learning_rate": str(described["learning_rate"]),
        "ss_num_train_images": str(described["images"]),
        "ss_output_name": run.name,
    }
    if described["dreambooth"]:
        notes["modelspec.trigger_phrase"] = str(described["dreambooth"])
    write_kohya(run / KOHYA_FILE, lora, notes)
    write_diffusers(run, lora)


def after_training(config: TrainLora, run: Path) -> str:
    """The next command: samples of the first prompt of the training."""
    from shlex import quote

    from unveil.runs.config import stored_config

    prompt = quote(str(stored_config(run).get("example", config.dreambooth)))
    return f"unveil sample image --checkpoint {quote(str(run))} --prompt {prompt} -n 4"
