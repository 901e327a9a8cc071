"""Write the tables of docs/applications/text-to-image.md from `benchmarks/results/latent.json` and `unet-step.json`.

Each table has a mark of its own on the page: latent, autoencoders, shapes, emoji, lora, unet-step.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from result_tables import Rows, cell, replaced, table

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "applications" / "text-to-image.md"
SEEDS = ("", "-s1")
SCALES = ("1", "2", "3", "4", "6", "8")
MODELS = {
    "pixel": "pixels",
    "taef2": "codes of TAEF2, 8 x 8 x 32",
    "own": "codes of our autoencoder, 16 x 16 x 4",
}
BOUNDS = {
    "train": "other training pictures",
    "held-out": "held-out pictures",
    "gaussian": "Gaussian pixels",
    "through-taef2": "other training pictures, encoded and decoded by TAEF2",
    "through-own": "the same, by our autoencoder",
}
LOSSES = {"pixels": "L1", "perceptual": "L1, perceptual", "full": "L1, perceptual, adversarial"}
ENCODERS = {
    "words": "learned words",
    "minilm": "MiniLM, frozen",
    "random": "the same network, random and frozen",
}
TRAINED = {f"shapes-{name}": said for name, said in ENCODERS.items()} | {
    "shapes-drop0": "learned words, no caption dropped",
    "shapes-drop0.2": "learned words, 20 % of captions dropped",
}
CELLS = {
    "one_seen_colour": "colour",
    "one_seen_shape": "shape",
    "one_seen_size": "size",
    "one_seen_place": "place",
    "one_seen_all": "all",
    "one_held_all": "all, held-out pair",
}
TWO = {
    "two_seen_relation": "relation",
    "two_seen_binding": "binding",
    "two_held_binding": "binding, held-out pairs",
    "two_seen_all": "all",
    "two_held_all": "all, held-out pairs",
}
USUAL = ("2", "3")
KINDS = {"seen": "seen captions", "pairs": "held-out pairs", "unseen": "unseen concepts"}
JUDGED = {"recall_at_1": "concept, R@1", "recall_at_5": "R@5", "style_hit_rate": "style"}
UNITS = {"frechet_distance": (1e3, 2), "kernel_distance": (1e6, 3)}
"""Unit and digits of distances of SqueezeNet's features, whose numbers are large."""
HEADS = ["Fréchet distance, thousands", "kernel distance, millions"]
METHODS = {
    "lora-base": "base, not tuned",
    "lora-1": "LoRA, rank 1",
    "lora-4": "LoRA, rank 4",
    "lora-16": "LoRA, rank 16",
    "lora-full": "all weights",
    "lora-inversion": "textual inversion",
}


def share(rows: Rows, row: str, name: str, seeds: Sequence[str] = SEEDS) -> str:
    """A fraction with Wilson's interval, of one seed after the other, as `cell`."""
    parts: list[str] = []
    for seed in seeds:
        found = rows.get(row + seed)
        if found is None or name not in found:
            parts.append("not run")
        else:
            low, high = (f"{found[f'{name}_{end}']:.2f}" for end in ("low", "high"))
            parts.append(f"{found[name]:.2f} ({low} to {high})")
    return "<br>".join(part for part in parts if part != "not run") or "not run"


def distance(rows: Rows, row: str, name: str, seeds: Sequence[str] = SEEDS) -> str:
    """A distance of SqueezeNet's features with its interval, in the unit of `UNITS`."""
    unit, digits = next(it for ending, it in UNITS.items() if name.endswith(ending))
    kept = {
        place: {key: value / unit for key, value in found.items() if key in (name, f"{name}_ci95")}
        for place in (row + seed for seed in seeds)
        if (found := rows.get(place)) is not None
    }
    return cell(kept, row, name, digits, seeds)


def number(
    rows: Rows, row: str, name: str, form: str, seeds: Sequence[str] = SEEDS, unit: float = 1.0
) -> str:
    """A number without an interval, of the first seed that is there."""
    for seed in seeds:
        value = rows.get(row + seed, {}).get(name)
        if value is not None:
            return format(value / unit, form)
    return "not run"


