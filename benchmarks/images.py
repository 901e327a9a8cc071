"""Images on Fashion-MNIST, 28 x 28 grey: solvers, objectives, variances, guidance, orders, and a duel of equal minutes. Resumable by rows.

    unveil train classifier --data fashion-mnist --clean --steps 1500 --out runs/image-judge --resume     # or --train judge; and so on
    python benchmarks/images.py --train judge guide classes linear-simple linear-hybrid linear-vlb cosine-simple cosine-hybrid cosine-vlb
    python benchmarks/images.py --train classes-s1 linear-simple-s1 linear-hybrid-s1    # and so on: the second seeds
    python benchmarks/images.py                                       # every row that can be made; `--rows order-ddim-10` some
    python benchmarks/images.py --train duel-ours-s0 duel-lucidrains-s0 duel-diffusers-s0 --minutes 20 --threads 2   # and -s1
    python benchmarks/images_figure.py

A killed training goes on with the same command (but a duel's, which begins again). All cells are the same network of 1.19 M parameters, the
same 2,400 steps of 64 images and the same learning rate; `-s1` behind a name is the second seed, of weights and batches and, of a row, of
noise too. Costs below are minutes of one core of an AMD EPYC, measured beside other work.

The judge and the guide of all rows lie in benchmarks/weights, so that rows that are made elsewhere or later are by the same ones.

    trainings      judge 2, guide 3, classes 7 and each cell 8; a duel its minutes; rows of duels: ours 2, lucidrains 20, diffusers 25

Rows of `results/images.json`, each written when it is done and not made again while it is there; a row that cannot be made says why. Two
processes may make different rows at once. Those of distances have calls of the network (nfe), n, the extractor, and Frechet distances
of other training images (floor), held-out ones and of Gaussian pixels (gaussian) by the same n. Intervals are over samples: +- 1.96
deviations of a bootstrap (Frechet), Student's t over eight parts (kernel) or over images (bits, PSNR), or binomial (shares).

    solvers-<ddim|ddpm|ddpm-large>-<steps>[-s1]  1. linear-simple in 10, 20, 50, 100 and 1000 steps; n 512                        45 minutes
    packaged-<as above>-<steps>                     of the packaged model, which is larger, trained longer and told the class          10
    objective-<schedule>-<loss>[-s1]             2. bits a dimension of 128 test images, all 1000 terms, and 100 steps; n 1024         35
    variance-<schedule>-<kind>-<steps>[-s1]      3. of the hybrid cells, learned, small and large, respaced to 25 and 50; n 1024       12
    guide-<classifier|free>-<s>[-s1]             4. DDIM, 25 steps: guide leads linear-simple, classes leads itself; n 1024         20
    order-<solver>-<nfe>[-s1]                    5. DDIM, DPM-Solver++ and Heun by calls, and how far from the exact solution          5
    duel-<who>-s<seed>                           6. equal minutes, threads, batches and parameters +- 10 %: DDIM in 50 steps, n 1024,
                                                    and each by default (DPM-Solver++ 20, DDIM 250, DDPM 1000), n 256
    duel-rates                                      training and sampling, interleaved
    restore-<task>[-s1]                          7. 64 test images damaged and restored by linear-simple, DPM-Solver++ in 50 steps: PSNR
                                                    of one sample, of the mean of four, of bicubic and median

Peers are optional: `pip install --no-deps --target PEERS denoising-diffusion-pytorch ema-pytorch einops diffusers accelerate`, then
PYTHONPATH=PEERS; see benchmarks/images_duel.py.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from unveil.errors import UnveilError
from unveil.files.atomic import replacing
from unveil.files.pictures import write_picture
from unveil.image.data.images import ImageSet
from unveil.image.data.reading import Reading
from unveil.image.data.source import read_images
from unveil.image.evaluation.distances import frechet_distance, kernel_distance, precision_recall
from unveil.image.evaluation.features import Judged
from unveil.image.evaluation.metrics import gaussian_images
from unveil.image.evaluation.restoration import psnr
from unveil.image.generation import NOTHING, Given, ImageSettings, generate
from unveil.image.likelihood import bits_per_dim
from unveil.image.model import ImageModel
from unveil.image.recipes.classifier.config import TrainClassifier
from unveil.image.recipes.classifier.train import train_classifier
from unveil.image.recipes.config import SampleImage
from unveil.image.recipes.from_pictures import restoration
from unveil.image.recipes.load import load_classifier, load_image, read_classifier_config, read_image_config
from unveil.image.recipes.train import train_image
from unveil.image.recipes.train_config import TrainImage, for_method
from unveil.runs.checkpoints import find_checkpoint
from unveil.runs.flags import changed
from unveil.runs.machine import commit, machine
from unveil.runs.statistics import mean_ci95, paired_ci95
from unveil.training.checkpoint import latest_checkpoint

RESULTS = Path(__file__).resolve().parent / "results" / "images.json"
RUNS, KEPT = Path("runs"), Path(__file__).resolve().parent / "weights"
DATA, PACKAGED = "fashion-mnist", "fashion-mnist"
BASE = changed(
    TrainImage(),
    data=DATA,
    width=32,
    steps=2_400,
    batch_size=64,
    warmup=100,
    save_every=100,
    bfloat16=False,
    device="cpu",
)
JUDGE = changed(
    TrainClassifier(), data=DATA, clean=True, steps=1_500, save_every=100, bfloat16=False, device="cpu"
)
CELLS = [f"{schedule}-{loss}" for schedule in ("linear", "cosine") for loss in ("simple", "hybrid", "vlb")]
MODELS = {f"{name}{more}": seed for name in (*CELLS, "classes") for more, seed in (("", 0), ("-s1", 1))}
CLASSIFIERS = {"judge": JUDGE, "guide": changed(JUDGE, clean=False, steps=2_000)}
WHO, SEEDS = ("ours", "lucidrains", "diffusers"), (0, 1)
DUELS = [f"duel-{who}-s{seed}" for who in WHO for seed in SEEDS]
FEW, MANY, BOUNDED, DEFAULTS = (
    512,
    1024,
    128,
    256,
)  # images of table 1, of the others, of bits, of a duel's defaults
REFERENCE = "objective-linear-simple"


class NotRunError(Exception):
    """What is missing for a row."""


def config_of(name: str) -> TrainImage:
    """The flags of a model: a cell's schedule and loss, or classes."""
    config = changed(BASE, out=RUNS / f"image-{name}", seed=MODELS[name])
    if name.startswith("classes"):
        return replace(for_method(config, "ddpm"), classes=True)
    schedule, loss = name.split("-")[:2]
    config = for_method(config, "ddpm" if schedule == "linear" else "iddpm")
    return replace(config, learned_variance=loss != "simple", loss=loss)


