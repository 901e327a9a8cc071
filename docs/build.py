"""Write the README's results from `benchmarks/results/*.json`; nothing in it is typed by hand. Run by `make docs`."""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
# Diffuser: Janner et al. 2022, table 1 (maze2d-large, Multi2D-large); HorizonFlow 2026, table 1a: the best published under D4RL's reward.
PUBLISHED = {False: {"Diffuser, published": 123.0, "best published": 205.2}, True: {"Diffuser, published": 132.1, "best published": 216.5}}


def row(name: str, metrics: dict) -> str:
    score = f"{metrics['score_mean']:.1f} ± {metrics['score_ci95']:.1f}"
    return (
        f"| {name} | {score} | {metrics['latched_score_mean']:.1f} | {metrics['success_rate']:.2f} | {metrics['arrival_step_mean']:.0f} |"
    )


EXTRA = {
    "one-candidate": "unveil, a single candidate",
    "random-candidate": "unveil, a random candidate, no re-planning",
    "graph-search": "graph search over the training data, same executor, no model",
}


def extra_rows(name: str) -> list[str]:
    files = {title: RESULTS / f"{name}-{stem}.json" for stem, title in EXTRA.items()}
    return [row(title, json.loads(file.read_text())["metrics"]) for title, file in files.items() if file.is_file()]


def section() -> str:
    lines = ["D4RL score (not latched), mean and 95 % interval:", ""]
    for multi, name in ((False, "maze-large-single"), (True, "maze-large-multi")):
        result = json.loads((RESULTS / f"{name}.json").read_text())
        c, m = result["config"], result["metrics"]
        lines += [
            f"**large, {'Multi2D' if multi else 'single goal'}**: `unveil eval maze --maze large{' --multi' if multi else ''} "
            f"--episodes {c['episodes']} --seed {c['seed']}`",
            "",
            "| | score | latched | success | arrival step |",
            "|---|---|---|---|---|",
            row("unveil `maze-large`", m),
            *extra_rows(name),
            row("shortest-path oracle, same executor, given the map", result["reference"]["oracle"]),
            row("data controller, noise-free, given the map", result["reference"]["controller"]),
            *(f"| {who} (its own protocol, not re-run) | {score:.1f} | - | - | - |" for who, score in PUBLISHED[multi].items()),
            "",
            f"{m['plans_per_second']:.0f} plans/s on one CPU core; {100 * m['wall_crossing_rate']:.1f} % of {m['samples_n']:,} raw "
            f"samples cross a wall ({100 * m['chosen_wall_crossing_rate']:.1f} % of the chosen ones); the executed track is on average "
            f"{m['plan_deviation_mean']:.2f} cells from the raw sample ({m['plan_deviation_max_mean']:.2f} at its worst point).",
            "",
        ]
    lines.append("Published planners were run by their authors on D4RL's own data and mujoco-py; what else differs is in docs/protocol.md.")
    return "\n".join(lines)


def main() -> None:
    readme = ROOT / "README.md"
    head, rest = readme.read_text().split("<!-- results -->")
    tail = rest.split("<!-- /results -->")[1]
    readme.write_text(f"{head}<!-- results -->\n{section()}\n<!-- /results -->{tail}")


if __name__ == "__main__":
    main()
