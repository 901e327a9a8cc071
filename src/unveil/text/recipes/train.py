"""`unveil train text`: a model from scratch; `finetune.py` continues from a checkpoint or on instructions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from unveil.runs.flags import flat
from unveil.text.recipes.checks import check_run_folder
from unveil.text.recipes.data import prepared_text

if TYPE_CHECKING:
    import torch

    from unveil.runs.progress import Progress
    from unveil.text.recipes.config import TrainText
    from unveil.text.training import TextBatch


def train_text(config: TrainText, progress: Progress) -> Path:
    """Train a `TextModel`; returns the run folder.

    Raises:
        UnveilError: the data or the run folder cannot be used.
        ValueError: `form` of a causal model.
    """
    import torch

    from unveil.runs.training import Task, as_json, begin, run_task
    from unveil.text.data.documents import Pieces
    from unveil.text.data.tokens import FILE, digest, write_tokens
    from unveil.text.model import TextModel
    from unveil.text.recipes.config import TRAIN_PRESETS, TrainText
    from unveil.text.recipes.previews import sampler
    from unveil.text.training import text_batches, text_loss
    from unveil.training.checkpoint import latest_checkpoint

    if config.shape.causal and config.form != TRAIN_PRESETS[config.preset].form:
        raise ValueError(
            f"`form={config.form}` is for masked models; the loss of a `causal` model is its exact "
            "likelihood: leave `form` out"
        )
    if config.sft is not None or config.checkpoint is not None:
        from unveil.text.recipes.finetune import tune_text

        return tune_text(config, progress)
    device = begin(config.run, config.run.folder)
    prepared = prepared_text(config.data, config.files, config.hold_out)
    tokens = prepared.tokens
    shape = replace(config.shape, vocabulary=tokens.size)
    pieces = Pieces(prepared.train, shape.context, config.truncated)
    more = {"recipe": "text", "tokenizer": digest(tokens), "tokens": len(prepared.train)}
    more |= {"prepared_by": prepared.command} if prepared.command else {}
    described = as_json(flat(config) | vars(shape) | more)
    torch.manual_seed(config.run.seed)  # initial weights
    model = TextModel(shape, tokens)

    def draws(count: int) -> Callable[[torch.Generator], TextBatch]:
        return text_batches(pieces, config.rows(count), config.form, config.times, block=shape.block)

    check_run_folder(config, described["tokenizer"])
    if latest_checkpoint(config.run.folder, warn=False) is None:
        write_tokens(tokens, config.run.folder / FILE)
    size = config.run.batch_size
    task = Task(
        model, draws(size), text_loss, {}, draws=draws, size=size, lower="--context, --width or --depth"
    )
    on_sample = sampler(model, model, config.run.folder, progress)
    run_task(task, config.run, device, config.run.folder, described, TrainText(), progress, on_sample)
    return config.run.folder


def after_training(config: TrainText, run: Path) -> str:
    """The next command: to talk to what was fine-tuned on instructions, else to write."""
    if config.sft is not None:
        return f"unveil chat --checkpoint {quote(str(run))}"
    return f"unveil sample text --checkpoint {quote(str(run))} --watch"
