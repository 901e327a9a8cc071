"""All trainings of the tables, by name; each is limited by minutes of one core."""

from typing import Any

from books.data import prepared_folder
from latent.rows import Bench
from latent.trainings import Recipe, trained
from unveil.runs.flags import changed
from unveil.text.recipes.config import TrainText
from unveil.text.recipes.train import train_text

MINUTES = {"judge": 30.0, "masked": 15.0, "block": 15.0, "long": 150.0}
NAMES = tuple(MINUTES)
BLOCK = {"block": 8}
CHOSEN: dict[str, Any] = {}
"""What `long` differs in from `masked`."""
KINDS: dict[str, dict[str, Any]] = {"judge": {"causal": True}, "masked": {}, "block": BLOCK, "long": CHOSEN}
SHAPE: dict[str, Any] = {"width": 224, "depth": 5, "heads": 7, "tied": True, "context": 256}
"""3.9 million weights with a vocabulary of 4,096: less than 8 MB in half precision."""


def recipe_of(name: str, bench: Bench) -> Recipe:
    """The training of a name."""
    run: dict[str, Any] = {"out": bench.folder(name), "threads": bench.threads, "sample_every": -1}
    config = changed(TrainText(), data=str(prepared_folder()), batch_size=16, save_every=250, **run)
    config = changed(config, **SHAPE, **KINDS[name], bfloat16=None)
    return Recipe(train_text, config, bench.minutes or MINUTES[name])


def train_one(name: str, bench: Bench) -> str:
    """Train, or go on; returns a line that says what was done."""
    return trained(name, bench, recipe_of)
