"""Score against delay, and against the time of a decision: `docs/pusht-delay.png`, `docs/pusht-pareto.png` from results/pusht.json.

All lines of score against delay are of one policy, runs/pusht-prefix: see benchmarks/pusht.py.

python benchmarks/pusht.py
python benchmarks/pusht_figure.py
"""

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parent.parent
LOWEST = 0.8  # of the axis of time; what lies lower stands there, with its number
MODES = {
    "wait": "wait: hold still",
    "naive": "naive: go on, then jump",
    "soft": "soft: guided, not trained for it",
    "prefix": "prefix: known first actions, trained",
}


def axes_with(rows: dict[str, Any], xlabel: str, episodes: int) -> Any:
    """Axes with people's score as a line."""
    _, axes = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    if "replay" in rows:
        axes.axhline(rows["replay"]["score_mean"], linestyle=":", color="grey")
        axes.annotate(
            "human demonstrations",
            (0.02, rows["replay"]["score_mean"]),
            xycoords=("axes fraction", "data"),
            fontsize=8,
            va="bottom",
        )
    axes.set(xlabel=xlabel, ylabel=f"score, {episodes} episodes", ylim=(0, 1.02))
    return axes


def delays(rows: dict[str, Any], out: Path) -> bool:
    """A line a mode; whether anything was there."""
    lines = {
        mode: [(d, rows[f"delay-{d}-{mode}"]) for d in range(9) if f"delay-{d}-{mode}" in rows]
        for mode in MODES
    }
    if not any(lines.values()):
        return False
    axes = axes_with(rows, "delay between observing and acting, steps of 0.1 s", 100)
    axes.set_ylim(0.7, 1.01)
    for i, (mode, points) in enumerate(lines.items()):
        if points:
            means, widths = [row["score_mean"] for _, row in points], [row["score_ci95"] for _, row in points]
            beside = 0.09 * (i - 1.5)  # so that intervals do not hide each other
            axes.errorbar(
                [d + beside for d, _ in points],
                means,
                widths,
                marker="o",
                markersize=4,
                capsize=2,
                label=MODES[mode],
            )
    axes.legend(fontsize=8, loc="lower left")
    axes.figure.savefig(out, dpi=120)
    return True


def pareto(rows: dict[str, Any], out: Path) -> bool:
    """A line for each solver, its points labelled by steps, dashed where the network predicts noise instead of v; baselines beside."""
    found: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for name, row in rows.items():
        kind = {"pareto": "", "eps": ", predicts noise", "student": "distilled"}.get(name.split("-")[0])
        if kind is not None:
            *_, solver, steps = name.split("-")
            found.setdefault(kind if kind == "distilled" else solver + kind, []).append((int(steps), row))
    if not found:
        return False
    axes = axes_with(rows, "median time of a decision, ms, one thread", 200)
    axes.set_ylim(LOWEST - 0.005, 1.01)
    colours = {kind: f"C{i}" for i, kind in enumerate(("ddim", "dpmpp", "heun", "ddpm", "distilled"))}
    for kind, points in sorted(found.items()):
        points.sort(key=lambda point: point[0])
        x, y = (
            [row["decision_ms_p50"] for _, row in points],
            [max(LOWEST, row["score_mean"]) for _, row in points],
        )
        solver, _, noise = kind.partition(",")
        look = {"linestyle": "--", "markerfacecolor": "white"} if noise else {"linestyle": "-"}
        axes.plot(x, y, "o", label=kind, color=colours[solver], **look)
        for (steps, row), left, up in zip(points, x, y, strict=True):
            label = str(steps) if row["score_mean"] >= LOWEST else f"{steps}: {row['score_mean']:.2f} ↓"
            axes.annotate(
                label, (left, up), fontsize=8, xytext=(3, -11 if noise else 5), textcoords="offset points"
            )
    for name in ("mse", "bins", "mdn", "transformer"):
        if name in rows:
            place = rows[name]["decision_ms_p50"], max(LOWEST, rows[name]["score_mean"])
            axes.plot(*place, "s", color="grey")
            label = (
                name if rows[name]["score_mean"] >= LOWEST else f"{name}: {rows[name]['score_mean']:.2f} ↓"
            )
            axes.annotate(label, place, fontsize=8, xytext=(-4, 6), textcoords="offset points", ha="right")
    axes.set_xscale("log")
    axes.legend(fontsize=8, loc="lower right")
    axes.figure.savefig(out, dpi=120)
    return True


def main() -> None:
    file = ROOT / "benchmarks" / "results" / "pusht.json"
    rows = json.loads(file.read_text())["metrics"] if file.is_file() else {}
    for draw, name in ((delays, "pusht-delay.png"), (pareto, "pusht-pareto.png")):
        out = ROOT / "docs" / name
        print(out if draw(rows, out) else f"{name}: not drawn, its rows are not in {file.name} yet")


if __name__ == "__main__":
    main()