def diffusion(rows: Rows) -> list[str]:
    """Table (a)."""
    body: list[list[str]] = []
    for name, said in MODELS.items():
        row = f"diffusion-{name}"
        body.append(
            [
                said,
                number(rows, row, "parameters", ".1f", unit=1e6),
                number(rows, row, "training_core_minutes", ".0f"),
                number(rows, row, "autoencoder_core_minutes", ".0f") if name.startswith("own") else "-",
                number(rows, row, "training_images", ",.0f"),
                number(rows, row, "images_per_core_second", ".1f"),
                *(distance(rows, row, name) for name in UNITS),
                number(rows, row, "recall", ".2f"),
            ]
        )
    for name, said in BOUNDS.items():
        row = f"diffusion-real-{name}"
        body.append(
            [
                f"*{said}*",
                *["-"] * 5,
                *(distance(rows, row, name, ("",)) for name in UNITS),
                number(rows, row, "recall", ".2f", ("",)),
            ]
        )
    heads = ["trained on", "parameters, M", "training, minutes", "autoencoder, minutes", "images in training"]
    heads += ["images/s", *HEADS, "recall"]
    return table(heads, body)


def autoencoders(rows: Rows) -> list[str]:
    """Table (b)."""
    scores = (("psnr", 2), ("feature_distance", 3))

    def line(row: str, said: Sequence[str], seeds: Sequence[str] = SEEDS) -> list[str]:
        spent = number(rows, row, "training_core_minutes", ".0f", seeds) if len(seeds) > 1 else "-"
        each = [cell(rows, row, name, digits, seeds) for name, digits in scores]
        return [*said, spent, *each, *(distance(rows, row, name, seeds) for name in UNITS)]

    body: list[list[str]] = []
    for shape in ("f4-z4", "f4-z16", "f8-z4", "f8-z16"):
        factor, latent = shape[1], shape.split("z")[1]
        kinds = LOSSES if shape == "f4-z4" else ("full",)
        body += [line(f"autoencoder-{shape}-{kind}", [factor, latent, LOSSES[kind]]) for kind in kinds]
    body.append(line("autoencoder-taef2", ["8", "32", "TAEF2, as published"], ("",)))
    for factor in ("4", "8"):
        body.append(line(f"autoencoder-shrunk-{factor}", [factor, "3", "*shrunk and enlarged*"], ("",)))
    heads = ["factor", "channels", "loss", "training, minutes", "PSNR, dB", "feature distance"]
    return table([*heads, *HEADS], body)


def shapes(rows: Rows) -> list[str]:
    """Table (c), shapes: models, then scales of guidance."""
    lines: list[str] = []
    for title, cells in (("one object", CELLS), ("two objects", TWO)):
        body = [["*true pictures*", "-", "-", *(share(rows, "shapes-real", name, ("",)) for name in cells)]]
        for row, said in TRAINED.items():
            scale = cell(rows, f"shapes-choice-{row.removeprefix('shapes-')}", "chosen_scale", 0)
            spent = number(rows, row, "training_core_minutes", ".0f")
            body.append([said, spent, scale, *(share(rows, row, name) for name in cells)])
        lines += table([title, "training, minutes", "scale", *cells.values()], body)
    body = [
        [
            scale,
            *(_scaled(rows, "shapes-words", scale, name) for name in ("one_seen_all", "one_held_all", *TWO)),
        ]
        for scale in SCALES
    ]
    heads = ["one, all", "one, all, held-out pair", *(f"two, {said}" for said in TWO.values())]
    lines += table(["scale, learned words", *heads], body)
    names = ("one_seen_all", "one_held_all", "two_seen_size", "two_held_size", *TWO)
    body = [
        [scale, *(share(rows, f"shapes-packaged-{scale}", name, ("",)) for name in names)] for scale in USUAL
    ]
    heads = [*heads[:2], "two, size", "two, size, held-out pairs", *heads[2:]]
    return [*lines, *table(["scale, packaged, varied captions", *heads], body)]


