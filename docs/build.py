"""Write the tables of the READMEs and pages from `benchmarks/results/*.json`, for `make docs`."""

import json
from math import inf
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import overview
from result_tables import replaced

from unveil.runs.statistics import paired_ci95

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
MAZES = ("umaze", "medium", "large")
TASKS = [(maze, multi) for multi in (False, True) for maze in MAZES]

ROWS = {  # name in the table: end of the file's name
    "**unveil**, as packaged": "",
    "unveil, one candidate (`--candidates 1`)": "-one-candidate",
    "unveil, two candidates, one of them taken at random": "-random-candidate",
    "unveil, trained without the ends of trips (`--no-cut`)": "-uncut",
    "graph search over the data, no model": "-graph-search",
    "Diffuser, its released settings": "-paper",
    "Diffuser, best checkpoint within our training time": "-paper-same-minutes",
}
SHORTEST, CONTROLLER = "shortest path on the map (oracle)", "data controller, given the map"
INTRODUCTION = """D4RL's own score, the reward of every step, as mean and 95 % interval over 1,200 episodes of
seed 0. The rows down to the data controller ran on the same episodes; Diffuser needs seconds for a plan and
ran on the first 300 of them. All rows of unveil, graph search and the shortest path have the same path
follower; Diffuser and the data controller have their own. Diffuser was stopped long before its published
2,000,000 steps: its rows are no reproduction. `python benchmarks/maze.py` makes the table, `python
benchmarks/maze_paper.py` the rows of Diffuser, and `unveil eval maze --maze large` (`--multi`) the first row
and the two references."""
CONCLUSION = """What the table shows: choosing between two candidates, each with its own horizon, changes nothing here
(it matters in OGBench's mazes), and neither does the model: graph search over the same data and the shortest
path on the map score as high with the same path follower. The shortest path is no upper limit, because the fastest path is not
the shortest. The lead over the published planners is therefore not the diffusion model's. Their authors
also used D4RL's own data and mujoco-py; ours are made by D4RL's generator (standard deviations within 1 %)
and run in MuJoCo 3.3. Look-ahead and gains were tuned on other seeds, and so was the range of horizons
except for its lower end, which [the protocol](../protocol.md) describes. The number in parentheses is
latched: the reward stays after the first touch, which is not D4RL's score. HorizonFlow's numbers are from
table 1a of the paper of 2026, for which we have no public address."""
COLUMNS = """More measures of the first row (unveil, as packaged), one line for each maze: the share of episodes that
arrive, the mean step of the first arrival, plans per second on one thread of an idle machine, the share of all
samples and of the chosen ones whose line enters a wall, and the distance between the driven track and the
chosen path (mean, and mean of the largest)."""

OGBENCH = """Share of 250 episodes that succeed, in %: 5 tasks of `pointmaze-*-navigate-v0`, at most 1000 steps;
`python benchmarks/ogbench_maze.py evaluate`. The data are made with OGBench's oracle and published settings.
They do not say when a goal changed, so training uses `--no-cut`. The planner draws 32 samples and plans again
when it leaves its path. Graph search does neither, so it is a weaker reference here than in Maze2D, where it
plans again too. OGBench's oracle knows the next cell at every step, and
gets stuck at corners. Published rows were trained on OGBench's own files: OGBench's six baselines (Park et al. 2025,
arXiv:2410.20092) and SAW as printed in SAW's paper (Zhou & Kao 2025, section 6), ALPS as in its own paper;
mean and standard deviation over trainings, 8 in SAW's table. Ours is one training, with 95 % intervals over
episodes."""


PAPER = """Diffuser with its released settings at its checkpoints: the score on 100 episodes of seed 1000. The
machine also did other work, so the minutes are long. The budget was at most three hours for each maze;
training stopped after the last checkpoint shown. `python benchmarks/maze_paper.py` scores them. The
published training is 2,000,000 steps on a GPU."""
DETAILS = """*Latched*: the score if the reward stays after the first touch. *First arrival*: its mean step. *New
plans*: per episode, after the first. *Plans/s*: one environment on one CPU thread of an otherwise idle machine ("-":
not measured). *Across a wall*: of all samples, and of the chosen ones; graph
search and the references draw no samples. *Off the path*: distance in cells between the driven track and the
chosen path until arrival, mean and mean of the largest; last, the share of episodes where it exceeds 0.3."""
FOLD = '<details markdown="1">\n<summary>{}</summary>\n\n{}\n\n</details>'


def result_of(maze: str, multi: bool, end: str) -> dict | None:
    """A cell's whole JSON."""
    file = RESULTS / f"maze-{maze}-{'multi' if multi else 'single'}{end}.json"
    return json.loads(file.read_text()) if file.is_file() else None


def metrics(maze: str, multi: bool, end: str = "", reference: str = "") -> dict | None:
    result = result_of(maze, multi, end)
    if result is None:
        return None
    return result["reference"][reference] if reference else result["metrics"]


