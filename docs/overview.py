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
HEADS = ("task and measure", "unveil", "other work (p: published, r: run by us)", "baseline", "our training")
NANOGPT = 1.4697 / log(2)  # its README: nats per character after 3 minutes of an A100, here in bits
NOTES = """Higher is better in the first two rows, lower in the last two; ± is a 95 % interval over episodes.

- **Plan.** 1,200 episodes, `python benchmarks/maze.py`. The path follower decides this score: with our follower, a
  random sample of our model has {random}, the shortest path on the map {oracle}, and graph search on the same data,
  which is better than our model, {search}. Our lead over the published planners (HorizonFlow 2026, its table 1a)
  therefore does not come from the diffusion model; their data (D4RL's files, ours are made by D4RL's generator) and
  physics differ, too.
- **Control.** Mean over the 50 starts of Diffusion Policy's evaluation of the largest reward of an episode (1: the
  block covers 95 % of its target), `python benchmarks/pusht.py`; over 200 starts ours has {wide}. The published
  numbers are from arXiv:2303.04137. Both baselines have our network and data.
- **Draw.** A separate benchmark training, not the packaged model; equal time for each program, `python
  benchmarks/images.py`. unveil made {our_steps} steps ({our_size} M parameters), diffusers, whose U-Net
  ({their_size} M) is slower, {their_steps}. Then 1,024 images with 50 DDIM steps each; with these diffusers is worse than
  Gaussian pixels. With its own 1,000 steps and 256 images it reaches {theirs}, unveil with its own 20 steps {ours}, and
  real images {default_floor}. The features are those of a classifier of the same data: this is no FID.
- **Write.** The end of the text, which was not trained on, `python benchmarks/text.py`. Ours is an upper bound, so its
  true value may be lower; the others are exact. An autoregressive model of this size is better: it trained for
  {causal_steps} steps. With as long a training ({masked_steps} steps) ours has {masked}, after {steps} steps the {bits} of the table.
  Masked diffusion also fills gaps and writes in any order. [nanoGPT](https://github.com/karpathy/nanoGPT) trained for
  3 minutes on an A100.

Minutes are by the clock. The machine of the packaged models (plan, control, write) also did other work: the maze's
training would take about {idle} minutes on two idle cores (measured over 300 of its 16,000 steps)."""


def rows() -> list[list[str]]:
    """Planning, control, images, text."""
    return [planning(), control(), images(), text()]


def result(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))[
        "metrics"
    ]


def minutes(name: str) -> str:
    """Of training with one thread, as the card of packaged weights has it."""
    card = (ROOT / "src" / "unveil" / "zoo" / name / "card.md").read_text(encoding="utf-8")
    found = re.search(r"steps in (\d+) minutes", card)
    assert found is not None, name
    return f"{found[1]} minutes, 1 core"


def planning() -> list[str]:
    ours, search = result("maze-large-single"), result("maze-large-single-graph-search")
    published = json.loads((ROOT / "benchmarks" / "published.json").read_text(encoding="utf-8"))
    name, score = max(
        ((row["name"], row["single"][2]) for row in published if row["single"][2]), key=lambda row: row[1]
    )
    return [
        "**plan**: Maze2D large, D4RL score",
        interval(ours, "score"),
        f"{name} {score} (p)",
        f"graph search {interval(search, 'score')}",
        minutes("maze-large"),
    ]


def control() -> list[str]:
    found = result("pusht")
    return [
        "**control**: PushT, reward (0 to 1)",
        f"{found['cnn']['published_mean']:.2f}",
        "Diffusion Policy 0.95 (best checkpoint), 0.91 (mean of last ten) (p)",
        f"mixture density network {found['mdn']['published_mean']:.2f}, "
        f"behaviour cloning {found['mse']['published_mean']:.2f}",
        minutes("pusht-keypoints"),
    ]


def images() -> list[str]:
    found = result("images")
    ours, peer = ([found[f"duel-{who}-s{seed}"] for seed in (0, 1)] for who in ("ours", "diffusers"))
    return [
        "**draw**: Fashion-MNIST, Fréchet distance",
        f"{both(ours, 'frechet_distance')} (two trainings)",
        f"diffusers {both(peer, 'frechet_distance')} (two trainings) (r)",
        f"Gaussian pixels {ours[0]['gaussian']:.1f}; real images {ours[0]['floor']:.1f}",
        f"{ours[0]['clock_seconds'] / 60:.0f} minutes, 2 cores",
    ]


def text() -> list[str]:
    return [
        "**write**: tiny-shakespeare, bits per character",
        f"{result('text-shakespeare')['bits_per_char']:.2f} (upper bound)",
        f"nanoGPT {NANOGPT:.2f} (p)",
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
    lines, notes, measured = "\n".join(table(HEADS, rows())), NOTES, numbers()
    if phrases is not None:
        notes = phrases["notes"]
        measured = {name: text.replace(" and ", phrases[" and "]) for name, text in measured.items()}
        for english in sorted(set(phrases) - {"notes"}, key=len, reverse=True):
            lines = lines.replace(english, phrases[english])
    return f"{lines}\n{notes.format_map(measured)}"


def numbers() -> dict[str, str]:
    """What the notes quote."""
    pusht, drawn, written = result("pusht"), result("images"), result("text")
    maze = json.loads((ROOT / "benchmarks/results/maze-large-single.json").read_text(encoding="utf-8"))
    ours, theirs = ([drawn[f"duel-{who}-s{seed}"] for seed in (0, 1)] for who in ("ours", "diffusers"))
    card = (ROOT / "src" / "unveil" / "zoo" / "text-shakespeare" / "card.md").read_text(encoding="utf-8")
    steps = re.search(r"([\d,]+) steps in \d+ minutes", card)
    assert steps is not None
    return {
        "random": f"{result('maze-large-single-random-candidate')['score_mean']:.1f}",
        "oracle": f"{maze['reference']['oracle']['score_mean']:.1f}",
        "search": f"{result('maze-large-single-graph-search')['score_mean']:.1f}",
        "wide": f"{pusht['cnn']['score_mean']:.3f} ± {pusht['cnn']['score_ci95']:.3f}",
        "our_steps": " and ".join(f"{row['steps']:,}" for row in ours),
        "their_steps": " and ".join(f"{row['steps']:,}" for row in theirs),
        "our_size": f"{ours[0]['parameters'] / 1e6:.2f}",
        "their_size": f"{theirs[0]['parameters'] / 1e6:.2f}",
        "bits": f"{result('text-shakespeare')['bits_per_char']:.2f}",
        "ours": both(ours, "default_frechet_distance"),
        "theirs": both(theirs, "default_frechet_distance"),
        "default_floor": f"{ours[0]['default_floor']:.1f}",
        "causal_steps": f"{written['causal']['steps']:,}",
        "masked_steps": f"{written['masked']['steps']:,}",
        "steps": steps[1],
        "idle": f"{result('maze-large-training-speed')['minutes_of_16000_steps']:.0f}",
        "masked": f"{written['masked']['bits_per_char']:.2f}",
    }


def chinese() -> str:
    return section(json.loads((ROOT / "docs" / "zh-CN.json").read_text(encoding="utf-8")))
