"""Load the priors that `unveil train prior` trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unveil.files.json_objects import JsonObject
from unveil.runs.config import read_config

if TYPE_CHECKING:
    from unveil.image.clip_model import ClipModel
    from unveil.image.unclip.autoregressive_prior import AutoregressivePrior
    from unveil.image.unclip.prior_model import PriorModel

NUMBERS = (
    *("embedding_width", "context", "pooled", "tokens", "width", "layers", "heads", "diffusion_steps"),
    *("dimensions", "bins"),
)


def read_prior_config(folder: Path) -> JsonObject:
    """config.json of a prior; raises as `read_config`."""
    return read_config(folder, "prior", check_prior)


def check_prior(config: JsonObject) -> None:
    """Refuse fields that do not describe a prior.

    Raises:
        ValueError: a field out of bounds.
        LookupError, TypeError: a field that is missing or of another type.
    """
    for name in NUMBERS:
        if type(config[name]) is not int or not 0 < config[name] < 100_000:
            raise ValueError(f"{name} is {config[name]!r}")
    if type(config["clamp"]) not in (int, float) or not config["clamp"] > 0:
        raise ValueError(f"clamp is {config['clamp']!r}")
    if not isinstance(config["clip_digest"], str) or config["kind"] not in ("diffusion", "autoregressive"):
        raise ValueError(f"kind is {str(config['kind'])[:40]!r}, and clip_digest must be text")


def prior_model(config: JsonObject, clip: ClipModel) -> PriorModel | AutoregressivePrior:
    """The untrained prior of config.json."""
    from unveil.image.networks.code_transformer import CodesShape
    from unveil.image.networks.prior import PriorShape
    from unveil.image.unclip.autoregressive_prior import AutoregressivePrior
    from unveil.image.unclip.prior_model import ClipPrompts, PriorModel

    shape = PriorShape(
        config["embedding_width"],
        config["context"],
        config["pooled"],
        config["tokens"],
        config["width"],
        config["layers"],
        config["heads"],
    )
    if config["kind"] == "autoregressive":
        return AutoregressivePrior(shape, CodesShape(config["dimensions"], config["bins"]), ClipPrompts(clip))
    return PriorModel(shape, ClipPrompts(clip), config["diffusion_steps"], float(config["clamp"]))


def load_prior(
    folder: Path, device: str = "auto", config: JsonObject | None = None
) -> PriorModel | AutoregressivePrior:
    """The prior of a checkpoint folder of `unveil train prior`, in evaluation mode.

    Args:
        config: its config.json, if it has been read already.
    Raises:
        UnveilError: damaged, or of another recipe.
    """
    from unveil.image.recipes.stored_clip import clip_of_run
    from unveil.runs.checkpoints import load_weights

    described = read_prior_config(folder) if config is None else config
    model = prior_model(described, clip_of_run(described, folder, device))
    load_weights(model, folder, device)
    return model