def table_row(
    name: str, scores: list[float | None], shown: list[str], averages: list[str] | None = None
) -> str:
    """A row, with the average over the three mazes after the single-goal and after the Multi2D columns."""
    cells = []
    for k in (0, 3):
        part = [value for value in scores[k : k + 3] if value is not None]
        average = averages[k // 3] if averages else f"{fmean(part):.1f}" if len(part) == 3 else "-"
        cells += [*shown[k : k + 3], average]
    return f"| {name} | " + " | ".join(cells) + " |"


def measured(name: str, end: str = "", reference: str = "") -> str | None:
    found = [metrics(maze, multi, end, reference) for maze, multi in TASKS]
    if not any(found):
        return None
    shown = [f"{m['score_mean']:.1f} ± {m['score_ci95']:.1f}" if m else "-" for m in found]
    if end.startswith("-paper"):
        spent = [result["minutes"] for maze in MAZES if (result := result_of(maze, False, end))]
        steps = [result["step"] for maze in MAZES if (result := result_of(maze, False, end))]
        name += (
            f": {' / '.join(f'{k:,}' for k in steps)} steps, {' / '.join(f'{m:.0f}' for m in spent)} minutes"
        )
    return table_row(name, [m["score_mean"] if m else None for m in found], shown)


def trainings() -> str | None:
    """Mean and standard deviation over the training seeds that are there."""
    columns = []
    for maze, multi in TASKS:
        found = [metrics(maze, multi, end) for end in ("", "-seed1", "-seed2")]
        columns.append([m["score_mean"] for m in found if m])
    if max(len(column) for column in columns) < 2:
        return None
    shown = [f"{fmean(c):.1f} (sd {stdev(c):.1f}, {len(c)})" if len(c) > 1 else "-" for c in columns]
    return table_row(
        "unveil, three trainings: mean (standard deviation, number)",
        [fmean(c) if len(c) > 1 else None for c in columns],
        shown,
    )


def published() -> list[str]:
    rows = []
    for row in json.loads((ROOT / "benchmarks" / "published.json").read_text()):
        scores = [*row["single"], *(row["multi"] or [None] * 3)]
        shown = ["-" if value is None else str(value) for value in scores]
        averages = [f"({row['average']}, latched)", "-"] if row.get("latched") else None
        rows.append(
            table_row(f"{row['name']}, published [{row['source']}]", scores, shown, averages=averages)
        )
    return rows


def details() -> list[str]:
    lines = [
        "| | arrive | first arrival, step | plans/s | samples across a wall | chosen across a wall "
        "| off the path, cells: mean, largest |"
    ]
    lines.append("|---" * 7 + "|")
    for maze, multi in TASKS:
        if m := metrics(maze, multi):
            cells = [f"{100 * m['success_rate']:.1f} %", f"{m['arrival_step_mean']:.0f}"]
            cells += [
                f"{m['plans_per_second']:.0f}",
                f"{100 * m['wall_crossing_rate']:.1f} %",
                f"{100 * m['chosen_wall_crossing_rate']:.1f} %",
            ]
            cells.append(f"{m['plan_deviation_mean']:.2f}, {m['plan_deviation_max_mean']:.2f}")
            lines.append(f"| {maze}, {'Multi2D' if multi else 'single goal'} | " + " | ".join(cells) + " |")
    return lines


def in_full() -> str:
    """All that was measured of every row."""
    head = [
        "",
        "score",
        "latched",
        "arrive",
        "first arrival",
        "new plans",
        "plans/s",
        "across a wall",
        "chosen",
        "off the path",
        "largest",
        "> 0.3",
    ]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    rows = [(name.replace("**", ""), end, "") for name, end in ROWS.items()] + [
        ("unveil, a training with seed 1", "-seed1", ""),
        ("unveil, a training with seed 2", "-seed2", ""),
    ]
    for name, end, reference in [*rows, (SHORTEST, "", "oracle"), (CONTROLLER, "", "controller")]:
        for maze, multi in TASKS:
            m = metrics(maze, multi, end, reference)
            if m is None:
                continue
            searched = bool(reference) or "chosen_wall_crossing_rate" not in m
            cells = [f"{m['score_mean']:.1f} ± {m['score_ci95']:.1f}", f"{m['latched_score_mean']:.1f}"]
            cells += [
                f"{100 * m['success_rate']:.1f} %",
                f"{m['arrival_step_mean']:.0f}",
                f"{m['replans_mean']:.3f}" if "replans_mean" in m else "-",
            ]
            cells += [
                f"{m['plans_per_second']:,.0f}" if "plans_per_second" in m else "-",
                f"{100 * m['wall_crossing_rate']:.1f} %",
            ]
            cells.append("-" if searched else f"{100 * m['chosen_wall_crossing_rate']:.1f} %")
            cells += [f"{m['plan_deviation_mean']:.2f}", f"{m['plan_deviation_max_mean']:.2f}"]
            cells.append(
                f"{100 * m['plan_deviation_over_0.3_rate']:.0f} %"
                if "plan_deviation_over_0.3_rate" in m
                else "-"
            )
            lines.append(
                f"| {name}: {maze}, {'Multi2D' if multi else 'single goal'} | " + " | ".join(cells) + " |"
            )
    folded = FOLD.format("All rows of the table, in each maze", "\n".join(lines))
    lines = [DETAILS, "", folded, ""]
    lines += ["What differs between the published planners and ours, besides data and physics:", ""]
    for row in json.loads((ROOT / "benchmarks" / "published.json").read_text()):
        lines.append(f"- {row['name']} ({row['source']}): {row['differs']}.")
    return "\n".join(lines)


def paper_curve() -> str:
    """`results/maze-*-paper-curve.json`."""
    lines = ["| maze | step | minutes | single goal | Multi2D |", "|---|---|---|---|---|"]
    for maze in MAZES:
        file = RESULTS / f"maze-{maze}-paper-curve.json"
        if file.is_file():
            curve = json.loads(file.read_text())["metrics"]["curve"]
            for e in sorted(curve, key=lambda e: e["step"]):
                lines.append(
                    f"| {maze} | {e['step']:,} | {e['minutes']:.0f} | {e['single_score_mean']:.0f} "
                    f"| {e['multi_score_mean']:.0f} |"
                )
    return PAPER + "\n\n" + FOLD.format("Score at each checkpoint", "\n".join(lines))


def section() -> str:
    head = ["", *(f"{maze}" for maze in MAZES), "average", *(f"{maze}, Multi2D" for maze in MAZES), "average"]
    lines = [INTRODUCTION, "", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    rows = [measured(name, end) for name, end in ROWS.items()]
    rows.insert(1, trainings())
    rows += [measured(SHORTEST, reference="oracle"), measured(CONTROLLER, reference="controller")]
    lines += [row for row in rows if row] + published()
    return "\n".join([*lines, "", CONCLUSION, "", COLUMNS, "", *details()])


LEAD = """On D4RL's Maze2D the planner, a diffusion model of paths between two points, scores {ours} on average over
three mazes; the best published diffusion planner has {best}. The difference does not come from the diffusion
model: with the same path follower, graph search over the same recorded trips scores slightly more than our
model, {graph_search}; the shortest path on the map has {oracle} and a random sample of our model
{random_candidate}. The controller that made the data, which knows the map, has {controller}. In OGBench's large point
maze our planner succeeds in {large_ours} of the episodes and graph search in {large_graph}, but there only our planner
plans again when it leaves its path, so graph search is a weaker reference than in Maze2D. In the giant maze
they have {giant_ours} and {giant_graph}, which is no clear difference."""


def lead() -> str:
    """Where graph search over the same data beats the planner, where not, and what the path follower does."""
    names = {
        "": "",
        "-graph-search": "",
        "-random-candidate": "",
        "oracle": "oracle",
        "controller": "controller",
    }
    parts = {}
    for name, reference in names.items():
        found = [metrics(maze, False, "" if reference else name, reference) for maze in MAZES]
        parts[name] = fmean(m["score_mean"] for m in found if m)
    rows = json.loads((ROOT / "benchmarks" / "published.json").read_text())
    best = max(fmean(row["single"]) for row in rows if not row.get("latched"))
    shares = {}
    for maze in ("large", "giant"):
        found = json.loads((RESULTS / f"ogbench-pointmaze-{maze}.json").read_text())["metrics"]
        for short, row in (("ours", "unveil"), ("graph", "graph search over the data")):
            shares[f"{maze}_{short}"] = f"{100 * found[row]['success_rate']:.0f} %"
    scores = {name.strip("-").replace("-", "_") or "ours": f"{score:.1f}" for name, score in parts.items()}
    return LEAD.format(best=f"{best:.1f}", **scores, **shares)


def offpath() -> str:
    """`benchmarks/maze_offpath.py`."""
    file = RESULTS / "maze-offpath.json"
    if not file.is_file():
        return "Not measured yet: `python benchmarks/maze_offpath.py evaluate`."
    found = json.loads(file.read_text())["metrics"]
    new = found["unconnected"]["unveil"]["replans_mean"]
    lines = [
        "`python benchmarks/maze_offpath.py evaluate`, 200 episodes each, seed 0. In the first row samples cut walls,",
        f"and the ball arrives all the same, with {new:.3f} new plans per episode. Graph search was not run in the",
        "spiral maze.",
        "",
    ]
    lines += ["| task | method | arrive | first arrival, step | samples across a wall |", "|---" * 5 + "|"]
    names = {"unconnected": "medium, corner to corner", "spiral": "a spiral maze, random pairs"}
    methods = {
        ("unconnected", "unveil"): "unveil, trained on data in which no episode connects the corners",
        ("unconnected", "unveil, trained on connected data"): (
            "unveil as packaged, trained on all data (reference)"
        ),
        ("unconnected", "graph search over the same data"): "graph search over the data of the first row",
        ("spiral", "unveil"): "unveil, trained on data of this maze, 3,000 steps",
    }
    for task, name in names.items():
        for row, m in found[task].items():
            crossing = f"{100 * m['wall_crossing_rate']:.1f} %" if row.startswith("unveil") else "-"
            lines.append(
                f"| {name} | {methods.get((task, row), row)} | {100 * m['success_rate']:.1f} % | {m['arrival_step_mean']:.0f} "
                f"| {crossing} |"
            )
    m = found["via"]
    lines += [
        "",
        f"Waypoints, maze `large`, {m['n']} random triples of start, waypoint and goal: in "
        f"{100 * m['within_0.3_rate']:.1f} % of the episodes",
        f"the ball passes the waypoint within 0.3 cells ({m['distance_mean']:.3f} cells on average, "
        f"{m['distance_max']:.2f} at worst),",
        f"and in {100 * m['then_goal_rate']:.1f} % it then reaches the goal.",
    ]
    return "\n".join(lines)


def ogbench() -> str:
    """`benchmarks/ogbench_maze.py`."""
    files = [(maze, RESULTS / f"ogbench-pointmaze-{maze}.json") for maze in ("large", "giant")]
    found = {maze: json.loads(file.read_text()) for maze, file in files if file.is_file()}
    if not found:
        return "Not measured yet: `python benchmarks/ogbench_maze.py evaluate`."
    lines = [OGBENCH, ""]
    lines += ["| | " + " | ".join(found) + " |", "|---" * (len(found) + 1) + "|"]
    for row in next(iter(found.values()))["metrics"]:
        cells = [result["metrics"][row] for result in found.values()]
        shown = [f"{100 * m['success_rate']:.1f} ± {100 * m['success_ci95']:.1f}" for m in cells]
        lines.append(f"| {row} | " + " | ".join(shown) + " |")
    for row in dict.fromkeys(row for result in found.values() for row in result["published"]):
        cells = [
            "{} ± {}".format(*result["published"][row]) if row in result["published"] else "-"
            for result in found.values()
        ]
        lines.append(f"| {row}, published | " + " | ".join(cells) + " |")
    lines.append("")
    for maze, result in found.items():
        m = result["metrics"]["unveil"]
        every, chosen = (100 * m[f"{kind}wall_crossing_rate"] for kind in ("", "chosen_"))
        samples = f"{every:.0f} % of the samples and {chosen:.0f} % of the chosen ones"
        lines.append(
            f"`{maze}`: {samples} cross a wall somewhere; an episode takes {m['replans_mean']:.1f} new "
            "plans on average."
        )
    lines.append(
        "Most samples are therefore wrong somewhere, unlike those in Maze2D; choosing one of 32 and planning "
        "again make up for it."
    )
    return "\n".join(lines)


SETS = [
    f"{body}-{mix}"
    for body in ("hopper", "walker2d", "halfcheetah")
    for mix in ("medium-expert", "medium", "medium-replay")
]
BODIES = {  # name in the table: row of benchmarks/locomotion.py
    "behaviour in the data": "behaviour",
    "its best episode": "best",
    "behaviour cloning": "bc",
    "cloning of the best tenth": "bc10",
    "Diffuser, 6,000 steps": "diffuser",
    "**unveil**, chosen by the value": "unveil",
    "**unveil**, conditioned on the best return": "unveil-ask",
}
COSTS = {
    "behaviour cloning": "bc",
    "cloning of the best tenth": "bc10",
    "Diffuser": "diffuser",
    "Diffuser, 64 candidates": "diffuser-64",
    "**unveil**, chosen by the value": "unveil",
    "**unveil**, conditioned on the best return": "unveil-ask",
}
LOCOMOTION_LEAD = """The scores are D4RL's normalised scores (0: a random policy, 100: an expert), but on data sets that **we
made** in D4RL's style: they cannot be compared with published tables on D4RL's own files. On the
medium-expert, medium and medium-replay sets of Hopper the packaged models score {ours} at
about {rate} decisions per second on one core; the best recorded episodes have {best}. Cloning the best
tenth of the episodes scores {bc10}, more than six times as fast. On Walker2d and on HalfCheetah medium-expert the same
method scores more than cloning, on HalfCheetah medium and medium-replay as much."""
LOCOMOTION = """D4RL's normalised score on D4RL-style sets, which we made: do not compare with tables on D4RL's
own files. Mean and 95 % interval over 30 episodes (*n* where it differs; the behaviour: all recorded
episodes), MuJoCo 3.3.0. `python benchmarks/locomotion.py --train` makes all rows.

Each method had 15 minutes of two cores on each set; behaviour cloning takes 8,000 steps, which converge in
one or two minutes. Diffuser has its published network, loss and settings, but only 6,000 of its 1,000,000
steps (and 4,000 of the value's 200,000): its column is no reproduction.

Settings were chosen on episodes with other seeds: those of the value on hopper-medium-expert, those of the
return condition on each robot's sets. There is one exception. A first guidance scale of 8, chosen on two
sets of Hopper, scored 46.0 in the table's own episodes of hopper-medium-expert; then 2 was chosen, again on
other seeds. See the [log](../log.md).

On hopper-medium-expert, cloning the best tenth scores less than cloning all episodes. Its policy falls in
{falls} of the episodes, after {steps} steps on average; why was not investigated."""
COST = """What a decision and a training cost: *K* candidates and denoising steps of a decision; decisions per second for
one environment and one CPU thread; minutes of training of one core, without the time that other work on the
machine took. Diffuser's episodes ran in the float32 layout of `--fast`, its rate was measured without. Some rates of
Walker2d and HalfCheetah were measured beside other work, which slows them: compare those of one column with care."""


def locomotion_rows(name: str) -> dict[str, Any]:
    """The rows of a set that were measured."""
    file = RESULTS / f"locomotion-{name}.json"
    return json.loads(file.read_text())["metrics"] if file.is_file() else {}


def locomotion_lead() -> str:
    """Scores on Hopper's sets, beside the best episodes and the strongest cloning."""
    sets = [locomotion_rows(name) for name in SETS[:3]]

    def scores(row: str) -> str:
        one, two, three = (f"{found[row]['score_mean']:.1f}" for found in sets)
        return f"{one}, {two} and {three}"

    rate = round(fmean(found["unveil-ask"]["decisions_per_second"] for found in sets), -2)
    return LOCOMOTION_LEAD.format(
        ours=scores("unveil-ask"), best=scores("best"), bc10=scores("bc10"), rate=f"{rate:.0f}"
    )


def locomotion() -> str:
    """The tables of D4RL-style sets: scores, then costs; a column for each row of the benchmark."""
    clone = locomotion_rows("hopper-medium-expert").get("bc10", {})
    text = LOCOMOTION.format(
        falls=f"{100 * clone['fall_rate']:.0f} %" if clone else "-",
        steps=f"{clone['length_mean']:.0f}" if clone else "-",
    )
    lines = [text, "", "| set | " + " | ".join(BODIES) + " |", "|---|" + "---|" * len(BODIES)]
    costs = ["| set | " + " | ".join(COSTS) + " |", "|---|" + "---|" * len(COSTS)]
    for name in SETS:
        found = locomotion_rows(name)
        lines.append(
            f"| {name} | " + " | ".join(score_cell(found.get(row)) for row in BODIES.values()) + " |"
        )
        cells = (cost_cell(found.get(row), row, name) for row in COSTS.values())
        costs.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(
        [*lines, "", COST, "", FOLD.format("Costs of each method on each set", "\n".join(costs))]
    )


def score_cell(row: dict | None) -> str:
    """Score, interval, and n where it is not 30."""
    if row is None:
        return "not run"
    if "score_mean" not in row:
        return "no episodes"
    if row["n"] == 1:
        return f"{row['score_mean']:.1f}"
    n = "" if row["n"] == 30 else f" (n {row['n']})"
    return f"{row['score_mean']:.1f} ± {row['score_ci95']:.1f}{n}"


def cost_cell(row: dict | None, kind: str, name: str) -> str:
    """Candidates, steps, decisions per second and minutes, as far as they were measured. The rate of 64
    candidates depends on the body alone, and is measured on one of its sets."""
    measured = f"{name.split('-')[0]}-medium-expert"
    if row is None and kind == "diffuser-64" and kind in locomotion_rows(measured):
        return f"as on {measured}"
    if row is None:
        return "not run"
    parts = []
    if "candidates" in row:
        many = "s" if row["sampling_steps"] > 1 else ""
        parts.append(f"K {row['candidates']}, {row['sampling_steps']} step{many}")
    if "decisions_per_second" in row:
        rate = row["decisions_per_second"]
        parts.append(f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2g}/s")
    if "minutes" in row:
        parts.append(f"{row['minutes']:.0f} min" if row["minutes"] >= 1 else "under 1 min")
    return ", ".join(parts)


WARM = """![Score against denoising steps per decision, from the last plan and from noise](../warm-start.png)

Plans that the value chooses, on hopper-medium-expert, 15 episodes. Starting from the last plan (`--warm-steps`)
scores far lower than starting from noise, so it is off by default. The points: `python
benchmarks/locomotion.py --sets hopper-medium-expert --rows --curve 1 2 3 5 10`, then `python
benchmarks/locomotion_figure.py`."""


def warm_start() -> str:
    """The curve of return against denoising steps, if it was made."""
    return (
        WARM
        if (ROOT / "docs" / "warm-start.png").is_file()
        else "Warm-started planning again, return against denoising steps: not run."
    )


SPEED = """Guided planning with Diffuser's networks (Hopper, H = 32, 20 steps, 2 gradient steps each), not with ours: *eager* is
the released algorithm written in plain PyTorch, the other rows are unveil with the same weights, where
`--fast float32` and `--fast bfloat16` of `unveil eval locomotion` change the layout of the network, and
`--compile auto` compiles it, which takes minutes at the first plan. *Error* is the largest difference of a
finished plan from eager's, in units of the data's standard deviation, with untrained weights. *Of peak*:
floating-point operations of the published algorithm per second, divided by those of the largest matrix
product that was timed in the same run. unveil needs fewer operations for the same result, so it can exceed
100 %. *Eager (in the compiled run)*: eager itself is never compiled. `python
benchmarks/diffuser_speed.py --compile auto`."""


def speed() -> str:
    """`benchmarks/diffuser_speed.py`; what was not run says so."""
    file = RESULTS / "diffuser-speed.json"
    if not file.is_file():
        return (
            "Speed of guided planning with the published networks: not run (`benchmarks/diffuser_speed.py`)."
        )
    found = json.loads(file.read_text())
    lines = [
        "| batch, threads | row | ms per decision | decisions/s | steps/s | times eager | error | of peak |",
        "|---|---|---|---|---|---|---|---|",
    ]
    passes = [
        "| batch, threads | eager | float32, unveil | float32, OpenVINO | bfloat16, unveil | bfloat16, OpenVINO |",
        "|---|---|---|---|---|---|",
    ]
    names = ("eager", "ours_f32", "f32", "ours_bf16", "bf16")
    best = 0.0
    for cell in sorted(found["cells"], key=lambda c: (c["batch"], c["threads"], c["compiled"])):
        where = f"{cell['batch']}, {cell['threads']}{', compiled' if cell['compiled'] else ''}"
        for name, row in cell["rows"].items():
            if name == "parts":  # the networks' share of eager's time
                continue
            if "decision_ms" in row:
                error = f"{row['error']:.1e}" if "error" in row else "-"
                best = max(best, row["times_eager"] if row.get("error", inf) <= 1e-3 else 0.0)
                shown = [
                    f"{row['decision_ms']:,.0f}",
                    f"{row['decisions_per_second']:.3g}",
                    f"{row['steps_per_second']:.3g}",
                ]
                shown += [f"{row['times_eager']:.2f}", error, f"{100 * row['of_peak']:.0f} %"]
                label = "eager (in the compiled run)" if cell["compiled"] and name == "eager" else name
                lines.append(f"| {where} | {label} | " + " | ".join(shown) + " |")
            elif not cell["compiled"] and "note" not in row:
                times = [f"{row[f'unet_forward_ms_{kind}']:.3g}" for kind in names]
                passes.append(f"| {where} | " + " | ".join(times) + " |")
    lines += ["", "One pass of the U-Net in ms, beside OpenVINO:", "", *passes]
    text = [
        SPEED,
        "",
        f"In float32, compiled, unveil is up to {best:.2f} times as fast as eager, with an error below 0.001.",
    ]
    if paired := found.get("returns"):
        shown = [
            f"{name} {paired[name]['paired_difference']:+.1f} ± {paired[name]['ci95']:.1f}"
            for name in ("float32", "bfloat16")
            if name in paired
        ]
        text += [
            f"On {paired['dataset']} (K = {paired['candidates']}, n {paired['n']}) the layout changes the return of "
            f"{paired['off']['mean']:.0f} ± {paired['off']['ci95']:.0f} by",
            f"{' and '.join(shown)}, paired by episode: no difference found.",
        ]
    return "\n".join([*text, "", FOLD.format("Times by batch, threads and layout", "\n".join(lines))])


SOLVERS = (
    ("ddpm", 100),
    ("ddim", 1),
    ("ddim", 2),
    ("ddim", 3),
    ("ddim", 5),
    ("ddim", 16),
    ("dpmpp", 2),
    ("dpmpp", 3),
    ("dpmpp", 5),
)
NOISE = (("ddpm", 100), ("ddim", 10), ("ddim", 5), ("ddim", 1), ("dpmpp", 3))
POLICIES = {  # name in the table: row of benchmarks/pusht.py
    "replayed human demonstrations (a reference, not a limit)": "replay",
    "nearest recorded chunk": "knn-1",
    "mean of the 5 nearest": "knn-5",
    "behaviour cloning (squared error), same network": "mse",
    "bins, same network": "bins",
    "mixture density network, same network": "mdn",
    "**unveil**, U-Net, DDIM 10": "cnn",
    "unveil, transformer (3,500 steps, too few), DDIM 10": "transformer",
    "U-Net, without EMA of the weights": "cnn-raw",
    **{f"U-Net, {s.upper()} {k}": f"pareto-{s}-{k}" for s, k in SOLVERS},
    **{f"U-Net that predicts noise, {s.upper()} {k}": f"eps-{s}-{k}" for s, k in NOISE},
    **{f"U-Net, distilled, {k} call{'s' if k > 1 else ''}": f"student-{k}" for k in (1, 2, 3)},
    "U-Net that sees pixels": "pixels",
    **{
        f"U-Net with prefixes, DDIM 5, {n} action{'s' if n > 1 else ''} executed": f"n-action-{n}"
        for n in (1, 4, 8, 16)
    },
}
PUSHT = """*Score*: largest reward, mean and 95 % interval over *n* episodes from seed 100000 on (the replay: all recorded
ones). *Published 50*: its mean over the first 50 of them. *Difference to DDPM 100*: paired by episode, to DDPM
in 100 steps of the U-Net that predicts v; the rows that predict noise are compared with their own network.
*Success*: share of episodes that cover more than 95 % of the target. DPMPP 2 equals DDIM 2 because the first and the
last step of DPM-Solver++ are DDIM's. *Decision*: median time on one thread of an idle machine
(`--times`; the networks of the baselines are not laid out for inference, the policy's is).

`python benchmarks/pusht.py` makes all rows. They were measured with an earlier version, in which all episodes
shared one random generator; a rerun differs slightly.

Published results on the published 50: 0.95 / 0.91 (Diffusion Policy's U-Net on states; best checkpoint / mean of the
last ten), 0.95 / 0.79 (its transformer), 0.84 to 0.90 (IBC), 0.61 to 0.67 (LSTM-GMM), 0.70 to 0.79 (BET)."""
PUSHT_LEAD = """The packaged policy sees keypoints. It scores {wide} of 1 over 200 starts, and {first} on the 50 starts of
Diffusion Policy's evaluation, where the published U-Net has 0.95 (best checkpoint) and 0.91 (mean of the last
ten). It has 3.9 M parameters (the published one 66 M), trained for an hour on one core, and decides in {ms} ms.
The strongest baseline, a mixture density network with the same network and data, has {mdn} on these 50
starts. The policy that sees pixels is weaker: {pixels} over 200 starts."""


def pusht_lead() -> str:
    """The packaged policy beside the published one and the strongest baseline."""
    found = json.loads((RESULTS / "pusht.json").read_text())["metrics"]
    ours = found["cnn"]
    return PUSHT_LEAD.format(
        wide=f"{ours['score_mean']:.3f} ± {ours['score_ci95']:.3f}",
        first=f"{ours['published_mean']:.3f}",
        ms=f"{ours['decision_ms_p50']:.0f}",
        mdn=f"{found['mdn']['published_mean']:.3f}",
        pixels=f"{found['pixels']['score_mean']:.3f}",
    )


def pusht() -> str:
    """The table of policies; what was not run says so."""
    file = RESULTS / "pusht.json"
    found = json.loads(file.read_text())["metrics"] if file.is_file() else {}
    lines = [
        PUSHT,
        "",
        "| | score | published 50 | difference to DDPM 100 | success | decision |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in POLICIES.items():
        m = found.get(row)
        if m is None:
            lines.append(f"| {name} | not run | - | - | - | - |")
            continue
        first = f"{m['published_mean']:.3f}" if "published_mean" in m else "-"
        paired = (
            f"{m['minus_ddpm_mean']:+.3f} ± {m['minus_ddpm_ci95']:.3f}" if "minus_ddpm_mean" in m else "-"
        )
        spent = f"{m['decision_ms_p50']:.1f} ms" if "decision_ms_p50" in m else "-"
        score = f"{m['score_mean']:.3f} ± {m['score_ci95']:.3f} (n {m['n']})"
        lines.append(f"| {name} | {score} | {first} | {paired} | {100 * m['success_rate']:.0f} % | {spent} |")
    if ways := found.get("ways"):
        lines += [
            "",
            f"Does it take both ways around the block? From one mirror-symmetric start, {100 * ways['left_rate']:.0f} % of the "
            f"episodes went left and {100 * ways['right_rate']:.0f} % right;",
            f"{100 * ways['committed_rate']:.0f} % of them kept to that side. But of 20 symmetric starts at several distances, "
            f"it took both ways from {100 * ways['both_ways_of_20_starts']:.0f} % (8 episodes each),",
            "and always the same way from the others.",
        ]
    return "\n".join([*lines, *delays(found), *forecasts(found.get("energy")), *rates(found)])


def delays(found: dict[str, Any]) -> list[str]:
    """What a known prefix gains over the other methods, episode by episode, where all rows exist."""
    modes = ("wait", "naive", "soft", "prefix")
    if any(f"delay-{d}-{mode}" not in found for d in range(9) for mode in modes):
        return []
    lines = [
        "",
        "![Score against the delay between observing and acting, for four methods](../pusht-delay.png)",
        "",
        "Score against the delay in control steps of 0.1 s, for one policy with prefixes, DDIM 5, 100 episodes. The method",
        "`hard` was not measured.",
        "",
    ]
    body = [
        "| delay, s | `wait` | `naive` | `soft` | `prefix` | prefix - wait | prefix - naive | prefix - soft |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for d in range(9):
        scores = {mode: np.array(found[f"delay-{d}-{mode}"]["scores"]) for mode in modes}
        pairs = [paired_ci95(scores["prefix"], scores[mode]) for mode in modes[:3]]
        cells = [f"{scores[mode].mean():.3f}" for mode in modes] + [
            f"{mean:+.3f} ± {width:.3f}" for mean, width in pairs
        ]
        body.append(f"| {d / 10:.1f} | " + " | ".join(cells) + " |")
    return [*lines, FOLD.format("The numbers, and paired differences with 95 % intervals", "\n".join(body))]


def forecasts(energy: dict[str, Any] | None) -> list[str]:
    """The energy scores of held-out chunks: a row a head, a column a number of actions."""
    if energy is None:
        return []
    heads = {
        "diffusion, DDIM 10": "cnn",
        "mixture density network": "mdn",
        "bins": "bins",
        "mean (squared error)": "mse",
    }
    lines = [
        "",
        f"Energy score in pixels of {energy['n']} held-out windows over their first *h* executed actions, 16 draws each;",
        "lower is better:",
        "",
        "| | *h* = 1 | 2 | 4 | 8 |",
        "|---|---|---|---|---|",
    ]
    for name, head in heads.items():
        if f"{head}-1" in energy:
            lines.append(
                f"| {name} | " + " | ".join(f"{energy[f'{head}-{h}']:.2f}" for h in (1, 2, 4, 8)) + " |"
            )
    return lines


def rates(found: dict[str, Any]) -> list[str]:
    """Scores over learning rates and seeds, where all are there."""
    chosen, seeds = ("0.0001", "0.0003", "0.001"), (0, 1, 2)
    if any(f"lr{rate}-s{seed}" not in found for rate in chosen for seed in seeds):
        return []
    lines = [
        "",
        "How much do learning rate and training seed matter? Nine trainings of preset `tiny`, 1,500 steps, prediction of",
        "noise, 200 episodes each:",
        "",
        "| learning rate | seed 0 | seed 1 | seed 2 |",
        "|---|---|---|---|",
    ]
    for rate in chosen:
        lines.append(
            f"| {rate} | "
            + " | ".join(f"{found[f'lr{rate}-s{seed}']['score_mean']:.3f}" for seed in seeds)
            + " |"
        )
    return lines


def replay() -> str:
    """`benchmarks/pusht_replay.py`."""
    file = RESULTS / "pusht-replay.json"
    if not file.is_file():
        return "Not measured yet: `python benchmarks/pusht_replay.py`."
    m = json.loads(file.read_text())["metrics"]
    away = m["touching_n"] - m["touching_within_half_px_n"]
    people = f"{m['reward_mean']:.3f} ± {m['reward_ci95']:.3f} on average, {m['reward_min']:.3f} at least"
    return f"""All {m["n"]} demonstrations, replayed open loop from the first recorded state
(`python benchmarks/pusht_replay.py`). {m["apart_n"]} begin with the agent away from the block. In each of them the
largest error of the four coordinates (x and y of agent and block), as the median over the episode, is at most
{m["apart_median_px_max"]:.2f} of 512 pixels. {m["touching_n"]} begin in contact, by the recording's own count; {away} of these differ by
more than half a pixel, at most {m["touching_median_px_max"]:.1f} px, from the first step on. The likely reason: a contact has
velocities and an overlap that the solver is resolving, which no recorded state contains, and episodes begin
at rest. The largest reward of the demonstrations is {people};
{100 * m["success_rate"]:.1f} % of them cover 0.95 of the target."""


def main() -> None:
    page = ROOT / "docs" / "applications" / "planning-maze.md"
    for name, results in (("README.md", overview.section()), ("README.zh-CN.md", overview.chinese())):
        readme = ROOT / name
        readme.write_text(replaced(readme.read_text(encoding="utf-8"), "results", results), encoding="utf-8")
    text = page.read_text()
    for mark, content in (
        ("lead", lead()),
        ("results", section()),
        ("full", in_full()),
        ("curve", paper_curve()),
        ("offpath", offpath()),
        ("ogbench", ogbench()),
    ):
        text = replaced(text, mark, content)
    page.write_text(text)

    page = page.with_name("planning-locomotion.md")
    text = page.read_text()
    for mark, content in (
        ("lead", locomotion_lead()),
        ("locomotion", locomotion()),
        ("warm-start", warm_start()),
        ("speed", speed()),
    ):
        text = replaced(text, mark, content)
    page.write_text(text)

    page = page.with_name("policy-pusht.md")
    text = page.read_text()
    for mark, content in (("lead", pusht_lead()), ("replay", replay()), ("pusht", pusht())):
        text = replaced(text, mark, content)
    page.write_text(text)


if __name__ == "__main__":
    main()
