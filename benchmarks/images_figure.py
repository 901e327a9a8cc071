"""Distance against calls, and the two guidances: `docs/images-steps.png`, `docs/images-guidance.png` from results/images.json.

python benchmarks/images.py
python benchmarks/images_figure.py
"""

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parent.parent
SOLVERS = {
    "solvers-ddim": "DDIM",
    "solvers-ddpm": "DDPM, small variance",
    "solvers-ddpm-large": "DDPM, large variance",
    "order-dpmpp": "DPM-Solver++",
    "order-heun": "Heun",
    "order-ddim": "DDIM",
}
SEEDS: dict[str, dict[str, Any]] = {
    "": {"marker": "o"},
    "-s1": {"marker": ".", "linestyle": "--"},
}  # a line a seed
SHOWN = {
    "frechet_distance": "Frechet distance",
    "class_hit_rate": "class hits",
    "precision": "precision",
    "recall": "recall",
}


def points(rows: dict[str, Any], prefix: str, seed: str = "") -> list[tuple[float, dict[str, Any]]]:
    """Rows `<prefix>-<number>` of a seed ("" or "-s1") by their number."""
    names = [name for name in rows if name.endswith("-s1") == bool(seed)]
    found = ((name.removesuffix("-s1").rpartition("-"), rows[name]) for name in names)
    return sorted(
        ((float(number), row) for (before, _, number), row in found if before == prefix),
        key=lambda point: point[0],
    )


def bounds(axes: Any, row: dict[str, Any]) -> None:
    for name, style in (("floor", ":"), ("gaussian", "--")):
        axes.axhline(row[name], linestyle=style, color="grey", label=f"{name}, n {row['n']}")


def steps(rows: dict[str, Any], out: Path) -> bool:
    """Left the paper's comparison, right the solvers of second order; whether anything was there."""
    figure, both = plt.subplots(1, 2, figsize=(9.6, 3.8), layout="constrained")
    any_there = False
    for axes, table in zip(both, ("solvers", "order"), strict=True):
        last: dict[str, Any] | None = None
        for k, (prefix, label) in enumerate(SOLVERS.items()):
            for seed, style in SEEDS.items():
                there = (
                    [(row["nfe"], row) for _, row in points(rows, prefix, seed)]
                    if prefix.startswith(table)
                    else []
                )
                if there:
                    last = there[-1][1]
                    y, widths = (
                        [row["frechet_distance"] for _, row in there],
                        [row["frechet_distance_ci95"] for _, row in there],
                    )
                    drawn = style | {"color": f"C{k}", "label": label if not seed else None}
                    axes.errorbar([x for x, _ in there], y, widths, capsize=3, **drawn)
        axes.set(xlabel="calls of the network", ylabel=SHOWN["frechet_distance"], xscale="log", yscale="log")
        if last is not None:
            bounds(axes, last)
            axes.legend(fontsize=8)
            any_there = True
    if any_there:
        figure.savefig(out, dpi=120)
    return any_there


def guidance(rows: dict[str, Any], out: Path) -> bool:
    """A panel a metric, a line a guidance; whether anything was there."""
    lines = {
        (kind, seed): points(rows, f"guide-{kind}", seed) for kind in ("classifier", "free") for seed in SEEDS
    }
    if not any(lines.values()):
        return False
    figure, panels = plt.subplots(1, 4, figsize=(12.8, 3.4), layout="constrained")
    for axes, (name, label) in zip(panels, SHOWN.items(), strict=True):
        for (kind, seed), there in lines.items():
            y, widths = [row[name] for _, row in there], [row[f"{name}_ci95"] for _, row in there]
            style = SEEDS[seed] | {"color": "C0" if kind == "classifier" else "C1"}
            who = ("a classifier's" if kind == "classifier" else "free") if not seed else None
            axes.errorbar([x for x, _ in there], y, widths, capsize=3, label=who, **style)
        if name == "frechet_distance":
            bounds(axes, next(there[0][1] for there in lines.values() if there))
        axes.set(xlabel="scale", ylabel=label)
    panels[0].legend(fontsize=8)
    figure.savefig(out, dpi=120)
    return True


def main() -> None:
    file = ROOT / "benchmarks" / "results" / "images.json"
    rows = json.loads(file.read_text())["metrics"] if file.is_file() else {}
    for draw, name in ((steps, "images-steps.png"), (guidance, "images-guidance.png")):
        out = ROOT / "docs" / name
        print(out if draw(rows, out) else f"{name}: not drawn, its rows are not in {file.name} yet")


if __name__ == "__main__":
    main()
