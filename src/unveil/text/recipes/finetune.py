"""Training on from a model, or on instructions, or both: `unveil train text --checkpoint P --sft F.jsonl --lora-rank 8`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from unveil.runs.flags import flat

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from unveil.runs.progress import Progress
    from unveil.text.data.tokens import Tokens
    from unveil.text.model import TextModel, TextShape
    from unveil.text.recipes.config import TrainText


class Learned(NamedTuple):
    """What is learned from: batches of so many rows, their loss, and what `config.json` says of them."""

    draws: Callable[[int], Callable[[torch.Generator], Any]]
    loss: Callable[[TextModel, Any], tuple[Tensor, Mapping[str, float]]]
    described: dict[str, Any]


def tune_text(config: TrainText, progress: Progress) -> Path:
    """Fine-tune; returns the run folder. A LoRA run's checkpoints hold its matrices alone, and `adapter/` has them in PEFT's layout.

    Raises:
        UnveilError: the checkpoint, the instructions or the run folder cannot be used.
        ValueError: LoRA targets that the network does not have.
    """
    from dataclasses import asdict

    import torch

    from unveil.errors import UnveilError
    from unveil.network.lora import LoRA, add_lora
    from unveil.runs.training import Task, as_json, begin, run_task
    from unveil.text.data.tokens import FILE, digest, write_tokens
    from unveil.text.recipes.checks import check_text
    from unveil.text.recipes.config import TrainText
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
    base = None if config.checkpoint is None else _place(config.checkpoint)
    more = {
        "recipe": "text",
        **asdict(model.shape),
        "tokenizer": digest(model.tokens),
        "checkpoint": base,
        **learned.described,
    }
    described = as_json(flat(config) | more)
    check_text(config, described)
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
    run_task(task, config.run, device, config.run.folder, described, TrainText(), progress, on_save=on_save)
    return config.run.folder


def _started(config: TrainText) -> TextModel:
    """The model to go on from, on the CPU; LLaDA's in float32 if all of it is trained."""
    from unveil.files.places import found
    from unveil.text.data.documents import is_prepared, read_prepared
    from unveil.text.data.tokens import ByteTokens
    from unveil.text.model import TextModel
    from unveil.text.recipes.load import load_text_model, shape_of

    if config.checkpoint is not None:
        model = load_text_model(config.checkpoint, "cpu", dtype="bfloat16" if config.lora_rank else "float32")
        _check_shape(config, model.shape)
        return model
    folder = found(Path(config.data))
    tokens: Tokens = read_prepared(folder).tokens if is_prepared(folder) else ByteTokens()
    return TextModel(shape_of({**flat(config), "vocabulary": tokens.size}), tokens)


def _check_shape(config: TrainText, shape: TextShape) -> None:
    """Refuse flags that ask for another shape than the checkpoint's.

    Raises:
        ValueError: the flag, and what the checkpoint has.
    """
    from unveil.files.notes import note
    from unveil.text.recipes.config import TRAIN_PRESETS

    for name, has in vars(shape).items():
        asked = getattr(config, name, has)
        if asked not in (has, getattr(TRAIN_PRESETS[config.preset], name, has)):
            flag = f"--{name.replace('_', '-')}"
            raise ValueError(
                f"{flag} {asked}: the shape is that of {config.checkpoint}, which has {has}; leave {flag} out"
            )
    if others := {name: has for name, has in vars(shape).items() if getattr(config, name, has) != has}:
        said = ", ".join(f"{name} {has}" for name, has in others.items())
        note(f"the shape is that of {config.checkpoint}, not of --preset {config.preset}: {said}")


def _learned(config: TrainText, tokens: Tokens, shape: TextShape) -> Learned:
    from unveil.errors import UnveilError
    from unveil.files.places import found
    from unveil.text.data.documents import Pieces, is_prepared, pack, read_documents, split_documents
    from unveil.text.data.instructions import Examples, read_chats
    from unveil.text.finetuning import tuning_batches, tuning_loss
    from unveil.text.recipes.data import prepared_text
    from unveil.text.training import text_batches, text_loss

    def odd(count: int) -> int:
        """Antithetic times come in pairs, of batches that are only counted, too."""
        return count % 2 if config.times == "antithetic" and count < config.run.batch_size else 0

    if config.sft is not None:
        examples = Examples(
            read_chats(config.sft, config.prompt_field, config.response_field, config.encoding),
            tokens,
            shape.context,
        )
        described = {"chats": len(examples.chats), "left_out": examples.left_out}

        def tuned(count: int) -> Callable[[torch.Generator], Any]:
            return tuning_batches(examples, count + odd(count), config.form, config.times)

        return Learned(tuned, tuning_loss, described)
    if is_prepared(found(Path(config.data))):
        prepared = prepared_text(config.data, config.field, config.hold_out, config.encoding)
        if prepared.tokens.written() != tokens.written():
            raise UnveilError(
                f"{config.data} was prepared with another tokenizer than {config.checkpoint} has; give the text itself"
            )
        stream = prepared.train
    else:
        stream = pack(
            split_documents(read_documents(config.data, config.field, config.encoding), config.hold_out)[0],
            tokens,
        )
    pieces = Pieces(stream, shape.context, config.truncated)

    def draws(count: int) -> Callable[[torch.Generator], Any]:
        return text_batches(pieces, count + odd(count), config.form, config.times, block=shape.block)

    return Learned(draws, text_loss, {"tokens": len(stream)})


def _place(path_or_name: str) -> str:
    """A name of the zoo as it is, a path from the root: runs are used from other folders than they were made in."""
    from unveil.runs.checkpoints import zoo_names

    return path_or_name if path_or_name in zoo_names() else str(Path(path_or_name).resolve())
