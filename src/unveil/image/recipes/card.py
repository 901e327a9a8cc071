"""The card of packaged image models, with scores beside their references."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from unveil.files.json_objects import JsonObject
from unveil.runs.card import flag, flags_of, spent

TAEF2_FACTOR = 8
# the latter two of `unveil data emoji`, without and with some groups
EMOJI64 = ("emoji64.npz", "emoji-train.npz", "emoji-kinds-train.npz")
EMOJI = {  # who drew what a model of emoji64.npz learned from
    "fluent-emoji": "Fluent Emoji (Microsoft, MIT)",
    "fluent-emoji-flat": "Fluent Emoji (Microsoft, MIT)",
    "noto": "Noto Emoji (Google, Apache-2.0)",
    "noto-v1": "Noto Emoji (Google, Apache-2.0)",
    "twemoji": "Twemoji (Twitter and other contributors, CC-BY 4.0)",
}


SEEN = {
    "": "",
    "inpaint": ", which fills in masked parts of images",
    "lowres": ", which enlarges images with some noise",
    "map": ", which draws semantic maps",
}


def _network(described: JsonObject) -> str:
    """The network, in words."""
    if described.get("trunk") == "dit":
        return (
            f"a diffusion transformer (DiT) of width {described['width']}, {described['depth']} blocks and "
            f"{described['heads']} heads over patches of {described['stem']} x {described['stem']}"
        )
    return f"a U-Net of width {described['width']}"


def _factor(described: JsonObject) -> int:
    """Pixels of an image per number of its code, in each direction; 1 for models of pixels."""
    autoencoder = described.get("autoencoder")
    if not autoencoder:
        return 1
    if autoencoder["kind"] != "kl":
        return TAEF2_FACTOR
    return autoencoder["stem"] * 2 ** (len(autoencoder["multiples"]) - 1)


def drawn_by(data: str, styles: tuple[str, ...]) -> str:
    """The authors of the images of a data set, and their licence, for the data sets of the zoo."""
    if data == "fashion-mnist":
        return "photographs of Zalando SE, MIT licence"
    if data == "shapes.npz":
        return "drawn by `unveil data shapes`"
    if data not in EMOJI64:
        return "its licence is its own"
    return f"drawings of {', '.join(sorted({EMOJI[style] for style in styles or EMOJI}))}"


def trained_with(
    recipe: str, checkpoint: Path, described: JsonObject, flags: Mapping[str, object], without: str = ""
) -> list[str]:
    """How weights were trained, on what, and their licence.

    Args:
        flags: those that differ from the preset.
        without: what is not among the weights, after a comma.
    """
    minutes, loss = spent(checkpoint)
    changed, data = "".join(flag(key, value) for key, value in flags.items()), Path(described["data"]).name
    return [
        f"- `unveil train {recipe} --data {data} --preset {described['preset']}{changed} --seed "
        f"{described['seed']}`: {int(checkpoint.name.split('-')[1]):,} steps in {minutes:.0f} minutes "
        f"(--threads {described['threads']}); final loss {loss:.4f}; the weights are the EMA, in half "
        f"precision{without}.",
        f"- Data: `{data}`, {described['images']:,} images without those held out; "
        f"{drawn_by(data, tuple(described['styles']))}.",
        "- Licence of the weights: MIT, unveil contributors.",
    ]


def scores(recipe: str, name: str, data: str, results: Sequence[Path]) -> list[str]:
    """A table for each file of results, with the references beside."""
    lines: list[str] = []
    for file in results:
        result = json.loads(file.read_text())
        named = {"unveil": result["metrics"], **result.get("reference", {})}
        asked: JsonObject = result.get("config") or {}
        scored = Path(asked.get("data") or data).name
        scale = f" --scale {asked['scale']:g}" if asked.get("scale", 1.0) != 1.0 else ""
        n = result["metrics"]["n"]
        command = f"`unveil eval {recipe} --checkpoint {name} --data {scored} --n {n}{scale}`"
        lines += ["", f"## {result['protocol']}", "", command, ""]
        lines += [f"| metric | {' | '.join(named)} |", "|---" * (1 + len(named)) + "|"]
        for key in result["metrics"]:
            if key != "images_per_second":  # of a machine, not of the weights
                values = (metrics.get(key) for metrics in named.values())
                cells = ("-" if value is None else f"{value:.4g}" for value in values)
                lines.append(f"| {key} | {' | '.join(cells)} |")
    return lines


def image_card(name: str, checkpoint: Path, described: JsonObject, results: tuple[Path, ...]) -> str:
    """The card of an image model, with its scores beside their references."""
    from unveil.image.recipes.train_config import TRAIN_PRESETS, for_method, for_trunk, resolved

    trunk = str(described.get("trunk", "unet"))
    shape, preset = (described["channels"], described["size"]), TRAIN_PRESETS[described["preset"]]
    flags = flags_of(
        described | {"size": described["asked_size"]},
        {preset.preset: resolved(for_method(for_trunk(preset, trunk), described["method"]), *shape)},
    )
    if "beside" in flags:  # whose flag has another name
        flags["concat"] = flags.pop("beside")
    if trunk == "dit":
        flags = {"trunk": trunk, **flags}
    by_parts = described["method"] == "ddpm" and {"schedule", "predicts"} & set(flags)
    if described["method"] not in ("", resolved(preset, *shape).method) and not by_parts:
        flags = {"method": described["method"], **flags}
    target = described["predicts"]
    method = described["method"] or ("predicting them" if target == "x0" else f"predicting {target}")
    names, classes = described["names"], ""
    if names:
        classes = f", conditional on one of {len(names)} classes: {', '.join(names[:20])}"
    if described.get("captions"):
        classes += f", conditional on captions ({described['encoder']})"
    data, side = Path(described["data"]).name, described["size"] * _factor(described)
    codes = ""
    if side != described["size"]:
        codes = f", as codes of {described['size']} x {described['size']} x {described['channels']}"
    lines = [
        f"# {name}",
        "",
        f"A diffusion model of {side} x {side} images{codes}, by {method}: "
        f"{_network(described)}{classes}{SEEN[str(described.get('beside', ''))]}.",
        "",
        *trained_with("image", checkpoint, described, flags, ""),
        *scores("image", name, data, results),
    ]
    return "\n".join(lines) + "\n"
