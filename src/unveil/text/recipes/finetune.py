"""`unveil train text --checkpoint P --sft F.jsonl --lora-rank 8`: continue from a model, train on
instructions, or both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from unveil.runs.flags import flat

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from unveil.runs.progress import Progress
    from unveil.text.data.tokens import Tokens
    from unveil.text.finetuning import TuningBatch
    from unveil.text.model import TextModel, TextShape
    from unveil.text.recipes.config import TrainText
    from unveil.text.training import TextBatch


class Learned(NamedTuple):
    """What is trained on.

    Args:
        draws: number of rows -> a source of random batches.
        loss: model and batch -> the mean loss, and further numbers to log.
        described: what `config.json` says about the data.
        prompts: token ids that samples on the way begin with.
    """

    draws: Callable[[int], Callable[[torch.Generator], Any]]
    loss: Callable[[TextModel, Any], tuple[Tensor, Mapping[str, float]]]
    described: dict[str, Any]
    prompts: Sequence[Sequence[int]] = ()


def tune_text(config: TrainText, progress: Progress) -> Path:
    """Fine-tune; returns the run folder. A LoRA run's checkpoints hold its matrices alone, and `adapter/` has
    them in PEFT's layout.

    Raises:
        UnveilError: the checkpoint, the instructions or the run folder cannot be used.
        ValueError: LoRA targets that the network does not have.
    """
    import torch

    from unveil.errors import UnveilError
    from unveil.network.lora import LoRA, add_lora
    from unveil.runs.training import Task, as_json, begin, run_task
    from unveil.text.data.tokens import FILE, digest, write_tokens
    from unveil.text.recipes.checks import check_run_folder
    from unveil.text.recipes.config import TrainText
    from unveil.text.recipes.previews import sampler
    from unveil.text.weights.peft import write_adapter
    from unveil.training.checkpoint import latest_checkpoint

    device = begin(config.run, config.run.folder)
    torch.manual_seed(config.run.seed)  # initial weights
    model = _started(config)
    if config.sft is not None and model.window:
        raise UnveilError("instructions are for masked models; this one is causal or of blocks")
    learned = _learned(config, model.tokens, model.shape)
    if left_out := learned.described.get("left_out", 0):
        progress(
            f"left out {left_out} conversations that are longer than the context of {model.shape.context}",
            1,
            1,
            {},
        )
    base = None if config.checkpoint is None else _absolute(config.checkpoint)
    more = {"recipe": "text", "checkpoint": base, "tokenizer": digest(model.tokens), **learned.described}
    described = as_json(flat(config) | vars(model.shape) | more)
    check_run_folder(config, described["tokenizer"])
    lora = LoRA(config.lora_rank, config.lora_alpha, config.lora_targets) if config.lora_rank else None
    trained: nn.Module = model
    if lora is not None:
        trained = add_lora(model.to(device).denoiser.network, lora)

    def loss(_: nn.Module, batch: Any) -> tuple[Tensor, Mapping[str, float]]:
        return learned.loss(model, batch)

    def on_save(step: int, averaged: dict[str, Tensor]) -> None:
        if lora is not None:
            write_adapter(config.run.folder / "adapter", lora, averaged, base or "")

    if latest_checkpoint(config.run.folder) is None:
        write_tokens(model.tokens, config.run.folder / FILE)
    draws, size, lower = (
        learned.draws,
        config.run.batch_size,
        "--context, --width or --depth" if base is None else "what is trained, by --lora-rank",
    )
    task = Task(
        trained, draws(size), loss, {}, draws=draws, size=size, counted=(model, learned.loss), lower=lower
    )
    on_sample = sampler(model, trained, config.run.folder, progress, learned.prompts)
    run_task(
        task, config.run, device, config.run.folder, described, TrainText(), progress, on_sample, on_save
    )
    return config.run.folder


def _started(config: TrainText) -> TextModel:
    """The model to continue from, on the CPU; LLaDA's weights in float32 if all of them are trained."""
    from unveil.files.places import found
    from unveil.text.data.documents import is_prepared, read_prepared
    from unveil.text.data.tokens import ByteTokens
    from unveil.text.model import TextModel
    from unveil.text.recipes.load import load_text_model

    if config.checkpoint is not None:
        model = load_text_model(config.checkpoint, "cpu", dtype="bfloat16" if config.lora_rank else "float32")
        _check_shape(config, model.shape)
        return model
    folder = found(Path(config.data))
    tokens: Tokens = read_prepared(folder).tokens if is_prepared(folder) else ByteTokens()
    return TextModel(replace(config.shape, vocabulary=tokens.size), tokens)


def _check_shape(config: TrainText, shape: TextShape) -> None:
    """Refuse settings that ask for another shape than the checkpoint's.

    Raises:
        ValueError: names the setting, and the checkpoint's value.
    """
    from unveil.files.notes import note
    from unveil.text.recipes.config import TRAIN_PRESETS

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


def _learned(config: TrainText, tokens: Tokens, shape: TextShape) -> Learned:
    """The instructions, or the text, to train on.

    Raises:
        UnveilError: they cannot be read, or were prepared with another tokenizer.
    """
    from unveil.text.data.documents import Pieces
    from unveil.text.data.instructions import Examples, read_chats
    from unveil.text.finetuning import tuning_batches, tuning_loss
    from unveil.text.recipes.data import stream_for
    from unveil.text.recipes.previews import COUNT
    from unveil.text.training import text_batches, text_loss

    if config.sft is not None:
        chats = read_chats(config.sft, config.prompt_field, config.response_field, config.files.encoding)
        examples = Examples(chats, tokens, shape.context)
        described = {"chats": len(examples.chats), "left_out": examples.left_out}

        def tuned(count: int) -> Callable[[torch.Generator], TuningBatch]:
            return tuning_batches(examples, config.rows(count), config.form, config.times)

        prompts = [chat[0].prompt.tolist() for chat in examples.chats[:COUNT]]
        return Learned(tuned, tuning_loss, described, prompts)
    stream = stream_for(tokens, config.data, config.files, config.hold_out)
    pieces = Pieces(stream, shape.context, config.truncated)

    def draws(count: int) -> Callable[[torch.Generator], TextBatch]:
        return text_batches(pieces, config.rows(count), config.form, config.times, block=shape.block)

    return Learned(draws, text_loss, {"tokens": len(stream)})


def _absolute(path_or_name: str) -> str:
    """A zoo name unchanged, a path made absolute: runs are used from other folders than they were made in."""
    from unveil.runs.checkpoints import zoo_names

    return path_or_name if path_or_name in zoo_names() else str(Path(path_or_name).resolve())
