"""Score against denoising steps per decision, warm-started and from noise: `docs/warm-start.png` from results/locomotion-<set>.json.

python benchmarks/locomotion.py --sets hopper-medium-expert --rows --curve 1 2 3 5 10
python benchmarks/locomotion_figure.py
"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", default="hopper-medium-expert")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "warm-start.png")
    arguments = parser.parse_args()
    rows = json.loads((ROOT / "benchmarks" / "results" / f"locomotion-{arguments.set}.json").read_text())[
        "metrics"
    ]
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    for start, label, colour in (
        ("warm", "from the last plan, noised again", "tab:blue"),
        ("cold", "from noise", "tab:orange"),
    ):
        points = sorted(
            (int(name.split("-")[1]), row) for name, row in rows.items() if name.startswith(f"{start}-")
        )
        if points:
            means, widths = [row["score_mean"] for _, row in points], [row["score_ci95"] for _, row in points]
            axes.errorbar(
                [k for k, _ in points], means, widths, marker="o", capsize=3, label=label, color=colour
            )
    for name, label in (("behaviour", "behaviour in the data"), ("bc", "behaviour cloning")):
        if name in rows:
            axes.axhline(rows[name]["score_mean"], linestyle=":", color="grey")
            axes.annotate(label, (1.0, rows[name]["score_mean"]), fontsize=8, va="bottom")
    axes.set(
        xscale="log", xlabel="denoising steps per decision", ylabel=f"score, {arguments.set} (D4RL-style)"
    )
    axes.set_xticks([1, 2, 3, 5, 10, 20], labels=["1", "2", "3", "5", "10", "20"])
    axes.legend(loc="lower right", fontsize=8)
    figure.savefig(arguments.out, dpi=120)
    print(arguments.out)


if __name__ == "__main__":
    main()
