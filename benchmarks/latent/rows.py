"""What all tables share: run folders, rows of `results/<benchmark>.json`, numbers with their intervals."""

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

RESULTS = Path(__file__).resolve().parents[1] / "results"
RUNS = Path("runs")
SCALES = ("1", "2", "3", "4", "6", "8")
CHOSEN_ON, REPORTED_ON = 1_000_000, 2_000_000
"""Seeds of noise and prompts from here on: of those that a scale is chosen on, and of reported numbers."""


class NotRunError(Exception):
    """What is missing for a row, and the command that makes it."""


@dataclass(frozen=True)
class Bench:
    """Which benchmark, where its runs and results lie, and how long trainings and rows take.

    Args:
        pointed: folders of trainings that were made elsewhere, by name of the training.
        threads: CPU threads.
        minutes: minutes of one core for each training that is limited by time; 0: those of its table.
        name: of the benchmark, which its run folders and its file of results begin with.
        count: largest number of pictures of a kind, for a quick look; 0: those of the tables.
        results: folder for the results; None: that of the repository.
    """

    pointed: Mapping[str, Path] = field(default_factory=dict[str, Path])
    threads: int = 1
    minutes: float = 0.0
    name: str = "latent"
    count: int = 0
    results: Path | None = None

    @property
    def command(self) -> str:
        """The command of the benchmark, without flags."""
        return f"python benchmarks/{self.name.replace('-', '_')}.py"

    @property
    def file(self) -> Path:
        """The file of results."""
        return (self.results or RESULTS) / f"{self.name}.json"

    def folder(self, name: str) -> Path:
        """The run folder of a training."""
        return self.pointed.get(name, RUNS / f"{self.name}-{name}")

    def plan(self, name: str) -> Path:
        """The plan of a training that is limited by minutes, beside its run folder."""
        return RUNS / f"{self.name}-{name}.plan.json"

    def few(self, usual: int) -> int:
        """A number of pictures, at most `count`."""
        return min(usual, self.count) if self.count else usual

    def training_command(self, name: str) -> str:
        """The command that makes a training."""
        return f"{self.command} --train {without_seed(name)} --seeds {seed_of(name)}"

    def finished(self, name: str) -> Path:
        """The last checkpoint of a training.

        Raises:
            NotRunError: it is missing, or its training is not finished.
        """
        run = self.folder(name)
        try:
            newest = find_checkpoint(str(run))
        except UnveilError as error:
            raise NotRunError(f"{run} has no checkpoint: {self.training_command(name)}") from error
        if name not in self.pointed:
            steps = json.loads((run / "config.json").read_text())["steps"]
            if newest.name != f"checkpoint-{steps}":
                raise NotRunError(f"{run} is not finished, at {newest.name}: {self.training_command(name)}")
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


def trained_with(bench: Bench, name: str) -> dict[str, Any]:
    """What a row says of a training: its folder, its steps, and its minutes, with those of encoding the images."""
    checkpoint, spent = bench.finished(name), core_minutes(bench.finished(name))
    plan = bench.plan(name)
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
    return {
        "frechet_distance": frechet_distance(real, made),
        "frechet_distance_ci95": frechet_ci95(real, made, resamples),
        **kernel(real, made, parts),
        "n": len(made),
        "n_real": len(real),
    }


def kernel(real: np.ndarray, made: np.ndarray, parts: int = 8) -> dict[str, float]:
    """Kernel distance of features (N, D) to those of real images, with the 95 % interval of `distances`."""
    each = [kernel_distance(real, part) for part in np.array_split(made, min(parts, len(made) // 2))]
    return {
        "kernel_distance": kernel_distance(real, made),
        "kernel_distance_ci95": mean_ci95(np.array(each))[1],
    }


def stored(bench: Bench) -> dict[str, Any]:
    """The results so far."""
    file = bench.file
    return json.loads(file.read_text()) if file.is_file() else {"recipe": bench.name, "metrics": {}}


def row_of(name: str, bench: Bench) -> dict[str, Any]:
    """A row that is there.

    Raises:
        NotRunError: it is not.
    """
    found = stored(bench)["metrics"].get(name)
    if found is None:
        raise NotRunError(f"the row {name} is needed first: {bench.command} --rows {name}")
    return found


def write_row(name: str, metrics: Mapping[str, Any], seconds: float, bench: Bench) -> None:
    """Add a row to the results, with what it depends on; other processes may add rows meanwhile."""
    pointed = "".join(f" --run {key}={path}" for key, path in sorted(bench.pointed.items()))
    few = f" --count {bench.count}" if bench.count else ""
    command = f"{bench.command} --rows {name} --threads {bench.threads}{few}{pointed}"
    result = stored(bench)
    result["metrics"][name] = (
        {"seed": seed_of(name), "commit": commit(), "command": command, "seconds": seconds}
        | dict(metrics)
        | machine()
    )
    result |= {"protocol": f"see {bench.command.split()[1]}", "seeds": [0, 1]}
    bench.file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(bench.file) as partial:
        partial.write_text(json.dumps(result, indent=1) + "\n")
