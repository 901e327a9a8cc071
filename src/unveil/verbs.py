"""The verbs of every recipe, as data; heavy packages are imported only when a verb runs."""

from __future__ import annotations

from unveil.image.recipes import config as image
from unveil.image.recipes.autoencoder import config as autoencoder
from unveil.image.recipes.captions import config as captions
from unveil.image.recipes.classifier import config as classifier
from unveil.image.recipes.clip import config as clip
from unveil.image.recipes.contact_sheet import config as sheet
from unveil.image.recipes.emoji import config as emoji
from unveil.image.recipes.inversion import config as inversion
from unveil.image.recipes.lora import config as lora
from unveil.image.recipes.prior import config as prior
from unveil.image.recipes.shapes import config as shapes
from unveil.planning.recipes.locomotion import config as locomotion
from unveil.planning.recipes.maze import config as maze
from unveil.planning.recipes.planner import config as planner
from unveil.planning.recipes.stacking import config as stacking
from unveil.policy.recipes import config as policy
from unveil.policy.recipes.pusht import config as pusht
from unveil.runs.verb import Verb
from unveil.text.recipes import config as text

RECIPES: dict[str, dict[str, Verb]] = {
    "demo": {
        "maze": maze.DEMO,
        "pusht": pusht.DEMO,
        "text": text.DEMO,
        "image": image.DEMO,
        "text-to-image": sheet.DEMO,
    },
    "data": {
        "maze": maze.DATA,
        "locomotion": locomotion.DATA,
        "stacking": stacking.DATA,
        "pusht": pusht.DATA,
        "inspect": policy.INSPECT,
        "text": text.DATA,
        "shapes": shapes.SHAPES,
        "emoji": emoji.EMOJI,
        "captions": captions.DATA,
    },
    "train": {
        "maze": maze.TRAIN,
        "locomotion": locomotion.TRAIN,
        "stacking": stacking.TRAIN,
        "value": locomotion.VALUE,
        "planner": planner.TRAIN,
        "policy": policy.TRAIN,
        "pusht": pusht.TRAIN,
        "text": text.TRAIN,
        "image": image.TRAIN,
        "classifier": classifier.TRAIN,
        "clip": clip.TRAIN,
        "autoencoder": autoencoder.TRAIN,
        "lora": lora.TRAIN,
        "inversion": inversion.TRAIN,
        "prior": prior.TRAIN,
    },
    "eval": {
        "maze": maze.EVAL,
        "locomotion": locomotion.EVAL,
        "planner": planner.EVAL,
        "stacking": stacking.EVAL,
        "policy": policy.EVAL,
        "pusht": pusht.EVAL,
        "text": text.EVAL,
        "image": image.EVAL,
        "autoencoder": autoencoder.EVAL,
        "clip": clip.EVAL,
        "prior": prior.EVAL,
    },
    "sample": {
        "maze": maze.SAMPLE,
        "policy": policy.SAMPLE,
        "pusht": pusht.SAMPLE,
        "text": text.SAMPLE,
        "image": image.SAMPLE,
    },
}
WORLDS = {"policy": ("pusht",)}
"""Recipe -> its worlds, each of them a recipe: `unveil VERB policy --world pusht` is `unveil VERB pusht`."""
CHAT = text.CHAT
WEIGHTS = {  # name -> its config and its function
    "pack": ("commands.pack:Pack", "commands.pack:pack"),
    "inspect": ("commands.weights:Inspect", "commands.weights:inspect"),
    "convert": ("commands.weights:Convert", "commands.weights:convert"),
    "pull": ("commands.pull:Pull", "commands.pull:pull"),
    "push": ("commands.push:Push", "commands.push:push"),
}
