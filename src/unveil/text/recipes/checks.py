"""Whether the flags of a text training fit together, and its run folder fits them."""

from __future__ import annotations

from collections.abc import Mapping
from shlex import quote
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unveil.text.recipes.config import TrainText


def check_text(config: TrainText, described: Mapping[str, Any]) -> None:
    """Refuse a run folder that holds another program's tokenizer.json, and to resume a run with another tokenizer than it began with.

    Raises:
        UnveilError: the file; or the command that trains on from what was learned.
    """
    import json
    from hashlib import sha256

    from unveil.errors import UnveilError
    from unveil.text.data.tokens import FILE

    out = config.run.folder
    try:
        before: Any = json.loads((out / "config.json").read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        before = None
    if not isinstance(before, dict) or "recipe" not in before:
        if (out / FILE).exists() and sha256((out / FILE).read_bytes()).hexdigest() != described["tokenizer"]:
            raise UnveilError(
                f"{out / FILE} exists and was not made by unveil, so it is not replaced; give another folder for the run"
            )
    elif config.run.resume and before.get("tokenizer", described["tokenizer"]) != described["tokenizer"]:
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
    from unveil.text.recipes.config import TRAIN_PRESETS, TrainText

    for name in ("width", "depth", "heads", "context"):
        if getattr(config, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(config, name)}")
    for name in ("kv_heads", "hidden", "block"):
        if getattr(config, name) < 0:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 0, got {getattr(config, name)}")
    for name in ("truncated", "hold_out"):
        if not 0.0 <= getattr(config, name) <= 1.0:
            raise ValueError(f"--{name.replace('_', '-')} must lie in 0 .. 1, got {getattr(config, name)}")
    if config.width % (2 * config.heads) or config.heads % (config.kv_heads or config.heads):
        raise ValueError(
            f"--width must be a multiple of twice --heads, and --heads of --kv-heads, got {config.width}, {config.heads} and "
            f"{config.kv_heads}"
        )
    if (
        config.lora_rank < 0
        or not config.lora_alpha > 0.0
        or (config.lora_rank and config.checkpoint is None)
    ):
        raise ValueError(
            "--lora-rank needs a --checkpoint to adapt, a rank of at least 1 and --lora-alpha above 0"
        )
    if config.times != TrainText().times and config.form != "t":
        raise ValueError(
            f"--times {config.times} is of --form t; the numbers of masks of --form l are always stratified"
        )
    if config.causal and config.form != TRAIN_PRESETS[config.preset].form:
        raise ValueError(
            f"--form {config.form} is of masked models; a --causal one has its exact likelihood for a loss: leave --form out"
        )
    if config.block and (config.causal or config.context % config.block):
        raise ValueError(
            f"--context must be a multiple of --block, and --causal has none, got {config.context}, {config.block} and {config.causal}"
        )
    if not config.theta > 0.0:
        raise ValueError(f"--theta must be above 0, got {config.theta}")
