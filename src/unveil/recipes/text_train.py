"""Training on text: `unveil data text` and `unveil train text`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from unveil.recipes.flags import training_of
from unveil.recipes.text_data import prepared_text
from unveil.recipes.text_load import shape_of

if TYPE_CHECKING:
    import torch

    from unveil.recipes.progress import Progress
    from unveil.recipes.text import TrainText


def train_text(config: TrainText, progress: Progress) -> Path:
    """Train a `TextModel`; returns the run folder."""
    from dataclasses import asdict

    import torch

    from unveil.apps.text_model import TextModel
    from unveil.apps.text_training import text_batches, text_loss
    from unveil.data.text import Pieces
    from unveil.data.tokens import FILE, digest, write_tokens
    from unveil.recipes.device import find_device
    from unveil.recipes.resuming import check_folder
    from unveil.recipes.run import Task, as_json, run_task
    from unveil.recipes.text import TrainText
    from unveil.training.checkpoint import latest_checkpoint

    check(config)
    if config.sft is not None or config.checkpoint is not None:
        from unveil.recipes.text_tune import tune_text

        return tune_text(config, progress)
    check_folder(config.out, config.resume)
    device = find_device(config.device)
    if config.threads:
        torch.set_num_threads(config.threads)
    prepared = prepared_text(config.data, config.field, config.hold_out, config.encoding)
    pieces = Pieces(prepared.train, config.context, config.truncated)
    more = {"recipe": "text", "vocabulary": prepared.tokens.size, "tokenizer": digest(prepared.tokens), "tokens": len(prepared.train)}
    more |= {"prepared_by": prepared.command} if prepared.command else {}
    described = as_json(asdict(config) | more)
    torch.manual_seed(config.seed)  # initial weights
    model = TextModel(shape_of(described), prepared.tokens)

    def draws(count: int) -> Callable[[torch.Generator], Any]:
        odd = count % 2 if config.times == "antithetic" and count < config.batch_size else 0  # of those that are only counted
        return text_batches(pieces, count + odd, config.form, config.times, block=config.block)

    check_text(config, described)
    if latest_checkpoint(config.out, warn=False) is None:
        write_tokens(prepared.tokens, config.out / FILE)
    size = config.batch_size
    task = Task(model, draws(size), text_loss, {}, {}, draws=draws, size=size, lower="--context, --width or --depth")
    run_task(task, training_of(config), device, config.out, described, TrainText(), progress, resume=config.resume, log=config.log)
    return config.out


def check_text(config: TrainText, described: Mapping[str, Any]) -> None:
    """Refuse a run folder that holds another program's tokenizer.json, and to resume a run with another tokenizer than it began with.

    Raises:
        UnveilError: the file; or the command that trains on from what was learned.
    """
    import json
    from hashlib import sha256

    from unveil.data.tokens import FILE
    from unveil.errors import UnveilError

    out = config.out
    try:
        before: Any = json.loads((out / "config.json").read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        before = None
    if not isinstance(before, dict) or "recipe" not in before:
        if (out / FILE).exists() and sha256((out / FILE).read_bytes()).hexdigest() != described["tokenizer"]:
            raise UnveilError(f"{out / FILE} exists and was not made by unveil, so it is not replaced; give another folder for the run")
    elif config.resume and before.get("tokenizer", described["tokenizer"]) != described["tokenizer"]:
        source = f"--sft {quote(config.sft)}" if config.sft else f"--data {quote(config.data)}"
        raise UnveilError(
            f"{out} was started on other text: the tokenizer is not that of {config.sft or config.data} now. Give the old text to resume, "
            f"or train on from what was learned: unveil train text --checkpoint {quote(str(out))} {source} --out {quote(f'{out}-more')}"
        )


def check(config: TrainText) -> None:
    """Refuse impossible numbers.

    Raises:
        ValueError: the field, what was got and what is needed.
    """
    from unveil.recipes.sinks import needed
    from unveil.recipes.text import TRAIN_PRESETS, TrainText

    if config.log != "none":
        needed(config.log)
    for name in ("width", "depth", "heads", "context", "steps", "batch_size", "accumulate", "save_every"):
        if getattr(config, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(config, name)}")
    for name in ("kv_heads", "hidden", "warmup", "keep", "threads", "weight_decay", "block"):
        if getattr(config, name) < 0:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 0, got {getattr(config, name)}")
    for name in ("truncated", "hold_out", "final_fraction"):
        if not 0.0 <= getattr(config, name) <= 1.0:
            raise ValueError(f"--{name.replace('_', '-')} must lie in 0 .. 1, got {getattr(config, name)}")
    if config.width % (2 * config.heads) or config.heads % (config.kv_heads or config.heads):
        raise ValueError(
            f"--width must be a multiple of twice --heads, and --heads of --kv-heads, got {config.width}, {config.heads} and "
            f"{config.kv_heads}"
        )
    if config.lora_rank < 0 or not config.lora_alpha > 0.0 or (config.lora_rank and config.checkpoint is None):
        raise ValueError("--lora-rank needs a --checkpoint to adapt, a rank of at least 1 and --lora-alpha above 0")
    if config.times != TrainText().times and config.form != "t":
        raise ValueError(f"--times {config.times} is of --form t; the numbers of masks of --form l are always stratified")
    if config.causal and config.form != TRAIN_PRESETS[config.preset].form:
        raise ValueError(f"--form {config.form} is of masked models; a --causal one has its exact likelihood for a loss: leave --form out")
    if config.block and (config.causal or config.context % config.block):
        raise ValueError(
            f"--context must be a multiple of --block, and --causal has none, got {config.context}, {config.block} and {config.causal}"
        )
    if not config.learning_rate > 0.0 or not config.theta > 0.0:
        raise ValueError(f"--learning-rate and --theta must be above 0, got {config.learning_rate} and {config.theta}")