def emoji(rows: Rows) -> list[str]:
    """Table (c), emoji: what the judges say, distances and copies, then scales of guidance."""
    body: list[list[str]] = []
    copies: list[list[str]] = []
    models = {"emoji-real": "*real pictures*", "emoji-words": ENCODERS["words"]}
    for row, said in models.items():
        real = row == "emoji-real"
        seeds = ("",) if real else SEEDS
        scale = "-" if real else cell(rows, f"emoji-choice-{row.removeprefix('emoji-')}", "chosen_scale", 0)
        for kind, what in KINDS.items():
            body.append([said, scale, what, *(share(rows, row, f"{kind}_{name}", seeds) for name in JUDGED)])
            rms = f"{kind}_nearest_training_rms"
            nearest = "-" if real and kind == "seen" else cell(rows, row, rms, 1, seeds)
            apart = (distance(rows, row, f"{kind}_{name}", seeds) for name in UNITS)
            copies.append([said, what, *apart, nearest])
    sweep = [
        [scale, *(_scaled(rows, "emoji-words", scale, f"pairs_{name}") for name in JUDGED)]
        for scale in SCALES
    ]
    return [
        *table(["encoder of captions", "scale", "captions", *JUDGED.values()], body),
        *table(["encoder of captions", "captions", *HEADS, "nearest training picture"], copies),
        *table(["scale, learned words, held-out pairs", *JUDGED.values()], sweep),
    ]


def _scaled(rows: Rows, model: str, scale: str, name: str) -> str:
    """A fraction at a scale of the sweep."""
    return share(rows, f"{model}-scale-{scale}", name)


def lora(rows: Rows) -> list[str]:
    """Table (d)."""
    columns = {
        "new_style_hit_rate": "new style",
        "new_recall_at_1": "concept in the new style, R@1",
        "old_style_hit_rate": "old styles",
        "old_recall_at_1": "concept in old styles, R@1",
    }
    real = [share(rows, "lora-real", name, ("",)) if name.startswith("new") else "-" for name in columns]
    body = [["*real pictures*", "-", "-", *real]]
    for row, said in METHODS.items():
        tuned = row != "lora-base"
        trained = number(rows, row, "trained_parameters", ",.0f") if tuned else "-"
        minutes = number(rows, row, "training_core_minutes", ".1f") if tuned else "-"
        body.append([said, trained, minutes, *(share(rows, row, name) for name in columns)])
    return table(["method", "trained numbers", "minutes", *columns.values()], body)


def unet_step(rows: Rows) -> list[str]:
    """Speed and memory of one step of Stable Diffusion 1.5's U-Net, of `results/unet-step.json`."""
    body: list[list[str]] = []
    for dtype in ("float32", "bfloat16"):
        ratio = number(rows, dtype, "core_seconds_ratio", ".2f", ("",))
        ends = [number(rows, dtype, f"core_seconds_ratio_{end}", ".2f", ("",)) for end in ("min", "max")]
        line = [dtype, ratio if "not run" in ends else f"{ratio} ({' to '.join(ends)})"]
        for name in ("core_seconds", "seconds", "peak_gb"):
            line += [number(rows, dtype, f"{who}_{name}", ".1f", ("",)) for who in ("unveil", "diffusers")]
        body.append([*line, number(rows, dtype, "picture_peak_gb", ".1f", ("",))])
    heads = ["", "diffusers' time divided by ours"]
    for what in ("core seconds", "seconds", "memory, GB"):
        heads += [f"unveil, {what}", f"diffusers, {what}"]
    return table([*heads, "unveil, whole picture, memory, GB"], body)


PARTS: dict[str, Callable[[Rows], list[str]]] = {
    "latent": diffusion,
    "autoencoders": autoencoders,
    "shapes": shapes,
    "emoji": emoji,
    "lora": lora,
    "unet-step": unet_step,
}


def read(name: str) -> Rows:
    """The rows of a file of results; none if it is not there."""
    file = RESULTS / f"{name}.json"
    found: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    return found.get("metrics", {})


def main() -> None:
    if not PAGE.is_file():
        return
    text, rows, step = PAGE.read_text(encoding="utf-8"), read("latent"), read("unet-step")
    for mark, part in PARTS.items():
        if f"<!-- {mark} -->" in text:
            lines = part(step if mark == "unet-step" else rows)
            text = replaced(text, mark, "\n".join(lines).rstrip())
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
