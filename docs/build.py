"""Write the README's results from `benchmarks/results/*.json`; nothing in it is typed by hand. Run by `make docs`."""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"

# Published under D4RL's own, unlatched reward (Diffusion Veteran's and MDD's are latched and left out). (maze, Multi2D): score.
DIFFUSER = {  # Janner et al. 2022, table 1
    ("umaze", False): 113.9,
    ("medium", False): 121.5,
    ("large", False): 123.0,
    ("umaze", True): 128.9,
    ("medium", True): 127.2,
    ("large", True): 132.1,
}
BEST = {  # umaze: SSD (AAAI 2024); medium and large: HorizonFlow (2026), table 1a
    ("umaze", False): 144.6,
    ("medium", False): 154.8,
    ("large", False): 205.2,
    ("umaze", True): 158.2,
    ("medium", True): 170.5,
    ("large", True): 216.5,
}

INTRODUCTION = """D4RL score, not latched, 300 episodes, seed 0, mean and 95 % interval; every column but the last two on the same episodes.
`unveil eval maze --maze large --episodes 300 --seed 0` (with `--multi` for Multi2D) prints the first and the two with the map,
`python benchmarks/maze.py` all."""
CONCLUSION = """Graph search over the same data with the same executor is as good or better here: two dimensions are no challenge for it.
Oracle and graph search use the planner's own executor, so they are what perfect plans would give, not a ceiling of physics. Published
planners were run by their authors on D4RL's own data and mujoco-py, with other executors; [docs/protocol.md](docs/protocol.md) says what
differs."""


def read(maze: str, multi: bool, row: str = "") -> dict | None:
    file = RESULTS / f"maze-{maze}-{'multi' if multi else 'single'}{row}.json"
    return json.loads(file.read_text()) if file.is_file() else None


def score(metrics: dict) -> str:
    return f"{metrics['score_mean']:.1f} ± {metrics['score_ci95']:.1f}"


def section() -> str:
    columns = ("**unveil**", "one candidate", "graph search over the data, no model", "oracle, given the map")
    columns += ("data controller, given the map", "Diffuser, published", "best published")
    lines = [INTRODUCTION, "", "| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    notes = []
    for multi in (False, True):
        for maze in ("umaze", "medium", "large"):
            result = read(maze, multi)
            if result is None:
                continue
            m, reference = result["metrics"], result["reference"]
            one, graph = (read(maze, multi, row) for row in ("-one-candidate", "-graph-search"))
            cells = [f"**{score(m)}**", *(score(r["metrics"]) if r else "-" for r in (one, graph))]
            cells += [score(reference["oracle"]), score(reference["controller"]), f"{DIFFUSER[maze, multi]}", f"{BEST[maze, multi]}"]
            name = f"{maze}, {'Multi2D' if multi else 'single goal'}"
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
            plans = f"{m['plans_per_second']:.0f} plans/s on one CPU core"
            walls = f"{100 * m['wall_crossing_rate']:.1f} % of {m['samples_n']:,} raw samples cross a wall"
            chosen = f"{100 * m['chosen_wall_crossing_rate']:.1f} % of the chosen"
            track = f"executed tracks lie {m['plan_deviation_mean']:.2f} cells from the raw sample"
            worst = f"{m['plan_deviation_max_mean']:.2f} at an episode's worst point"
            arrive = f"{100 * m['success_rate']:.0f} % arrive, on average at step {m['arrival_step_mean']:.0f}"
            notes.append(f"- {name}: {arrive}; {plans}; {walls} ({chosen}); {track} on average, {worst}.")
    lines += ["", *notes, "", CONCLUSION]
    return "\n".join(lines)


def main() -> None:
    readme = ROOT / "README.md"
    head, rest = readme.read_text().split("<!-- results -->")
    tail = rest.split("<!-- /results -->")[1]
    readme.write_text(f"{head}<!-- results -->\n{section()}\n<!-- /results -->{tail}")


if __name__ == "__main__":
    main()
