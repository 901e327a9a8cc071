"""The READMEs' table: one row an application, from committed results, which `docs/build.py` writes.

Published numbers stand here with their source; all others are read.
"""

import json
import re
from collections.abc import Sequence
from math import log
from pathlib import Path
from typing import Any

from result_tables import table

ROOT = Path(__file__).resolve().parent.parent
HEADS = ("", "unveil", "best published, or a peer", "baseline", "our training, one core")
NANOGPT = 1.4697 / log(2)  # its README: nats per character after 3 minutes of an A100, here in bits
NOTES = """Higher is better in the first two rows, lower in the last two; intervals are of 95 %. Planning:
`python benchmarks/maze.py`, 1,200 episodes; graph search plans on the same data with the same executor, and
beats us in two dimensions. Published planners ran on D4RL's own files, ours on data from D4RL's generator.
Control: `python benchmarks/pusht.py`, the published 50 starts; the baseline has the same network and
training data. Images: `python benchmarks/images.py`, features of a classifier trained on the same data, all
programs with DDIM in 50 steps, two trainings each; by their own defaults (1,000 steps there, 20 here)
diffusers reaches {theirs}, unveil {ours}, and two sets of real images {floor}. Text: `python
benchmarks/text.py`; ours is an upper bound on the held-out tail, the others are exact. An autoregressive
model of this size is better; masked diffusion also fills gaps and writes in any order."""


def rows() -> list[list[str]]:
    """Planning, control, images, text."""
    return [planning(), control(), images(), text()]


def result(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))[
        "metrics"
    ]


def minutes(name: str) -> str:
    """Of training, as the card of packaged weights has it."""
    card = (ROOT / "src" / "unveil" / "zoo" / name / "card.md").read_text(encoding="utf-8")
    found = re.search(r"steps in (\d+) minutes", card)
    assert found is not None, name
    return f"{found[1]} minutes"


def planning() -> list[str]:
    ours, search = result("maze-large-single"), result("maze-large-single-graph-search")
    published = json.loads((ROOT / "benchmarks" / "published.json").read_text(encoding="utf-8"))
    name, score = max(
        ((row["name"], row["single"][2]) for row in published if row["single"][2]), key=lambda row: row[1]
    )
    return [
        "**plan**: Maze2D large, D4RL score",
        f"**{interval(ours, 'score')}**",
        f"{name} {score}",
        f"graph search {interval(search, 'score')}",
        minutes("maze-large"),
    ]


def control() -> list[str]:
    found = result("pusht")
    return [
        "**control**: PushT, largest reward",
        f"**{found['cnn']['published_mean']:.2f}**",
        "Diffusion Policy .95 (best checkpoint), .91 (mean of ten)",
        f"behaviour cloning {found['mse']['published_mean']:.2f}",
        minutes("pusht-keypoints"),
    ]


def images() -> list[str]:
    found = result("images")
    ours, peer = ([found[f"duel-{who}-s{seed}"] for seed in (0, 1)] for who in ("ours", "diffusers"))
    return [
        "**draw**: Fashion-MNIST, Fréchet distance",
        f"**{both(ours, 'frechet_distance')}**",
        f"diffusers, as many minutes: {both(peer, 'frechet_distance')}",
        f"Gaussian pixels {ours[0]['gaussian']:.1f}",
        f"{ours[0]['clock_seconds'] / 60:.0f} minutes",
    ]


def text() -> list[str]:
    return [
        "**write**: tiny-shakespeare, bits per character",
        f"**{result('text-shakespeare')['bits_per_char']:.2f}**",
        f"nanoGPT {NANOGPT:.2f} (on an A100)",
        f"autoregressive, same network {result('text')['causal']['bits_per_char']:.2f}",
        minutes("text-shakespeare"),
    ]


def interval(found: dict[str, Any], name: str) -> str:
    return f"{found[f'{name}_mean']:.1f} ± {found[f'{name}_ci95']:.1f}"


def both(found: Sequence[dict[str, Any]], name: str) -> str:
    return " and ".join(f"{training[name]:.1f}" for training in found)


def section(phrases: dict[str, str] | None = None) -> str:
    """The table and what it means.

    Args:
        phrases: English to another language, and `notes`; only these are replaced, so no number can differ.
    """
    found = result("images")
    ours, theirs = (
        both([found[f"duel-{who}-s{seed}"] for seed in (0, 1)], "default_frechet_distance")
        for who in ("ours", "diffusers")
    )
    lines, notes = "\n".join(table(HEADS, rows())), NOTES
    if phrases is not None:
        notes, joined = phrases["notes"], phrases[" and "]
        ours, theirs = (text.replace(" and ", joined) for text in (ours, theirs))
        for english in sorted(set(phrases) - {"notes"}, key=len, reverse=True):
            lines = lines.replace(english, phrases[english])
    floor = f"{found['duel-ours-s0']['default_floor']:.1f}"
    return f"{lines}\n{notes.format(ours=ours, theirs=theirs, floor=floor)}"


def chinese() -> str:
    return section(json.loads((ROOT / "docs" / "zh-CN.json").read_text(encoding="utf-8")))