def finished(name: str, recipe: str = "image") -> Path:
    """The last checkpoint of runs/image-<name>; of judge and guide, the weights beside this file where there is no run.

    Raises:
        NotRunError: it is not there, or not finished.
    """
    run = RUNS / f"image-{name}"
    if not run.is_dir() and (KEPT / run.name).is_dir():
        return KEPT / run.name
    newest = latest_checkpoint(run) if run.is_dir() else None
    if (
        newest is None
        or newest.name
        != f"checkpoint-{(read_classifier_config if recipe == 'classifier' else read_image_config)(run)['steps']}"
    ):
        raise NotRunError(f"{run} is missing or not finished: python benchmarks/images.py --train {name}")
    return newest


def train_one(name: str, minutes: float, threads: int) -> None:
    """Train runs/image-<name>, or go on with it; a duel in a process of its own."""
    if name.startswith("duel"):
        if not (RUNS / name / "trained.json").is_file():
            duel(*duellist(name), "--minutes", str(minutes), "--threads", str(threads))
        return
    trains: Callable[..., Path] = train_image
    config: Any = (
        config_of(name) if name in MODELS else changed(CLASSIFIERS[name], out=RUNS / f"image-{name}")
    )
    if name in CLASSIFIERS:
        trains = train_classifier
    began = time.perf_counter()
    trains(changed(config, threads=threads, resume=config.run.folder.is_dir()), lambda *_: None)
    print(f"{name}: {(time.perf_counter() - began) / 60.0:.1f} minutes", flush=True)


def duellist(name: str) -> tuple[str, ...]:
    _, who, seed = name.split("-")
    return "--who", who, "--seed", seed[1:], "--out", str(RUNS / name)


