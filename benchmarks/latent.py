"""Latent diffusion and text to image: tables (a) to (d) of docs/applications/text-to-image.md. Resumable by rows.

    export UNVEIL_DATA=...                                               # emoji64.npz, and models/ with TAEF2 and SqueezeNet
    python benchmarks/latent.py --data                                   # runs/latent-data: shapes, emoji without held-out pairs
    python benchmarks/latent.py --train judge-pairs judge-styles ae-own  # and so on; a killed training goes on
    python benchmarks/latent.py --train                                  # all that are missing, in this order
    python benchmarks/latent.py                                          # every row that can be made; `--rows shapes-words` some
    python benchmarks/latent.py --run emoji-words=runs/emoji             # a training that was made elsewhere

Rows of `results/latent.json` are written one by one and not made again while they are there; a row that cannot be
made says what is missing. `--seeds 1` stands for the second trainings, whose names end in -s1.

Minutes are those of one core, by the processor's clock, which other programs do not change: trainings that are
limited by minutes time thirty steps first, and take as many as fit. Cosine schedules end with the last step.

    trainings                                       minutes of one core; `--minutes` changes those marked *
    judge-pairs, judge-styles                       a small CLIP and a classifier of styles, of real pictures; 20, 10
    ae-own                                          `unveil train autoencoder`, default settings: f 4, 4 channels; 25
    ae-<f4|f8>-<z4|z16>-<pixels|perceptual|full>    2,000 steps each: 8
    pixel, taef2, own, own-counted                  * 30: U-Nets of pixels, of TAEF2's codes, of ae-own's; the last has
                                                    its autoencoder's minutes taken off its own
    shapes-<words|minilm|random>, -drop0, -drop0.2  * 40: encoders of captions, and caption dropout (otherwise 0.1)
    emoji-<words|minilm|random>                     * 40: emoji without held-out pairs of concept and style
    lora-<1|4|16>, lora-full, lora-inversion        500 steps on twenty pictures, from emoji-words: 2

    rows
    diffusion-<pixel|taef2|own|own-counted>, -real-<...>     (a) distances, n 1000, DPM-Solver++ in 20 steps, and their bounds
    autoencoder-<own|taef2|shrunk-f|...>                     (b) PSNR and distances of held-out pictures' reconstructions
    shapes-choice-<t>, shapes-<t>, shapes-words-scale-<s>    (c) one and two objects, seen and held-out pairs, n 200 each
    emoji-choice-<t>, emoji-<t>, emoji-words-scale-<s>       (c) seen captions, held-out pairs, unseen concepts
    lora-<...>, lora-base, lora-real                         (d) style, concept kept, old styles kept, n 100

Scales of guidance are chosen in the rows `choice`, on captions of seen pairs or training pictures, with other
captions and other noise than any that is reported. Intervals are Wilson's for fractions, bootstrap (Frechet) or
Student's t over parts (kernel) for distances.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from latent import autoencoders, data, diffusion, emoji, lora, shapes, trainings
from latent.rows import Bench, NotRunError, stored, with_seed, without_seed, write_row
from unveil.errors import UnveilError

TABLES = (diffusion, autoencoders, shapes, emoji, lora)
TRAININGS = (*trainings.NAMES, *lora.NAMES)
MISSING = (NotRunError, UnveilError, OSError, ImportError)


def rows(bench: Bench, seeds: tuple[int, ...] = (0, 1)) -> dict[str, Callable[[], dict[str, Any]]]:
    """All rows by name."""
    return {name: row for table in TABLES for name, row in table.rows(bench, seeds).items()}


def train(names: list[str], bench: Bench) -> None:
    """Train what is missing, one after the other."""
    for name in names:
        work = lora.train_one if without_seed(name) in lora.NAMES else trainings.train_one
        try:
            print(work(name, bench), flush=True)
        except MISSING as reason:
            print(f"{name}: not run ({reason})", flush=True)


def make(names: list[str], bench: Bench, made: dict[str, Callable[[], dict[str, Any]]]) -> None:
    """Make the rows that are not there."""
    for name in names:
        if name in stored()["metrics"]:
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


def pointed(words: list[str]) -> dict[str, Path]:
    """NAME=PATH, of trainings that were made elsewhere.

    Raises:
        ValueError: no such training, or no "=".
    """
    found: dict[str, Path] = {}
    for word in words:
        name, equals, path = word.partition("=")
        if not equals or without_seed(name) not in TRAININGS:
            raise ValueError(f"--run {word}: give NAME=PATH, with one of {', '.join(TRAININGS)}")
        found[name] = Path(path)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", action="store_true", help="only make the files of runs/latent-data")
    parser.add_argument(
        "--train", nargs="*", metavar="NAME", choices=TRAININGS, help="only train these, or all"
    )
    parser.add_argument("--rows", nargs="+", default=[], metavar="ROW", help="only these rows")
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[0, 1], help="seeds of trainings and their rows"
    )
    parser.add_argument("--run", nargs="+", default=[], metavar="NAME=PATH", help="trainings made elsewhere")
    parser.add_argument("--minutes", type=float, default=0.0, help="of trainings that are limited by minutes")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    try:
        bench = Bench(pointed(arguments.run), arguments.threads, arguments.minutes)
        made = rows(bench, tuple(arguments.seeds))
        unknown = [name for name in arguments.rows if name not in made]
        if unknown:
            raise ValueError(f"--rows {unknown[0]}: no such row; there are {', '.join(made)}")
    except ValueError as error:
        parser.error(str(error))
    if arguments.data:
        made_files = (data.shapes_file, data.emoji_train, data.emoji_judged, data.new_style)
        print("\n".join(str(make_file()) for make_file in made_files))
    elif arguments.train is not None:
        names = arguments.train or list(TRAININGS)
        each = [with_seed(n, seed) for seed in arguments.seeds for n in names]
        train([n for n in each if n in TRAININGS or without_seed(n) not in trainings.JUDGES], bench)
    else:
        make(arguments.rows or list(made), bench, made)


if __name__ == "__main__":
    main()
