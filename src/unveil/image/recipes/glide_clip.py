"""Use GLIDE's CLIP of noisy images: load, inspect and convert its two towers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unveil.errors import UnveilError
from unveil.files.json_objects import JsonObject

if TYPE_CHECKING:
    from unveil.image.clip_model import ClipModel
    from unveil.image.data.tokenizer import Tokenizer
    from unveil.image.networks.glide_clip import GlideClipImageShape, GlideClipTextShape
    from unveil.image.prompts.text_conditioning import TextConditioning
    from unveil.image.shape import ImageShape
    from unveil.image.weights.glide_clip import FoundGlideClip

PAD = "!"  # id 0


def load_glide_clip(path: Path, device: str = "auto", *, tokenizer: str = "") -> ClipModel:
    """Load both towers of GLIDE's CLIP, of which `path` is one; no code in the files is run.

    Args:
        tokenizer: folder or file of CLIP's vocabulary; "": the folder of the file, or else that of the
            package open-clip-torch.
    Raises:
        UnveilError: they cannot be read or used, or there is no vocabulary.
    """
    from unveil.image.weights.glide_clip import find_glide_clip
    from unveil.runs.device import find_device

    found = find_glide_clip(path)
    return _model(found, clip_words(path, tokenizer, found.text)).to(find_device(device))


def clip_words(file: Path, place: str, shape: GlideClipTextShape) -> Tokenizer:
    """CLIP's tokenizer for a text tower, whose padding is the id 0.

    Raises:
        UnveilError: there is none, it is damaged, or larger than the tower's table.
    """
    from unveil.image.data.tokenizer_files import BPE_FILE, read_clip_tokenizer

    names = (BPE_FILE, "vocab.json", "tokenizer.json")
    beside = next((file.parent / name for name in names if (file.parent / name).is_file()), None)
    where = Path(place) if place else beside
    if where is not None and where.name == "vocab.json":
        where = where.parent
    tokenizer = read_clip_tokenizer(where, shape.length, PAD)
    if tokenizer.size > shape.vocabulary:
        raise UnveilError(
            f"{where or 'CLIP'}: a vocabulary of {tokenizer.size:,} tokens, but {file.name} has "
            f"{shape.vocabulary:,}"
        )
    return tokenizer


def seeing_clip(shape: ImageShape, tower: GlideClipImageShape, text: TextConditioning) -> ClipModel:
    """A CLIP with an image tower of GLIDE's, whose scale of the logits is fixed."""
    from math import log

    from torch import nn

    from unveil.image.clip_model import ClipModel
    from unveil.image.networks.glide_clip import GlideClipImage
    from unveil.image.weights.glide_clip import LOGIT_SCALE

    network = GlideClipImage(tower)
    model = ClipModel(shape, tower.embedding, text, True, network, nn.Identity(), counted_from=0)
    model.log_scale.requires_grad_(False).fill_(log(LOGIT_SCALE))
    return model


def reading_clip(tokenizer: Tokenizer, tower: GlideClipTextShape) -> TextConditioning:
    """The text side of such a CLIP."""
    from unveil.image.networks.glide_clip import GlideClipText
    from unveil.image.prompts.text_conditioning import TextConditioning

    return TextConditioning(tokenizer, GlideClipText(tower))


def _model(found: FoundGlideClip, tokenizer: Tokenizer) -> ClipModel:
    from unveil.image.weights.glide_clip import read_glide_clip

    image, text = read_glide_clip(found)
    model = seeing_clip(clip_shape(found.image), found.image, reading_clip(tokenizer, found.text))
    model.network.load_state_dict(image)
    model.text.network.load_state_dict(text)
    return model.eval()


def clip_shape(tower: GlideClipImageShape) -> ImageShape:
    """The images and the diffusion of GLIDE's CLIP, as of an `ImageModel`."""
    from unveil.image.shape import ImageShape

    return ImageShape(tower.size, 3, schedule="cosine", diffusion_steps=tower.steps, attention=(), stem=1)


def inspect_glide_clip(path: Path) -> str:
    """Describe such a CLIP for people; only the headers are read."""
    from math import prod

    from unveil.image.weights.glide_clip import find_glide_clip

    found = find_glide_clip(path)
    counts = [(len(part), sum(prod(it.shape) for it in part.values())) for part in found.stored]
    (seen, seeing), (read, reading), (image, text) = *counts, (found.image, found.text)
    rows = [
        ("release", "openai/glide-text2im, CLIP of noisy images"),
        ("recognised by", "blocks.input.w_t, a class token for each time; blocks.input.w_voc of the text"),
        ("image tower", f"{found.files[0].name}: {seen} tensors, {seeing:,} parameters"),
        ("text tower", f"{found.files[1].name}: {read} tensors, {reading:,} parameters"),
        ("images", f"{image.size} x {image.size} in patches of {image.patch}, {image.steps} times (cosine)"),
        ("text", f"{text.length} tokens of {text.vocabulary:,} (CLIP's)"),
        ("embedding", f"{image.embedding} numbers, scale of the logits 100"),
        ("usable", "yes: unveil.load(PATH), unveil weights convert PATH OUT, then --clip OUT"),
    ]
    return "\n".join([str(path), *(f"  {name:<13} {text}" for name, text in rows)])


def convert_glide_clip(path: Path, out: Path, tokenizer: str = "") -> str:
    """Write such a CLIP as a run of ours; returns what is printed.

    Raises:
        UnveilError: it cannot be read or used, there is no vocabulary, or something else is at `out`.
    """
    import shlex

    from unveil.image.recipes.glide import write_with_tokenizer
    from unveil.image.weights.glide_clip import find_glide_clip

    found = find_glide_clip(path)
    words = clip_words(path, tokenizer, found.text)
    write_with_tokenizer(out, clip_config(found), words, _model(found, words))
    return (
        f"{out}: GLIDE's CLIP of noisy {found.image.size} x {found.image.size} images\nnext: unveil sample "
        f'image --checkpoint MODEL --clip {shlex.quote(str(out))} --prompt "a photo of a corgi"'
    )


def clip_config(found: FoundGlideClip) -> JsonObject:
    """The contents of config.json, but for the digest of the tokenizer."""
    from dataclasses import asdict

    fields = asdict(clip_shape(found.image))
    for name in ("classes", "upsample", "betas"):
        del fields[name]
    return {
        "recipe": "clip",
        "origin": "openai/glide-text2im",
        "names": [],
        "captions": "glide",
        "encoder": "clip",
        "noised": True,
        "embedding_width": found.image.embedding,
        "glide": {"image": asdict(found.image), "text": asdict(found.text)},
        **fields,
    }
