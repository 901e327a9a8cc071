"""All trainings of the tables but those of LoRA, by name, and how many steps fit into their minutes."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any, NamedTuple

from latent.data import emoji_file, emoji_judged, emoji_train, shapes_file
from latent.judges import TrainPairsJudge, train_pairs_judge
from latent.rows import RUNS, Bench, NotRunError, core_minutes, seed_of, with_seed, without_seed
from unveil.image.recipes.autoencoder.config import TrainAutoencoder
from unveil.image.recipes.autoencoder.train import train_autoencoder
from unveil.image.recipes.classifier.config import TrainClassifier
from unveil.image.recipes.classifier.train import train_classifier
from unveil.image.recipes.config import TrainImage, for_method
from unveil.image.recipes.train import train_image
from unveil.runs.flags import changed
from unveil.training.checkpoint import latest_checkpoint

TIMED = 30  # steps that are timed before a training that is limited by minutes
AUTOENCODER_STEPS = 2_000
DIFFUSION = ("pixel", "taef2", "own")
LOSSES: dict[str, dict[str, float]] = {
    "pixels": {"perceptual": 0.0, "adversarial": 0.0},
    "perceptual": {"adversarial": 0.0},
    "full": {},
}
GRID = ("f4-z4", "f4-z16", "f8-z4", "f8-z16")
AUTOENCODERS = (*(f"ae-{shape}-full" for shape in GRID), "ae-f4-z4-pixels", "ae-f4-z4-perceptual")
OWN = "ae-f4-z4-full"
"""The autoencoder of the trainings `own`."""
ENCODERS = ("words", "minilm", "random")
DROPS = {"shapes-drop0": 0.0, "shapes-drop0.2": 0.2}
SHAPES = (*(f"shapes-{encoder}" for encoder in ENCODERS), *DROPS)
EMOJI = ("emoji-words",)
NETWORK: dict[str, Any] = {
    "width": 48,
    "multiples": (1, 2, 2),
    "attention": (8, 4),
    "head_width": 24,
    "groups": 16,
    "learning_rate": 1e-3,
}
"""Of text-to-image models: 16 x 16 positions, patches of 2 x 2 pixels or codes."""
JUDGES = ("judge-pairs", "judge-styles")
MINUTES = {"diffusion": 18.0, "shapes": 40.0, "emoji": 40.0}
NAMES = (*JUDGES, *AUTOENCODERS, *DIFFUSION, *SHAPES, *EMOJI)


class Recipe(NamedTuple):
    """A training.

    Args:
        train: a recipe's public function.
        config: its settings, but for the number of steps of one that is limited by minutes.
        minutes: of one core; None: as many steps as the settings say.
        preparing: what is computed before the first step, such as codes of images, is part of the minutes.
    """

    train: Callable[..., Path]
    config: Any
    minutes: float | None = None
    preparing: bool = True


def names(seeds: tuple[int, ...] = (0, 1)) -> list[str]:
    """The names of all trainings with their seeds; judges have one."""
    return [with_seed(name, seed) for seed in seeds for name in NAMES if not (seed and name in JUDGES)]


def recipe_of(name: str, bench: Bench) -> Recipe:
    """The training of a name.

    Raises:
        NotRunError: another training or a file is needed first.
    """
    kind, seed = without_seed(name), seed_of(name)
    run: dict[str, Any] = {
        "out": bench.folder(name),
        "seed": seed,
        "threads": bench.threads,
        "sample_every": -1,
    }
    run |= {"save_every": 250, "bfloat16": False}
    if kind == "judge-styles":
        config = changed(
            TrainClassifier(), data=str(emoji_judged()), clean=True, steps=1_500, batch_size=64, **run
        )
        return Recipe(train_classifier, config)
    if kind == "judge-pairs":
        return Recipe(train_pairs_judge, changed(TrainPairsJudge(), **run))
    if kind in AUTOENCODERS:
        return Recipe(train_autoencoder, _autoencoder(kind, run))
    if kind in DIFFUSION:
        return _diffusion(kind, seed, run, bench)
    common = {"captions": "auto", "hold_out": 0.0, "batch_size": 32}
    if kind in EMOJI:
        config = changed(
            for_method(TrainImage(), "v"), data=str(emoji_train()), latent="emoji-text", **common
        )
        config = changed(config, **NETWORK, **run, stem=1, text_width=128)
        config = changed(config, bfloat16=None)  # where the processor is faster with it
        return Recipe(train_image, config, bench.minutes or MINUTES["emoji"])
    encoder = "words" if kind in DROPS else kind.split("-")[1]
    config = changed(
        for_method(TrainImage(), "v"), data=str(shapes_file()), encoder=encoder, **common, **run, **NETWORK
    )
    config = changed(config, label_drop=DROPS.get(kind, 0.1), min_snr=0.0, stem=2, text_width=128)
    config = changed(config, bfloat16=None)  # where the processor is faster with it
    return Recipe(train_image, config, bench.minutes or MINUTES["shapes"])


def _autoencoder(kind: str, run: Mapping[str, Any]) -> TrainAutoencoder:
    """Two thousand steps, adversarial in the second half; the other settings are those of the command."""
    config = changed(TrainAutoencoder(), data=str(emoji_file()), **run)
    _, factor, latent, loss = kind.split("-")
    multiples = {"f4": (1, 2), "f8": (1, 2, 2)}[factor]
    shape = {"multiples": multiples, "latent": int(latent[1:])}
    half = AUTOENCODER_STEPS // 2
    return changed(config, steps=AUTOENCODER_STEPS, adversarial_from=half, **shape, **LOSSES[loss])


def _diffusion(kind: str, seed: int, run: Mapping[str, Any], bench: Bench) -> Recipe:
    """A model of classes. A step costs about the same in all: 16 x 16 positions of width 48, or 8 x 8 of 96."""
    minutes = bench.minutes or MINUTES["diffusion"]
    config = changed(TrainImage(), data=str(emoji_file()), classes=True, attention=(8,), batch_size=32, **run)
    if kind == "taef2":
        return Recipe(train_image, changed(config, latent="taef2", width=96), minutes)
    if kind.startswith("own"):
        trained = bench.finished(with_seed(OWN, seed))
        config = changed(config, latent=str(trained))
    return Recipe(train_image, config, minutes)


def train_one(name: str, bench: Bench) -> str:
    """Train, or go on; as `trained`."""
    return trained(name, bench, recipe_of)


def trained(name: str, bench: Bench, recipe_of: Callable[[str, Bench], Recipe]) -> str:
    """Train, or go on; returns a line that says what was done.

    Args:
        recipe_of: the training of a name.
    Raises:
        NotRunError: something is missing, or its minutes do not suffice for a step.
    """
    if name in bench.pointed:
        return f"{name}: {bench.pointed[name]} is used"
    recipe = recipe_of(name, bench)
    run = bench.folder(name)
    steps = recipe.config.run.steps if recipe.minutes is None else planned_steps(name, recipe, bench)
    newest = latest_checkpoint(run, warn=False) if run.is_dir() else None
    if newest is None or newest.name != f"checkpoint-{steps}":
        config = changed(recipe.config, steps=steps, resume=newest is not None)
        recipe.train(config, lambda *_: None)
    spent = core_minutes(bench.finished(name))
    return f"{name}: {steps:,} steps, {spent or 0.0:.1f} minutes of one core"


def planned_steps(name: str, recipe: Recipe, bench: Bench) -> int:
    """How many steps fit into the minutes, by the processor's clock, which other programs do not change.

    Encoding the images counts, unless `preparing` is false. The plan is kept beside the run, so that a training that is continued has the
    same learning rates.

    Raises:
        NotRunError: the minutes do not suffice.
    """
    assert recipe.minutes is not None
    file = bench.plan(name)
    if not file.is_file():
        preparation, per_step = timed(recipe)
        preparation *= recipe.preparing
        steps = int((60.0 * recipe.minutes - preparation) / per_step)
        if steps < 1:
            raise NotRunError(
                f"{recipe.minutes:.1f} minutes do not suffice: {preparation / 60.0:.1f} pass before"
            )
        said = {
            "minutes": recipe.minutes,
            "preparation_seconds": preparation,
            "cpu_seconds_per_step": per_step,
        }
        file.write_text(json.dumps(said | {"steps": steps}, indent=1) + "\n")
    return int(json.loads(file.read_text())["steps"])


def timed(recipe: Recipe) -> tuple[float, float]:
    """Seconds of one core before the first step, if images are encoded or embedded, and for a step."""
    RUNS.mkdir(exist_ok=True)
    began = process_time()
    last = [began]

    def progress(what: str, *_: object) -> None:
        if what.startswith(("encoding", "embedding")):
            last[0] = process_time()

    with TemporaryDirectory(dir=RUNS) as folder:
        out = Path(folder) / "run"
        config = changed(recipe.config, steps=TIMED, save_every=TIMED, out=out, resume=False)
        recipe.train(config, progress)
        record = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    return last[0] - began, float(record["cpu_seconds_per_step"])
