"""`unveil train text`: a model from scratch, or from a checkpoint, on text or on instructions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from shlex import quote
from typing import NamedTuple

import torch
from torch import Tensor, nn

from unveil.errors import UnveilError
from unveil.files.notes import note
from unveil.network.lora import LoRA, add_lora
from unveil.runs.checkpoints import lasting_name
from unveil.runs.flags import flat
from unveil.runs.progress import Progress
from unveil.runs.training import Task, as_json, begin, run_task
from unveil.text.data.documents import Pieces, Prepared, prepared_folder, read_prepared
from unveil.text.data.instructions import Examples, read_chats
from unveil.text.data.tokens import FILE, ByteTokens, digest, write_tokens
from unveil.text.finetuning import tuning_batches
from unveil.text.model import TextModel
from unveil.text.recipes.config import TRAIN_PRESETS, TrainText
from unveil.text.recipes.data import prepared_text, stream_for
from unveil.text.recipes.load import load_text_model
from unveil.text.recipes.previews import COUNT, sampler
from unveil.text.shape import TextShape
from unveil.text.training import TextBatch, text_batches, text_loss
from unveil.text.weights.peft import write_adapter
from unveil.training.checkpoint import latest_checkpoint


class Learned(NamedTuple):
    """What is trained on.

    Args:
        draws: number of rows -> a source of random batches.
        described: what `config.json` says about the data.
        prompts: token ids that samples during the training begin with.
    """

    draws: Callable[[int], Callable[[torch.Generator], TextBatch]]
    described: dict[str, object]
    prompts: Sequence[Sequence[int]] = ()


def train_text(config: TrainText, progress: Progress) -> Path:
    """Train a `TextModel`; returns the run folder. A LoRA run's checkpoints hold its matrices alone, and
    `adapter/` has them in PEFT's layout.

    Raises:
        UnveilError: the checkpoint, the data or the run folder cannot be used.
        ValueError: LoRA targets that the network does not have, or `form` of a causal model.
    """
    if config.run.source:
        config = replace(config, checkpoint=config.run.source)
    if config.shape.causal and config.form != TRAIN_PRESETS[config.preset].form:
        raise ValueError(
            f"`form={config.form}` is for masked models; the loss of a `causal` model is its exact "
            "likelihood: leave `form` out"
        )
    run, size = config.run.folder, config.run.batch_size
    device = begin(config.run, run)
    prepared = None
    if config.checkpoint is None and config.sft is None:
        prepared = prepared_text(config.data, config.files, config.hold_out)
    torch.manual_seed(config.run.seed)  # initial weights
    model = _started(config, prepared)
    learned = _learned(config, model, prepared)
    if left_out := learned.described.get("left_out", 0):
        longer = f"conversations that are longer than the context of {model.shape.context}"
        progress(f"left out {left_out} {longer}", 1, 1, {})
    more = {"recipe": "text", "tokenizer": digest(model.tokens)} | learned.described
    if config.checkpoint is not None:
        more["checkpoint"] = lasting_name(config.checkpoint)
    described = as_json(flat(config) | vars(model.shape) | more)
    _check_run_folder(config, described["tokenizer"])
    lora = LoRA(config.lora_rank, config.lora_alpha, config.lora_targets) if config.lora_rank else None
    trained = model if lora is None else add_lora(model.to(device).denoiser.network, lora)

    def loss(_: nn.Module, batch: TextBatch) -> tuple[Tensor, Mapping[str, float]]:
        return text_loss(model, batch)

    def on_save(step: int, averaged: dict[str, Tensor]) -> None:
        if lora is not None:
            write_adapter(run / "adapter", lora, averaged, described["checkpoint"])

    if latest_checkpoint(run, warn=False) is None:
        write_tokens(model.tokens, run / FILE)
    smaller = (
        "`context`, `width` or `depth`" if config.checkpoint is None else "what is trained, by `lora_rank`"
    )
    task = Task(
        trained,
        learned.draws(size),
        loss,
        {},
        draws=learned.draws,
        size=size,
        counted=(model, text_loss),
        lower=smaller,
    )
    on_sample = sampler(model, trained, run, progress, learned.prompts)
    run_task(task, config.run, device, run, described, TrainText(), progress, on_sample, on_save)
    return run


def after_training(config: TrainText, run: Path) -> str:
    """The next command: to chat with a model that was fine-tuned on instructions, else to write."""
    if config.sft is not None:
        return f"unveil chat --checkpoint {quote(str(run))}"
    return f"unveil sample text --checkpoint {quote(str(run))} --watch"


def _started(config: TrainText, prepared: Prepared | None) -> TextModel:
    """The model to train, on the CPU; LLaDA's weights are in float32 if all of them are trained."""
    if config.checkpoint is not None:
        model = load_text_model(config.checkpoint, "cpu", dtype="bfloat16" if config.lora_rank else "float32")
        _check_shape(config, model.shape)
    else:
        folder = prepared_folder(config.data)
        prepared = prepared or (None if folder is None else read_prepared(folder))
        tokens = ByteTokens() if prepared is None else prepared.tokens
        model = TextModel(replace(config.shape, vocabulary=tokens.size), tokens)
    if config.sft is not None and model.window:
        raise UnveilError("instructions are for masked models; this one is causal or of blocks")
    return model


