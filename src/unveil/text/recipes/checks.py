"""Whether a run folder can take a text training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from shlex import quote
from typing import TYPE_CHECKING

from unveil.errors import UnveilError

if TYPE_CHECKING:
    from unveil.text.recipes.config import TrainText


def check_run_folder(config: TrainText, tokenizer: str) -> None:
    """Refuse a run folder that holds another program's tokenizer.json, and to resume a run with another
    tokenizer.

    Args:
        tokenizer: SHA-256 of the tokenizer of this training.
    Raises:
        UnveilError: names the file, or the command that continues from the trained weights.
    """
    from unveil.text.data.tokens import FILE

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
            "Give the old text to "
            f"resume, or train on from what was learned: unveil train text --checkpoint {quote(str(out))} "
            f"{source} "
            f"--out {quote(f'{out}-more')}"
        )