def duel(*flags: str) -> None:
    """benchmarks/images_duel.py, which says what is missing in its last line.

    Raises:
        NotRunError: it stopped.
    """
    file = Path(__file__).resolve().with_name("images_duel.py")
    done = subprocess.run([sys.executable, str(file), *flags], stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise NotRunError((done.stderr.strip().splitlines() or ["no word"])[-1])


@cache
def data(test: bool = False) -> ImageSet:
    return read_images(DATA, Reading(), test=test)


@cache
def judge() -> Judged:
    return Judged(load_classifier(finished("judge", "classifier"), "cpu"), "image-judge")


@cache
def references(n: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Features of n training images, and Frechet distances of what bounds all others; the same images for every row of that n."""
    rng, train = np.random.default_rng(0), data().pixels
    order = rng.permutation(len(train))
    real = judge()(train[order[:n]])
    others = {
        "floor": train[order[n : 2 * n]],
        "held_out": data(test=True).pixels[rng.permutation(len(data(test=True)))[:n]],
        "gaussian": gaussian_images(train[order[:10_000]], n, rng),
    }
    return real, {
        "extractor": judge().name,
        **{name: frechet_distance(real, judge()(pixels)) for name, pixels in others.items()},
    }


def frechet_ci95(real: np.ndarray, made: np.ndarray, resamples: int = 200) -> float:
    """1.96 deviations of the distance over resamples of `made`; their mean, which repeats within a resample push up, is not used."""
    rng = np.random.default_rng(0)
    return 1.96 * float(
        np.std(
            [frechet_distance(real, made[rng.integers(len(made), size=len(made))]) for _ in range(resamples)]
        )
    )


def share_ci95(share: float, n: int) -> float:
    return 1.96 * (share * (1.0 - share) / n) ** 0.5


def scored(pixels: np.ndarray, nfe: int, asked: np.ndarray | None = None) -> dict[str, Any]:
    """A row: what these images are worth, beside what bounds it, with intervals.

    Args:
        asked: the class that each should be of.
    """
    n = len(pixels)
    real, bounds = references(n)
    made = judge()(pixels)
    precision, recall = precision_recall(real, made)
    row = {
        "frechet_distance": frechet_distance(real, made),
        "frechet_distance_ci95": frechet_ci95(real, made),
    }
    row |= {"kernel_distance": kernel_distance(real, made)}
    row |= {
        "kernel_distance_ci95": mean_ci95(
            np.array([kernel_distance(real, part) for part in np.array_split(made, 8)])
        )[1]
    }
    for name, share in (("precision", precision), ("recall", recall)):
        row |= {name: share, f"{name}_ci95": share_ci95(share, n)}
    if asked is not None:
        hits = float((judge().classifier.predicted(torch.from_numpy(pixels)).numpy() == asked).mean())
        row |= {"class_hit_rate": hits, "class_hit_rate_ci95": share_ci95(hits, n)}
    return row | {"nfe": nfe, "n": n} | bounds


@cache
def trained(name: str) -> ImageModel:
    return load_image(find_checkpoint(name) if name == PACKAGED else finished(name), "cpu")


def classes(n: int) -> torch.Tensor:
    """n classes, as often as in the data: those of random training images."""
    labels = data().labels
    assert labels is not None
    return torch.from_numpy(np.random.default_rng(1).permutation(labels)[:n].astype(np.int64))


def sampled(name: str, n: int, given: Given = NOTHING, told: bool = False, **settings: Any) -> dict[str, Any]:
    """n images of a model, from the same noise whatever the settings, that of the model's seed."""
    finished("judge", "classifier")
    model = trained(name)
    labels = classes(n) if told else None
    began = time.perf_counter()
    noise = torch.Generator().manual_seed(MODELS.get(name, 0))
    made = generate(model, labels, n, ImageSettings(**settings), noise, 128, given=given)
    seconds = time.perf_counter() - began
    return scored(made.pixels.numpy(), made.calls, None if labels is None else labels.numpy()) | {
        "images_per_second": n / seconds
    }


def objective(name: str) -> dict[str, Any]:
    """The whole bound of the first test images (a fixed variance is the large one), and samples."""
    model, generator = trained(name), torch.Generator().manual_seed(0)
    bits = bits_per_dim(
        model, torch.from_numpy(np.array(data(test=True).pixels[:BOUNDED])), None, generator, "large"
    ).total.numpy()
    mean, half = mean_ci95(bits)
    row = {
        "bits_per_dim": mean,
        "bits_per_dim_ci95": half,
        "bits_n": len(bits),
        "bits": bits.round(5).tolist(),
    }
    return sampled(name, MANY, solver="ddpm", steps=100) | row


def led(scale: float, more: str) -> dict[str, Any]:
    guide = load_classifier(finished("guide", "classifier"), "cpu")
    return sampled(
        f"linear-simple{more}", MANY, Given(guide), True, solver="ddim", steps=25, classifier_scale=scale
    )


@cache
def solution(name: str) -> np.ndarray:
    """What the flow of a model leads to, from fixed noise, by Heun in 100 steps."""
    return solved(name, "heun", 100)


def solved(name: str, solver: str, steps: int, n: int = FEW // 8) -> np.ndarray:
    settings: Any = ImageSettings(solver=solver, steps=steps)  # pyright: ignore[reportArgumentType]
    noise = torch.randn((n, 1, 28, 28), generator=torch.Generator().manual_seed(2))
    return (
        generate(
            trained(name), None, n, settings, torch.Generator().manual_seed(0), n, noise=noise
        ).pixels.numpy()
        / 1.0
    )


def ordered(solver: str, calls: int, more: str) -> dict[str, Any]:
    """n images by so many calls (Heun: 2 k - 1), and the error of 64 from the same noise, in levels of 0 .. 255."""
    steps = (calls + 1) // 2 if solver == "heun" else calls
    name = f"linear-simple{more}"
    errors = ((solved(name, solver, steps) - solution(name)) ** 2).reshape(FEW // 8, -1).mean(1) ** 0.5
    mean, half = mean_ci95(errors)
    return sampled(name, MANY, solver=solver, steps=steps) | {"error": mean, "error_ci95": half}


def restored(task: str, name: str, n: int = FEW // 8, samples: int = 4) -> dict[str, Any]:
    """PSNR of a sample, of the mean of some, and of methods without learning, on test images damaged alike; differences in pairs."""
    model, truth = trained(name), data(test=True).pixels[:n]
    with TemporaryDirectory() as folder:  # the middle 14 x 14 are made up
        hidden = np.zeros((28, 28, 1), np.uint8)
        hidden[7:21, 7:21] = 255
        write_picture(Path(folder) / "mask.png", hidden)
        mask = str(Path(folder) / "mask.png") if task == "inpaint" else ""
        config = SampleImage(restore=task, degrade=True, noise=10.0, blur=1.5, mask=mask)  # pyright: ignore[reportArgumentType]
        damage = torch.Generator().manual_seed(MODELS[name])
        ready = restoration(config, model, torch.from_numpy(np.array(truth)), None, damage)
    generator = torch.Generator().manual_seed(MODELS[name])
    made = [
        generate(model, None, n, ImageSettings(steps=50), generator, n, given=ready.given)
        for _ in range(samples)
    ]
    several = np.stack([one.pixels.numpy() for one in made])
    scores = {
        "psnr": psnr(truth, several[0]),
        "psnr_of_means": psnr(truth, several.mean(0).round().astype(np.uint8)),
    }
    scores |= {f"{other}_psnr": psnr(truth, pixels) for other, pixels in ready.others.items()}
    best = max((other for other in scores if other.endswith("_psnr")), key=lambda other: scores[other].mean())
    row: dict[str, Any] = {
        "nfe": made[0].calls,
        "n": n,
        "noise": config.noise,
        "best_other": best.removesuffix("_psnr"),
    }
    for score, found in scores.items():
        row[f"{score}_mean"], row[f"{score}_ci95"] = mean_ci95(found)
    for score in ("psnr", "psnr_of_means"):
        row[f"{score}_minus_best_other_mean"], row[f"{score}_minus_best_other_ci95"] = paired_ci95(
            scores[score], scores[best]
        )
    return row


def duelled(name: str, threads: int) -> dict[str, Any]:
    """Images of a trained duellist, by equal settings and by default."""
    folder = RUNS / name
    if not (folder / "trained.json").is_file():
        raise NotRunError(
            f"{folder} is missing: python benchmarks/images.py --train {name} --minutes 20 --threads 2"
        )
    if not (folder / "made.json").is_file():
        duel(*duellist(name), "--threads", str(threads))
    said = json.loads((folder / "made.json").read_text())
    with np.load(folder / "samples.npz", allow_pickle=False) as stored:
        row = scored(stored["equal"], said.pop("equal_nfe"))
        row |= {f"default_{k}": v for k, v in scored(stored["default"], said.pop("default_nfe")).items()}
    return row | said


def rates(threads: int) -> dict[str, Any]:
    """How many images a second, all in one process, taking turns."""
    file = RUNS / "duel-rates.json"
    duel("--rates", "--threads", str(threads), "--out", str(file))
    return json.loads(file.read_text())


def rows(threads: int = 1) -> dict[str, Callable[[], dict[str, Any]]]:
    """All rows by name."""
    made: dict[str, Callable[[], dict[str, Any]]] = {}
    kinds = {
        "ddim": {"solver": "ddim"},
        "ddpm": {"solver": "ddpm"},
        "ddpm-large": {"solver": "ddpm", "variance": "large"},
    }
    for steps, (kind, settings) in product((10, 20, 50, 100), kinds.items()):
        made[f"packaged-{kind}-{steps}"] = partial(sampled, PACKAGED, FEW, told=True, steps=steps, **settings)
    for more in ("", "-s1"):
        for steps, (kind, settings) in product((10, 20, 50, 100, 1000), kinds.items()):
            made[f"solvers-{kind}-{steps}{more}"] = partial(
                sampled, f"linear-simple{more}", FEW, steps=steps, **settings
            )
        made |= {f"objective-{cell}{more}": partial(objective, f"{cell}{more}") for cell in CELLS}
        for schedule, kind, steps in product(("linear", "cosine"), ("learned", "small", "large"), (25, 50)):
            row = partial(
                sampled, f"{schedule}-hybrid{more}", MANY, solver="ddpm", variance=kind, steps=steps
            )
            made[f"variance-{schedule}-{kind}-{steps}{more}"] = row
        made |= {
            f"guide-classifier-{scale}{more}": partial(led, float(scale), more)
            for scale in ("0", "0.5", "1", "2", "4", "10")
        }
        for scale in ("0", "1", "1.5", "2", "3", "4", "8"):
            row = partial(
                sampled, f"classes{more}", MANY, told=True, solver="ddim", steps=25, scale=float(scale)
            )
            made[f"guide-free-{scale}{more}"] = row
        for solver, calls in product(("ddim", "dpmpp", "heun"), (5, 10, 15, 20)):
            made[f"order-{solver}-{calls}{more}"] = partial(ordered, solver, calls, more)
        for task in ("denoise", "inpaint", "deblur", "superres"):
            made[f"restore-{task}{more}"] = partial(restored, task, f"linear-simple{more}")
    return (
        made
        | {name: partial(duelled, name, threads) for name in DUELS}
        | {"duel-rates": partial(rates, threads)}
    )


def stored() -> dict[str, Any]:
    return json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"recipe": "image", "metrics": {}}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="+", default=[], choices=list(rows()), metavar="ROW")
    parser.add_argument(
        "--train",
        nargs="*",
        default=[],
        choices=[*CLASSIFIERS, *MODELS, *DUELS],
        metavar="NAME",
        help="train these first",
    )
    parser.add_argument("--minutes", type=float, default=20.0, help="of a duel's training")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name in arguments.train:
        try:
            train_one(name, arguments.minutes, arguments.threads)
        except NotRunError as reason:
            print(f"{name}: not run ({reason})", flush=True)
    if arguments.train:
        return
    made = rows(arguments.threads)
    for row in arguments.rows or list(made):
        if row in stored()["metrics"]:
            continue
        try:
            metrics = made[row]()
        except (NotRunError, UnveilError, OSError) as reason:
            print(f"{row}: not run ({reason})", flush=True)
            continue
        result = stored()  # another process may have written
        result["metrics"][row] = (
            {"seed": int(row.endswith("-s1")), "threads": arguments.threads, "commit": commit()}
            | metrics
            | machine()
        )
        reference = result["metrics"].get(REFERENCE)
        for other in result["metrics"].values():  # the same images under each, so in pairs
            if reference and "bits" in other:
                paired = paired_ci95(np.array(other["bits"]), np.array(reference["bits"]))
                other["bits_minus_linear_simple_mean"], other["bits_minus_linear_simple_ci95"] = paired
        print(
            f"{row}: { ({k: round(v, 3) for k, v in metrics.items() if isinstance(v, float)}) }", flush=True
        )
        result |= {"protocol": "Fashion-MNIST; see benchmarks/images.py", "seeds": [0, 1]}
        with replacing(RESULTS) as partial_file:
            partial_file.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
