"""Use the models of glide-text2im: load, inspect and convert its U-Nets, and sample as its notebooks do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from unveil.errors import UnveilError
from unveil.files.json_objects import JsonObject

if TYPE_CHECKING:
    from unveil.image.data.tokenizer import Tokenizer
    from unveil.image.model import ImageModel
    from unveil.image.recipes.config import SampleImage
    from unveil.image.recipes.given_pictures import Prepared
    from unveil.image.shape import ImageShape
    from unveil.image.weights.glide import FoundGlide, Glide

CAPTIONS = "glide"
"""What config.json of a converted model has as `captions`."""


def usual_settings(config: JsonObject, chosen: set[str]) -> dict[str, object]:
    """How the notebooks of glide-text2im sample a converted model.

    Args:
        config: its config.json.
        chosen: settings that were chosen, which stay.
    """
    enlarges, fills = config.get("upsample", 1) > 1, config.get("beside") == "known"
    usual: dict[str, object] = {"n": 1, "scale": 1.0 if enlarges else 5.0 if fills else 3.0}
    if "clip_model" in chosen:  # guides instead
        usual |= {"scale": 1.0, "clip_scale": 3.0}
        if not chosen & {"solver"}:
            usual["classifier_form"] = "mean"
    if enlarges:
        usual["noise_factor"] = 0.997
    if not chosen & {"solver", "steps", "respacing", "grid", "spacing"}:
        usual["solver"] = "ddim" if enlarges and not fills else "ddpm"
        usual |= {"respacing": "fast27"} if enlarges else {"steps": 100}
    return {name: value for name, value in usual.items() if name not in chosen}


def load_glide(path: Path, device: str = "auto", *, tokenizer: str = "", size: int = 0) -> ImageModel:
    """Load a U-Net of GLIDE with its text transformer; no code in the file is run.

    Args:
        tokenizer: folder or file of GPT-2's vocabulary; "": the folder of the file.
        size: side of the images in pixels; 0: that of the released models.
    Raises:
        UnveilError: it cannot be read or used, or there is no vocabulary.
    """
    from unveil.image.weights.glide import find_glide
    from unveil.runs.device import find_device

    found = find_glide(path, size)
    words = glide_tokenizer(path, tokenizer, found.described)
    return _model(found, words).to(find_device(device))


def glide_tokenizer(file: Path, place: str, described: Glide) -> Tokenizer:
    """GPT-2's tokenizer for a model.

    Raises:
        UnveilError: there is none, it is damaged, or of another size.
    """
    from unveil.image.data.tokenizer_files import read_gpt2_tokenizer

    where = Path(place) if place else file.parent
    try:
        tokenizer = read_gpt2_tokenizer(where, described.text.length)
    except UnveilError as error:
        if place or "no tokenizer here" not in str(error):
            raise
        advice = str(error).partition("; ")[2]
        raise UnveilError(
            f"{file}: has no vocabulary beside it; {advice}: give its folder as `tokenizer`"
        ) from error
    if tokenizer.size != described.text.vocabulary:
        raise UnveilError(
            f"{where}: a vocabulary of {tokenizer.size:,} tokens, but {file.name} has "
            f"{described.text.vocabulary:,}; take GPT-2's"
        )
    return tokenizer


def _model(found: FoundGlide, tokenizer: Tokenizer) -> ImageModel:
    import torch

    from unveil.image.model import ImageModel
    from unveil.image.networks.glide_text import GlideText
    from unveil.image.networks.unet2d import UNet2d
    from unveil.image.prompts.text_conditioning import TextConditioning
    from unveil.image.weights.glide import read_glide

    it, tensors = found.described, read_glide(found)
    with torch.device("meta"):
        network, encoder = UNet2d(it.unet), GlideText(it.text)
    network.load_state_dict(tensors.unet, assign=True)
    encoder.load_state_dict(tensors.text, assign=True)
    text = TextConditioning(tokenizer, encoder, chunked=False)
    return ImageModel(glide_shape(it), network, text).eval()


def glide_shape(it: Glide) -> ImageShape:
    """The shape of our model; its network's shape is the description's."""
    from dataclasses import replace

    from unveil.image.recipes.convert import our_shape

    beside = "known" if it.inpaints else ""
    concat = it.unet.concat if it.inpaints else 0
    width = it.text.width
    return replace(our_shape(it.images), context=width, pooled=width, beside=beside, concat=concat)


def inspect_glide(path: Path, size: int = 0) -> str:
    """Describe such a model for people; only its header is read."""
    from unveil.image.weights.glide import find_glide

    it = find_glide(path, size).described
    text, side = it.text, it.images.size
    low = f", enlarged from {side // it.images.upsample} x {side // it.images.upsample}"
    table = "linear" if it.images.upsample > 1 else "cosine"
    rows = [
        ("release", f"{it.images.release}, {it.kind}"),
        ("recognised by", it.reason),
        ("tensors", f"{it.tensors:,}, {it.parameters:,} parameters"),
        ("images", f"{side} x {side}, 3 channels{low if it.images.upsample > 1 else ''}"),
        ("text", f"{text.layers} blocks of width {text.width}, {text.length} tokens of {text.vocabulary:,}"),
        ("diffusion", f"{len(it.images.betas)} steps, {table}, predicts eps, learns its variance"),
        ("sampled there", it.images.sampler),
        ("usable", "yes: unveil.load(PATH, tokenizer=FOLDER), unveil weights convert PATH OUT"),
    ]
    return "\n".join([str(path), *(f"  {name:<13} {text}" for name, text in rows)])


def convert_glide(path: Path, out: Path, tokenizer: str = "", size: int = 0) -> str:
    """Write such a model as a run of ours; returns what is printed.

    Raises:
        UnveilError: it cannot be read or used, there is no vocabulary, or something else is at `out`.
    """
    import shlex

    from unveil.image.weights.glide import RELEASE, find_glide

    found = find_glide(path, size)
    words, it = glide_tokenizer(path, tokenizer, found.described), found.described
    model = _model(found, words)
    write_with_tokenizer(out, glide_config(it), words, model)
    place, side = shlex.quote(str(out)), it.images.size
    given = {
        "base": "",
        "upsampler": " --from SMALL",
        "inpainting": " --task inpaint --from PICTURE --mask MASK",
        "inpainting upsampler": " --task inpaint --from PICTURE --mask MASK --low SMALL",
    }
    return (
        f"{out}: GLIDE, {it.kind}, {side} x {side} images of {RELEASE}, {it.parameters:,} parameters\nnext: "
        f'unveil sample image --checkpoint {place} --prompt "an oil painting of a corgi"{given[it.kind]}'
    )


def glide_config(it: Glide) -> JsonObject:
    """The contents of config.json, but for the digest of the tokenizer."""
    from unveil.image.recipes.convert import our_config

    text = {"text_length": it.text.length, "text_width": it.text.width}
    text |= {"text_layers": it.text.layers, "text_heads": it.text.heads}
    return our_config(it.images, glide_shape(it)) | {"captions": CAPTIONS, "encoder": "glide"} | text


def write_with_tokenizer(
    out: Path, described: Mapping[str, object], tokenizer: Tokenizer, model: object
) -> None:
    """Write a converted model and its tokenizer as a run folder.

    Raises:
        UnveilError: the folder holds something else.
    """
    import json
    from hashlib import sha256

    import torch

    from unveil.files.atomic import replacing
    from unveil.image.recipes.prompts import FILE
    from unveil.runs.checkpoints import check_free, write_converted

    assert isinstance(model, torch.nn.Module)
    written = tokenizer.written()
    described = {**described, "tokenizer_digest": sha256(written.encode("utf-8")).hexdigest()}
    config = json.loads(json.dumps(described))
    check_free(out, config)
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / FILE) as partial:
        partial.write_bytes(written.encode("utf-8"))
    state = {"step": 0, "origin": described["origin"]}
    write_converted(out, "checkpoint-0", config, {"ema": model}, state)


def enlarged_inpainting(config: SampleImage, model: ImageModel) -> Prepared:
    """Inputs of `generate` for the upsampler that fills in parts: `given` and `mask` at the full size, and
    `low`, the small images that the model of inpainting made.

    Raises:
        ValueError: one of them is missing.
    """
    from dataclasses import replace

    import numpy as np
    import torch

    from unveil.image.recipes.given_pictures import Prepared, filled_in, known_of, read_given

    colours, side, _ = model.picture
    if config.task != "inpaint" or not (config.given and config.mask and config.low):
        raise ValueError(
            "this model enlarges images whose parts were filled in: give `task=inpaint`, `given`, `mask` and "
            "`low`, the small images"
        )
    turns = np.arange(config.n)
    large = read_given(config, config.given, side, colours)
    small = read_given(config, config.low, side // model.shape.upsample, colours, small=True)
    low = model.normalized(torch.from_numpy(small[turns % len(small)]))
    given = filled_in(model, torch.from_numpy(large[turns % len(large)]), known_of(config, side))
    return Prepared(replace(given, low=low), inputs=len(large))
