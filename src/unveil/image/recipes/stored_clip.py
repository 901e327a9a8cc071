"""The CLIP of a prior or a decoder of unCLIP: files in the run folder, so that the run is whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from unveil.errors import UnveilError
from unveil.files.json_objects import JsonObject

if TYPE_CHECKING:
    from unveil.image.clip_model import ClipModel

WEIGHTS, DESCRIBED, WORDS = "clip.safetensors", "clip.json", "clip-tokenizer.json"
"""Averaged weights, config.json and tokenizer.json of a CLIP under the names that they have in other runs."""


class StoredClip(NamedTuple):
    """Files of a CLIP.

    Args:
        config: its config.json.
        weights: its averaged weights.
        words: its tokenizer; None: that of a frozen encoder of a package.
    """

    config: JsonObject
    weights: Path
    words: Path | None


def find_clip(path_or_name: str) -> StoredClip:
    """The files of a CLIP: of a run of `unveil train clip`, or of a prior or a decoder, which keep theirs.

    Raises:
        UnveilError: there is none.
    """
    from unveil.image.recipes.clip.load import read_clip_config
    from unveil.image.recipes.prompts import FILE
    from unveil.runs.checkpoints import find_checkpoint, weights_file
    from unveil.runs.config import read_recipe

    folder = find_checkpoint(path_or_name)
    recipe = read_recipe(folder)
    if recipe == "clip":
        return StoredClip(read_clip_config(folder), weights_file(folder), _place(folder, FILE))
    if _place(folder, WEIGHTS) is None:
        raise UnveilError(
            f"{path_or_name} is a run of `unveil train {recipe or '?'}` without a CLIP; give one of `unveil "
            "train clip`"
        )
    return _kept(folder)


def begun_clip(path_or_name: str, run: Path, resume: bool) -> StoredClip:
    """`find_clip`; of a resumed run the CLIP that it keeps, since the other need not exist any more."""
    return _kept(run) if resume and (run / WEIGHTS).is_file() else find_clip(path_or_name)


def read_clip(stored: StoredClip, device: str) -> ClipModel:
    """A CLIP, frozen and in evaluation mode.

    Raises:
        UnveilError: it is damaged, or its encoder's weights are missing.
    """
    from unveil.files.safetensors import read_tensors
    from unveil.image.recipes.clip.load import clip_model, read_text
    from unveil.runs.checkpoints import with_weights
    from unveil.runs.device import find_device

    folder = stored.weights.parent if stored.words is None else stored.words.parent
    name = "" if stored.words is None else stored.words.name
    model = clip_model(stored.config, read_text(stored.config, folder, name))
    with_weights(model, read_tensors(stored.weights, model.state_dict(), halves=True), find_device(device))
    return model.requires_grad_(False)


def write_clip(stored: StoredClip, run: Path, keep: bool = False) -> None:
    """Copy the files of a CLIP into a run folder.

    Args:
        keep: leave files that are there as they are.
    """
    from unveil.files.atomic import check_output, replacing

    contents = {
        WEIGHTS: stored.weights.read_bytes(),
        DESCRIBED: (json.dumps(stored.config, indent=1) + "\n").encode(),
    }
    if stored.words is not None:
        contents[WORDS] = stored.words.read_bytes()
    if keep and all((run / name).is_file() for name in contents):
        return
    for name in contents:
        check_output(run / name)
    run.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        with replacing(run / name) as partial:
            partial.write_bytes(content)


def clip_of_run(config: Mapping[str, object], folder: Path, device: str) -> ClipModel:
    """The CLIP that a run keeps, frozen.

    Args:
        config: config.json of the run, with the CLIP's digest.
        folder: the run, or a checkpoint folder: the files lie in it or above it.
    Raises:
        UnveilError: they are missing, damaged or another CLIP's.
    """
    clip = read_clip(_kept(folder), device)
    # packaged weights are rounded to half precision, and their manifest guards them
    if (folder / "weights.safetensors").is_file():
        return clip
    if clip_digest(clip) != config.get("clip_digest"):
        raise UnveilError(f"{_place(folder, WEIGHTS)} is not the CLIP that {folder} was trained with")
    return clip


def clip_digest(clip: ClipModel) -> str:
    """SHA-256 of a CLIP's weights, by which a prior and a decoder know that they belong together."""
    from hashlib import sha256

    hashed = sha256()
    for name, value in sorted(clip.state_dict().items()):
        hashed.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return hashed.hexdigest()


def check_same_clip(prior: Mapping[str, object], decoder: Mapping[str, object], name: str) -> None:
    """Refuse a prior of another CLIP than the decoder's.

    Args:
        prior, decoder: their config.json.
        name: of the prior.
    Raises:
        UnveilError: their digests differ.
    """
    if prior["clip_digest"] != decoder["clip_digest"]:
        raise UnveilError(
            f"{name} draws embeddings of another CLIP than the decoder's; train a prior with "
            "`image_embedding` of the decoder's run"
        )


def _kept(folder: Path) -> StoredClip:
    """The files of the CLIP of a run that keeps one."""
    from unveil.files.reading import reading
    from unveil.image.recipes.clip.load import check_clip

    weights, described = _place(folder, WEIGHTS), _place(folder, DESCRIBED)
    if weights is None or described is None:
        raise UnveilError(
            f"{folder}: no {WEIGHTS if weights is None else DESCRIBED} in it or above it, its CLIP's"
        )
    with reading(described, "not a config of a CLIP"):
        config: JsonObject = json.loads(described.read_text(encoding="utf-8-sig"))
        check_clip(config)
    return StoredClip(config, weights, _place(folder, WORDS))


def _place(folder: Path, name: str) -> Path | None:
    return next((it / name for it in (folder, folder.parent) if (it / name).is_file()), None)
