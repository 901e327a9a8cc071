"""Training on text: `unveil data text` and `unveil train text`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from unveil.runs.flags import flat
from unveil.text.recipes.checks import check, check_text
from unveil.text.recipes.data import prepared_text
from unveil.text.recipes.load import shape_of

if TYPE_CHECKING:
    import torch

    from unveil.runs.progress import Progress
    from unveil.text.recipes.config import TrainText


def train_text(config: TrainText, progress: Progress) -> Path:
    """Train a `TextModel`; returns the run folder."""

    import torch

    from unveil.runs.training import Task, as_json, begin, run_task
    from unveil.text.data.documents import Pieces
    from unveil.text.data.tokens import FILE, digest, write_tokens
    from unveil.text.model import TextModel
    from unveil.text.recipes.config import TrainText
    from unveil.text.training import text_batches, text_loss
    from unveil.training.checkpoint import latest_checkpoint

    check(config)
    if config.sft is not None or config.checkpoint is not None:
        from unveil.text.recipes.finetune import tune_text

        return tune_text(config, progress)
    device = begin(config.run, config.run.folder)
    prepared = prepared_text(config.data, config.field, config.hold_out, config.encoding)
    pieces = Pieces(prepared.train, config.context, config.truncated)
    more = {
        "recipe": "text",
        "vocabulary": prepared.tokens.size,
        "tokenizer": digest(prepared.tokens),
        "tokens": len(prepared.train),
    }
    more |= {"prepared_by": prepared.command} if prepared.command else {}
    described = as_json(flat(config) | more)
    torch.manual_seed(config.run.seed)  # initial weights
    model = TextModel(shape_of(described), prepared.tokens)

    def draws(count: int) -> Callable[[torch.Generator], Any]:
        odd = (
            count % 2 if config.times == "antithetic" and count < config.run.batch_size else 0
        )  # of those that are only counted
        return text_batches(pieces, count + odd, config.form, config.times, block=config.block)

    check_text(config, described)
    if latest_checkpoint(config.run.folder, warn=False) is None:
        write_tokens(prepared.tokens, config.run.folder / FILE)
    size = config.run.batch_size
    task = Task(
        model, draws(size), text_loss, {}, draws=draws, size=size, lower="--context, --width or --depth"
    )
    run_task(task, config.run, device, config.run.folder, described, TrainText(), progress)
    return config.run.folder


def after_training(config: TrainText, run: Path) -> str:
    """The next command: to talk to what was fine-tuned on instructions, else to write."""
    if config.sft is not None:
        return f"unveil chat --checkpoint {quote(str(run))}"
    return f"unveil sample text --checkpoint {quote(str(run))} --watch"