def _check_shape(config: TrainText, shape: TextShape) -> None:
    """Refuse settings that ask for another shape than the checkpoint's.

    Raises:
        ValueError: names the setting, and the checkpoint's value.
    """
    wanted, preset = vars(config.shape), vars(TRAIN_PRESETS[config.preset].shape)
    others = {name: has for name, has in vars(shape).items() if wanted[name] != has and name != "vocabulary"}
    for name, has in others.items():
        if wanted[name] != preset[name]:
            raise ValueError(
                f"`{name}={wanted[name]}`: the shape is that of {config.checkpoint}, which has {has}; leave "
                f"`{name}` out"
            )
    if others:
        said = ", ".join(f"{name} {has}" for name, has in others.items())
        note(f"the shape is that of {config.checkpoint}, not of --preset {config.preset}: {said}")


def _learned(config: TrainText, model: TextModel, prepared: Prepared | None) -> Learned:
    """The instructions, or the text, to train on.

    Raises:
        UnveilError: they cannot be read, or were prepared with another tokenizer.
    """
    shape, tokens = model.shape, model.tokens
    if config.sft is not None:
        chats = read_chats(config.sft, config.prompt_field, config.response_field, config.files.encoding)
        examples = Examples(chats, tokens, shape.context)
        described: dict[str, object] = {"chats": len(examples.chats), "left_out": examples.left_out}

        def tuned(count: int) -> Callable[[torch.Generator], TextBatch]:
            return tuning_batches(examples, config.rows(count), config.form, config.times)

        prompts = [chat[0].prompt.tolist() for chat in examples.chats[:COUNT]]
        return Learned(tuned, described, prompts)
    stream = prepared.train if prepared else stream_for(tokens, config.data, config.files, config.hold_out)
    pieces = Pieces(stream, shape.context, config.truncated)
    made = {"prepared_by": prepared.command} if prepared and prepared.command else {}

    def draws(count: int) -> Callable[[torch.Generator], TextBatch]:
        return text_batches(pieces, config.rows(count), config.form, config.times, block=shape.block)

    return Learned(draws, {"tokens": len(stream), **made})


def _check_run_folder(config: TrainText, tokenizer: str) -> None:
    """Refuse a run folder that holds another program's tokenizer.json, and to resume a run with another
    tokenizer.

    Args:
        tokenizer: SHA-256 of the tokenizer of this training.
    Raises:
        UnveilError: names the file, or the command that continues from the trained weights.
    """
    out = config.run.folder
    try:
        before: object = json.loads((out / "config.json").read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        before = None
    if not isinstance(before, Mapping) or "recipe" not in before:
        if (out / FILE).exists() and sha256((out / FILE).read_bytes()).hexdigest() != tokenizer:
            raise UnveilError(
                f"{out / FILE} exists and was not made by unveil, so it is not replaced; give another folder "
                "for the run"
            )
    elif config.run.resume and before.get("tokenizer", tokenizer) != tokenizer:
        source = f"--sft {quote(config.sft)}" if config.sft else f"--data {quote(config.data)}"
        raise UnveilError(
            f"{out} was started on other text: the tokenizer is not that of {config.sft or config.data} now. "
            "Give the old text to resume, or train on from what was learned: unveil train text --checkpoint "
            f"{quote(str(out))} {source} --out {quote(f'{out}-more')}"
        )
