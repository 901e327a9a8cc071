"""The card of packaged autoencoders, with scores beside their references."""

from __future__ import annotations

import json
from pathlib import Path

from unveil.files.json_objects import JsonObject
from unveil.image.recipes.card import drawn_by
from unveil.runs.card import flag, flags_of, spent


def autoencoder_card(name: str, checkpoint: Path, described: JsonObject, results: tuple[Path, ...]) -> str:
    """The card of an autoencoder, with its scores beside their references."""
    from unveil.image.recipes.autoencoder.config import TRAIN_PRESETS
    from unveil.image.recipes.autoencoder.load import shape_of

    minutes, loss = spent(checkpoint)
    flags = flags_of(described | {"size": described["asked_size"]}, TRAIN_PRESETS)
    changed = "".join(flag(key, value) for key, value in flags.items())
    data, size = Path(described["data"]).name, described["size"]
    side = size // shape_of(described).factor
    lines = [
        f"# {name}",
        "",
        f"An autoencoder of {size} x {size} images with {described['channels']} channels, whose codes are "
        f"{side} x {side} x {described['latent']}: convolutions of width {described['width']}.",
        "",
        f"- `unveil train autoencoder --data {data} --preset {described['preset']}{changed} --seed "
        f"{described['seed']}`: {int(checkpoint.name.split('-')[1]):,} steps in {minutes:.0f} minutes "
        f"(--threads {described['threads']}); final loss {loss:.4f}; the weights are the EMA, in half "
        "precision, without the discriminator.",
        f"- Data: `{data}`, {described['images']:,} images without those held out; "
        f"{drawn_by(data, tuple(described['styles']))}.",
        "- Licence of the weights: MIT, unveil contributors.",
    ]
    for file in results:
        result = json.loads(file.read_text())
        named = {"unveil": result["metrics"], **result.get("reference", {})}
        command = f"`unveil eval autoencoder --checkpoint {name} --data {data} --n {result['metrics']['n']}`"
        lines += ["", f"## {result['protocol']}", "", command, ""]
        lines += [f"| metric | {' | '.join(named)} |", "|---" * (1 + len(named)) + "|"]
        for key in result["metrics"]:
            if key != "images_per_second":  # of a machine, not of the weights
                values = (metrics.get(key) for metrics in named.values())
                cells = ("-" if value is None else f"{value:.4g}" for value in values)
                lines.append(f"| {key} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
