"""Package trained weights: half-precision weights, config, manifest and a generated card."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from unveil.errors import UnveilError
from unveil.files.json_objects import JsonObject
from unveil.runs.verb import wired

CARDS = {  # recipe -> the function that writes the card
    "maze": "planning.recipes.maze.card:maze_card",
    "locomotion": "planning.recipes.locomotion.card:locomotion_card",
    "pusht": "policy.recipes.pusht.card:pusht_card",
    "image": "image.recipes.card:image_card",
    "autoencoder": "image.recipes.autoencoder.card:autoencoder_card",
    "text": "text.recipes.card:text_card",
}
LARGEST = 8 * 2**20  # bytes of weights of a packaged model


@dataclass(frozen=True)
class Pack:
    """Package a run: half-precision weights, config, manifest and card.

    Example: unveil weights pack --run runs/maze-large --name maze-large --results single.json multi.json
    """

    run: Path
    """run folder, or one of its checkpoint folders"""
    name: str
    """name of the packaged model, which `unveil.load` and --checkpoint then accept"""
    results: tuple[Path, ...] = ()
    """results to print on the card: files of `unveil eval --json` or of a benchmark"""
    value: Path | None = None
    """run folder of the value function of a locomotion model; needed if the model is not conditional on
    returns"""
    autoencoder: Path | None = None
    """run folder of the autoencoder of an image model in a latent space; the card tells its training, too"""
    note: str = ""
    """a sentence for the card, such as what the weights were before the training"""
    into: Path | None = None
    """folder to write the model's folder into; by default that of the packaged models, inside unveil"""


def pack(config: Pack) -> str:
    """Write the folder of packaged weights; returns a summary.

    Raises:
        UnveilError: the run has no undamaged checkpoint, cannot be packaged, or its weights exceed 8 MiB; or
            the folder holds other files.
    """
    import torch
    from safetensors.torch import save

    from unveil.files.atomic import replacing
    from unveil.files.safetensors import read_tensors
    from unveil.image.data.source import FASHION
    from unveil.runs.card import PRIVATE
    from unveil.runs.checkpoints import ZOO, find_checkpoint

    def small(weights: dict[str, torch.Tensor]) -> bytes:
        halved = {
            "denoiser",
            "travel",
            "network",
            "inverse",
            "text",
        }  # networks; statistics keep their precision
        return save(
            {
                k: v.to(torch.float16) if v.is_floating_point() and k.split(".")[0] in halved else v
                for k, v in weights.items()
            }
        )

    checkpoint = find_checkpoint(str(config.run))
    whole: JsonObject = json.loads((checkpoint.parent / "config.json").read_text())
    recipe = whole["recipe"]
    if refusal := _refusal(whole):
        raise UnveilError(f"{config.run} {refusal}")
    described = {name: value for name, value in whole.items() if name not in PRIVATE}
    weights = read_tensors(checkpoint / "ema.safetensors")
    if recipe == "autoencoder":  # without the discriminator
        weights = {name: w for name, w in weights.items() if name.split(".")[0] in ("network", "scale")}
    files = {"weights.safetensors": small(weights)}
    if recipe == "locomotion":
        if config.value is None and not whole.get("returns"):
            raise UnveilError(
                "a locomotion planner that is not conditioned on returns needs its value function: give its "
                "run as `value`"
            )
        trained = [(checkpoint, whole)]
        if config.value is not None:
            guide = find_checkpoint(str(config.value))
            trained.append((guide, json.loads((guide.parent / "config.json").read_text())))
            described["value"] = {name: part for name, part in trained[1][1].items() if name not in PRIVATE}
            files["value.safetensors"] = small(read_tensors(guide / "ema.safetensors"))
        card = wired(CARDS[recipe])(config.name, trained, config.results)
    else:
        results = config.results
        if "autoencoder" in whole:
            results = tuple(file for file in results if not _of_autoencoder(file))
        card = wired(CARDS[recipe])(config.name, checkpoint, whole, results)
    if recipe == "text" or "tokenizer_digest" in whole:
        files["tokenizer.json"] = (checkpoint.parent / "tokenizer.json").read_bytes()
    if "clip_digest" in whole:  # a decoder of unCLIP is packaged with what embeds images
        files["clip.safetensors"] = small(read_tensors(checkpoint.parent / "clip.safetensors"))
        for name in ("clip.json", "clip-tokenizer.json"):
            if (file := checkpoint.parent / name).is_file():
                files[name] = file.read_bytes()
    if "autoencoder" in whole:  # a model of latents is packaged with what decodes them
        halved = small(read_tensors(checkpoint.parent / "autoencoder.safetensors"))
        files["autoencoder.safetensors"] = halved
        described["autoencoder"] = whole["autoencoder"] | {"sha256": hashlib.sha256(halved).hexdigest()}
        card += _autoencoder_part(config, checkpoint.parent / "autoencoder.safetensors")
    if recipe in ("image", "autoencoder") and whole["data"] == FASHION:  # valid on every machine, not a path
        described["data"] = FASHION
    if config.note:
        card = f"{card.rstrip()}\n\n{config.note}\n"
    files["card.md"] = card.encode()
    files["config.json"] = (json.dumps(described, indent=1) + "\n").encode()
    sizes = {name: len(data) for name, data in files.items() if name.endswith(".safetensors")}
    decoder, size = sizes.get("autoencoder.safetensors", 0), sum(sizes.values())
    if (largest := max(decoder, size - decoder)) > LARGEST:  # an autoencoder counts as a model of its own
        raise UnveilError(
            f"{config.name}: {largest / 2**20:.1f} MiB of weights, but packaged models have at most 8 MiB; "
            "train a smaller network"
        )
    manifest = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()
    }
    files["manifest.json"] = (json.dumps(manifest, indent=1) + "\n").encode()
    if Path(config.name).name != config.name or config.name in ("", ".", ".."):
        raise UnveilError(f"`name={config.name}` must be a name, not a path; `into` is the folder")
    folder = (config.into or ZOO) / config.name
    _check_free(folder)
    for name, data in files.items():
        with replacing(folder / name) as partial:
            partial.write_bytes(data)
    return f"{folder}: {size / 2**20:.2f} MiB, {sum(v.numel() for v in weights.values()):,} numbers"


