"""The card of packaged text models, with their scores."""

from __future__ import annotations

import json
from pathlib import Path

from unveil.files.json_objects import JsonObject
from unveil.runs.card import flag, flags_of, spent
from unveil.text.recipes.config import TRAIN_PRESETS


def text_card(name: str, checkpoint: Path, described: JsonObject, results: tuple[Path, ...]) -> str:
    """The card of a text model, with its scores."""
    minutes, loss = spent(checkpoint)
    data = Path(described["data"]).name
    differing = flags_of(described, TRAIN_PRESETS)
    differing.pop("vocabulary", None)  # a flag of `unveil data text`
    changed = "".join(flag(name, value) for name, value in differing.items())
    lines = [
        f"# {name}",
        "",
        f"A masked diffusion model of text: a transformer of width {described['width']} and depth "
        f"{described['depth']}, {described['vocabulary']} tokens and a context of {described['context']}.",
        "",
        f"- `unveil train text --data {data} --preset {described['preset']}{changed} --seed "
        f"{described['seed']}`: {int(checkpoint.name.split('-')[1]):,} steps in {minutes:.0f} minutes "
        f"(--threads {described['threads']}); final loss {loss:.4f} nats per token; the weights are the EMA, "
        "in half precision.",
        f"- Data: `{described.get('prepared_by') or data}`, {described['tokens']:,} tokens without the "
        "held-out part; its licence is its own.",
        "- Licence of the weights: MIT, unveil contributors.",
    ]
    for file in results:
        result = json.loads(file.read_text())
        lines += [
            "",
            f"## {result['protocol']}",
            "",
            f"`unveil eval text --checkpoint {name} --data F --draws {result['config']['draws']}`",
            "",
            "| metric | unveil |",
            "|---|---|",
        ]
        lines += [f"| {key} | {value:.4g} |" for key, value in result["metrics"].items() if value is not None]
    return "\n".join(lines) + "\n"
