"""The program of a benchmark: its trainings and its rows, each of which is made once."""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from latent.rows import Bench, NotRunError, stored, with_seed, without_seed, write_row
from unveil.errors import UnveilError

MISSING = (NotRunError, UnveilError, OSError, ImportError)
Rows = dict[str, Callable[[], dict[str, Any]]]


class Program(NamedTuple):
    """A benchmark.

    Args:
        name: of `Bench`.
        about: the text of --help.
        trainings: names, in an order in which each finds what it needs.
        train_one: trains, or goes on; returns a line that says what was done.
        rows: all rows by name, for some seeds.
        files: make the data.
        once: trainings without a second seed.
    """

    name: str
    about: str
    trainings: tuple[str, ...]
    train_one: Callable[[str, Bench], str]
    rows: Callable[[Bench, tuple[int, ...]], Rows]
    files: tuple[Callable[[], Path], ...]
    once: tuple[str, ...] = ()


def train(names: list[str], bench: Bench, train_one: Callable[[str, Bench], str]) -> None:
    """Train what is missing, one after the other."""
    for name in names:
        try:
            print(train_one(name, bench), flush=True)
        except MISSING as reason:
            print(f"{name}: not run ({reason})", flush=True)


def make(names: list[str], bench: Bench, made: Rows) -> None:
    """Make the rows that are not there."""
    for name in names:
        if name in stored(bench)["metrics"]:
            continue
        began = time.perf_counter()
        try:
            metrics = made[name]()
        except MISSING as reason:
            print(f"{name}: not run ({reason})", flush=True)
            continue
        write_row(name, metrics, time.perf_counter() - began, bench)
        shown = {key: round(value, 3) for key, value in metrics.items() if isinstance(value, float)}
        print(f"{name}: {shown}", flush=True)


def pointed(words: list[str], trainings: tuple[str, ...]) -> dict[str, Path]:
    """NAME=PATH, of trainings that were made elsewhere.

    Raises:
        ValueError: no such training, or no "=".
    """
    found: dict[str, Path] = {}
    for word in words:
        name, equals, path = word.partition("=")
        if not equals or without_seed(name) not in trainings:
            raise ValueError(f"--run {word}: give NAME=PATH, with one of {', '.join(trainings)}")
        found[name] = Path(path)
    return found


def run(program: Program) -> None:
    """Read the flags, and train or make rows."""
    parser = argparse.ArgumentParser(
        description=program.about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", action="store_true", help="only make the files of data below runs/")
    parser.add_argument(
        "--train", nargs="*", metavar="NAME", choices=program.trainings, help="only train these, or all"
    )
    parser.add_argument("--rows", nargs="+", default=[], metavar="ROW", help="only these rows")
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[0, 1], help="seeds of trainings and their rows"
    )
    parser.add_argument("--run", nargs="+", default=[], metavar="NAME=PATH", help="trainings made elsewhere")
    parser.add_argument("--minutes", type=float, default=0.0, help="of trainings that are limited by minutes")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--count", type=int, default=0, help="pictures of a kind, for a quick look")
    parser.add_argument("--results", type=Path, help="folder for the results, for a quick look")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    try:
        elsewhere = pointed(arguments.run, program.trainings)
        limits = (arguments.threads, arguments.minutes)
        bench = Bench(elsewhere, *limits, program.name, arguments.count, arguments.results)
        if arguments.count and arguments.results is None:
            raise ValueError("--count is for a quick look; give --results, another folder")
        made = program.rows(bench, tuple(arguments.seeds))
        unknown = [name for name in arguments.rows if name not in made]
        if unknown:
            raise ValueError(f"--rows {unknown[0]}: no such row; there are {', '.join(made)}")
    except ValueError as error:
        parser.error(str(error))
    if arguments.data:
        print("\n".join(str(make_file()) for make_file in program.files))
    elif arguments.train is not None:
        names = arguments.train or list(program.trainings)
        each = [
            with_seed(name, seed)
            for seed in arguments.seeds
            for name in names
            if not (seed and name in program.once)
        ]
        train(each, bench, program.train_one)
    else:
        make(arguments.rows or list(made), bench, made)