def _of_autoencoder(file: Path) -> bool:
    """Whether a file of results is of `unveil eval autoencoder`."""
    return json.loads(file.read_text()).get("recipe") == "autoencoder"


def _autoencoder_part(config: Pack, file: Path) -> str:
    """What the card of a model in a latent space says of its autoencoder.

    Args:
        file: the autoencoder's weights in the model's run.
    Raises:
        UnveilError: no run is given, or one with other weights.
    """
    from unveil.files.safetensors import read_tensors
    from unveil.runs.checkpoints import find_checkpoint

    if config.autoencoder is None:
        raise UnveilError(
            "a model in a latent space is packaged with its autoencoder; give its run as `autoencoder`"
        )
    checkpoint = find_checkpoint(str(config.autoencoder))
    trained, kept = read_tensors(checkpoint / "ema.safetensors"), read_tensors(file)
    if not all(name in trained and bool((trained[name] == part).all()) for name, part in kept.items()):
        raise UnveilError(f"{config.autoencoder} is not the autoencoder that {config.run} was trained with")
    whole: JsonObject = json.loads((checkpoint.parent / "config.json").read_text())
    results = tuple(result for result in config.results if _of_autoencoder(result))
    card: str = wired(CARDS["autoencoder"])(config.name, checkpoint, whole, results)
    return "\n## Its autoencoder\n" + card.split("\n", 1)[1]


def _refusal(described: JsonObject) -> str:
    """Why the run of a config.json cannot be packaged, to end a sentence; "" if it can."""
    recipe = described["recipe"]
    if (origin := described.get("origin", "unveil")) != "unveil":
        return f"was converted from {origin}; only weights that unveil trained can be packaged"
    if described.get("lora_rank"):
        return f"holds LoRA weights of {described['checkpoint']}; only whole models can be packaged"
    if described["preset"] == "paper" and recipe != "pusht":
        return "was trained as published (preset paper); only models with our own settings can be packaged"
    if recipe not in CARDS:
        return f"is a {recipe}, which has no card yet; image models can be packaged"
    if recipe in ("image", "autoencoder") and "openmoji" in described["styles"]:
        return "learned from the style openmoji, whose share-alike licence the packaged weights do not have"
    return ""


def _check_free(folder: Path) -> None:
    """Refuse to replace anything but unchanged packaged weights.

    Raises:
        UnveilError: the folder holds other files, or files that were changed since.
    """
    from unveil.training.checkpoint import verify_checkpoint

    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        verify_checkpoint(folder)
        packed = set(json.loads((folder / "manifest.json").read_text()))
        if not {"config.json", "card.md", "weights.safetensors"} <= packed:
            raise UnveilError(f"{folder}: no packaged weights")
    except UnveilError as error:
        raise UnveilError(
            f"{folder}: it holds files that were not packed like this, or were changed; give another `name` "
            "or `into`"
        ) from error
