"""What all tables share: run folders, rows of `results/latent.json`, numbers with their intervals."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from images import frechet_ci95
from unveil.errors import UnveilError
from unveil.files.atomic import replacing
from unveil.image.evaluation.distances import frechet_distance, kernel_distance
from unveil.runs.checkpoints import find_checkpoint
from unveil.runs.machine import commit, machine
from unveil.runs.statistics import mean_ci95, wilson_ci95

RESULTS = Path(__file__).resolve().parents[1] / "results" / "latent.json"
RUNS = Path("runs")
SCALES = ("1", "2", "3", "4", "6", "8")
CHOSEN_ON, REPORTED_ON = 1_000_000, 2_000_000
"""Seeds of noise and prompts from here on: of those that a scale is chosen on, and of reported numbers."""
COMMAND = "python benchmarks/latent.py"


class NotRunError(Exception):
    """What is missing for a row, and the command that makes it."""


@dataclass(frozen=True)
class Bench:
    """Where runs lie, and how long trainings take.

    Args:
        pointed: folders of trainings that were made elsewhere, by name of the training.
        threads: CPU threads.
        minutes: minutes of one core for each training that is limited by time; 0: those of its table.
    """

    pointed: Mapping[str, Path] = field(default_factory=dict[str, Path])
    threads: int = 1
    minutes: float = 0.0

    def folder(self, name: str) -> Path:
        """The run folder of a training."""
        return self.pointed.get(name, RUNS / f"latent-{name}")

    def finished(self, name: str) -> Path:
        """The last checkpoint of a training.

        Raises:
            NotRunError: it is missing, or its training is not finished.
        """
        run = self.folder(name)
        try:
            newest = find_checkpoint(str(run))
        except UnveilError as error:
            raise NotRunError(f"{run} has no checkpoint: {training_command(name)}") from error
        if name not in self.pointed:
            steps = json.loads((run / "config.json").read_text())["steps"]
            if newest.name != f"checkpoint-{steps}":
                raise NotRunError(f"{run} is not finished, at {newest.name}: {training_command(name)}")
        return newest


def with_seed(name: str, seed: int) -> str:
    """The name of a training or row with its seed: the name itself for 0, else with -s1."""
    return f"{name}-s{seed}" if seed else name


def seed_of(name: str) -> int:
    """The seed at the end of a name."""
    _, dash, number = name.rpartition("-s")
    return int(number) if dash and number.isdecimal() else 0


def without_seed(name: str) -> str:
    """A name without its seed."""
    return name.removesuffix(f"-s{seed_of(name)}")


def training_command(name: str) -> str:
    """The command that makes a training."""
    return f"{COMMAND} --train {without_seed(name)} --seeds {seed_of(name)}"


def core_minutes(checkpoint: Path) -> float | None:
    """Minutes of one core that the steps of a training took, by its own records; None without records."""
    log = next(
        (f for f in (checkpoint / "metrics.jsonl", checkpoint.parent / "metrics.jsonl") if f.is_file()), None
    )
    if log is None:
        return None
    spent, before = 0.0, 0
    for line in log.read_text().splitlines():
        record = json.loads(line)
        steps = record["step"] - before
        spent += steps * record.get("cpu_seconds_per_step", 1.0 / record["steps_per_second"]) / 60.0
        before = record["step"]
    return spent


def plan_file(name: str) -> Path:
    """The plan of a training that is limited by minutes, beside its run folder."""
    return RUNS / f"latent-{name}.plan.json"


def trained_with(bench: Bench, name: str) -> dict[str, Any]:
    """What a row says of a training: its folder, its steps, and its minutes, with those of encoding the images."""
    checkpoint, spent = bench.finished(name), core_minutes(bench.finished(name))
    plan = plan_file(name)
    if spent is not None and name not in bench.pointed and plan.is_file():
        spent += json.loads(plan.read_text())["preparation_seconds"] / 60.0
    return {"run": str(bench.folder(name)), "checkpoint": checkpoint.name, "training_core_minutes": spent}


def rate(name: str, hits: Sequence[bool] | np.ndarray) -> dict[str, float]:
    """A fraction with Wilson's 95 % interval, and of how many."""
    count, total = int(np.sum(np.asarray(hits, bool))), len(hits)
    low, high = wilson_ci95(count, total)
    mean = count / total if total else float("nan")
    return {name: mean, f"{name}_low": low, f"{name}_high": high, f"{name}_n": total}


def mean(name: str, values: np.ndarray) -> dict[str, float]:
    """A mean with its 95 % interval (Student's t), and of how many."""
    middle, half = mean_ci95(np.asarray(values, np.float64))
    return {name: middle, f"{name}_ci95": half, f"{name}_n": len(values)}


def distances(real: np.ndarray, made: np.ndarray, parts: int = 8, resamples: int = 100) -> dict[str, float]:
    """Frechet and kernel distance of features (N, D) to those of real images, with 95 % intervals over `made`.

    That of the Frechet distance is 1.96 standard deviations of a bootstrap, that of the kernel distance
    Student's t over `parts` parts.
    """
    thirds = [kernel_distance(real, part) for part in np.array_split(made, min(parts, len(made) // 2))]
    return {
        "frechet_distance": frechet_distance(real, made),
        "frechet_distance_ci95": frechet_ci95(real, made, resamples),
        "kernel_distance": kernel_distance(real, made),
        "kernel_distance_ci95": mean_ci95(np.array(thirds))[1],
        "n": len(made),
        "n_real": len(real),
    }


def stored() -> dict[str, Any]:
    """The results so far."""
    return json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"recipe": "latent", "metrics": {}}


def row_of(name: str) -> dict[str, Any]:
    """A row that is there.

    Raises:
        NotRunError: it is not.
    """
    found = stored()["metrics"].get(name)
    if found is None:
        raise NotRunError(f"the row {name} is needed first: {COMMAND} --rows {name}")
    return found


def write_row(name: str, metrics: Mapping[str, Any], seconds: float, bench: Bench) -> None:
    """Add a row to the results, with what it depends on; other processes may add rows meanwhile."""
    pointed = "".join(f" --run {key}={path}" for key, path in sorted(bench.pointed.items()))
    command = f"{COMMAND} --rows {name} --threads {bench.threads}{pointed}"
    result = stored()
    result["metrics"][name] = (
        {"seed": seed_of(name), "commit": commit(), "command": command, "seconds": seconds}
        | dict(metrics)
        | machine()
    )
    result |= {"protocol": "see benchmarks/latent.py", "seeds": [0, 1]}
    RESULTS.parent.mkdir(exist_ok=True)
    with replacing(RESULTS) as partial:
        partial.write_text(json.dumps(result, indent=1) + "\n")
