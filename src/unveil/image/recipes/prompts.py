"""The text side of image models: tokenizer and encoder, as config.json of a run describes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from unveil.errors import UnveilError
from unveil.image.recipes.training_flags import CaptionFlags

if TYPE_CHECKING:
    from unveil.image.data.tokenizer import Tokenizer
    from unveil.image.prompts.text_conditioning import TextConditioning

FILE = "tokenizer.json"
LARGEST_FILE = 64 * 2**20
GLIDE_OPTIONS = {"token_norm": False, "linear_vector": True}
"""Of a U-Net that reads `GlideText`, whose last layer is a norm and whose pooled vector is mapped once."""


def text_of(config: Mapping[str, object], folder: Path, name: str = "") -> TextConditioning | None:
    """The untrained text side of a model; None for a model without captions.

    Args:
        config: config.json of a run.
        folder: the run, or a checkpoint folder: tokenizer.json lies in it or above it.
        name: of that file, if it is another one.
    Raises:
        UnveilError: the tokenizer is missing or not the one of the training, or the weights of a frozen
            encoder are missing.
    """
    if not config.get("captions"):
        return None
    flags = caption_flags(config)
    if not (flags.learned or flags.encoder == "clip"):
        text, found = frozen_text(flags)
        if found["encoder_digest"] != config.get("encoder_digest"):
            raise UnveilError(f"{flags.encoder} is not the text encoder that {folder} was trained with")
        return text
    tokenizer = stored_tokenizer(config, folder, name or FILE)
    return learned_text(flags, tokenizer) if flags.learned else _clip_text(config, tokenizer)


def stored_tokenizer(config: Mapping[str, object], folder: Path, file: str = FILE) -> Tokenizer:
    """The tokenizer of a run, in its `file`; arguments and errors as of `text_of`."""
    from unveil.files.digest import digest

    places = [place / file for place in (folder, folder.parent) if (place / file).is_file()]
    if not places:
        raise UnveilError(f"{folder}: no {file} in it or above it, which splits prompts into words")
    if digest(places[0]) != config.get("tokenizer_digest"):
        raise UnveilError(f"{places[0]} is not the tokenizer that {folder} was trained with")
    return read_words(places[0])


def _clip_text(config: Mapping[str, object], tokenizer: Tokenizer) -> TextConditioning:
    """Stable Diffusion's text encoder, whose weights are stored with the model's."""
    from unveil.image.networks.clip import ClipText, ClipTextShape
    from unveil.image.prompts.text_conditioning import TextConditioning

    described = config.get("clip")
    try:
        shape = ClipTextShape(**described)  # pyright: ignore[reportCallIssue]
    except (TypeError, ValueError) as error:
        raise UnveilError(f"config.json describes no text encoder ({error})") from error
    return TextConditioning(tokenizer, ClipText(shape), pooled=False, frozen=True, restore=True)


def new_text(
    flags: CaptionFlags, captions: Sequence[str] | None, run: Path, resume: bool
) -> tuple[TextConditioning | None, dict[str, object]]:
    """The text side of a training, and the fields of config.json that describe it.

    With `encoder=words` or glide its tokenizer is written into the run folder; a resumed run keeps its own.

    Raises:
        UnveilError: images without captions, or a tokenizer that cannot be read.
    """
    from unveil.files.atomic import check_output, replacing
    from unveil.files.digest import digest

    if not flags.captions:
        return None, {"context": 0, "pooled": 0}
    assert captions is not None
    if not flags.learned:
        return frozen_text(flags)
    file = run / FILE
    tokenizer = read_words(file) if resume and file.is_file() else tokenizer_for(flags, captions)
    if not (resume and file.is_file()):
        check_output(file)
        run.mkdir(parents=True, exist_ok=True)
        with replacing(file) as partial:
            partial.write_text(tokenizer.written(), encoding="utf-8")
    width = flags.text_width
    fields: dict[str, object] = {"context": width, "pooled": width, "tokenizer_digest": digest(file)}
    if flags.encoder == "glide":
        fields["options"] = GLIDE_OPTIONS
    return learned_text(flags, tokenizer), fields


def caption_flags(config: Mapping[str, object]) -> CaptionFlags:
    """The settings of captions in config.json."""
    names = [field.name for field in fields(CaptionFlags) if field.name in config]
    return CaptionFlags(**{name: config[name] for name in names})  # pyright: ignore[reportArgumentType]


def learned_text(flags: CaptionFlags, tokenizer: Tokenizer) -> TextConditioning:
    """An encoder that is trained together with the denoiser: our own, or one as GLIDE's."""
    from unveil.image.networks.glide_text import GlideText, GlideTextShape
    from unveil.image.networks.text_encoder import WordTransformer, WordTransformerShape
    from unveil.image.prompts.text_conditioning import TextConditioning

    if flags.encoder == "glide":
        sizes = (flags.text_width, flags.text_layers, flags.text_heads)
        encoder = GlideText(GlideTextShape(tokenizer.size, tokenizer.length, *sizes))
        return TextConditioning(tokenizer, encoder, chunked=False)
    shape = WordTransformerShape(
        tokenizer.size, tokenizer.length, flags.text_width, flags.text_layers, flags.text_heads
    )
    return TextConditioning(tokenizer, WordTransformer(shape))


def frozen_text(flags: CaptionFlags) -> tuple[TextConditioning, dict[str, object]]:
    """A frozen encoder with its tokenizer, and the fields of config.json that describe it.

    Raises:
        UnveilError: it is not installed or not there, or damaged.
    """
    from hashlib import sha256

    import torch

    from unveil.image.data.tokenizer_files import MINILM
    from unveil.image.prompts.text_conditioning import TextConditioning
    from unveil.image.weights.text_encoders import read_text_encoder

    own = flags.encoder not in ("minilm", "random")
    place, seed = flags.encoder if own else MINILM[0], 0 if flags.encoder == "random" else None
    encoder, tokenizer = read_text_encoder(place, flags.text_length, random=seed)
    hashed = sha256()
    for name, value in sorted(encoder.state_dict().items()):
        hashed.update(name.encode() + value.contiguous().numpy().tobytes())
    text = TextConditioning(tokenizer, encoder, frozen=True, stored=False)
    null = text([""], torch.device("cpu"))
    assert null.tokens is not None and null.vector is not None
    widths = {"context": null.tokens.shape[-1], "pooled": null.vector.shape[-1]}
    return text, {**widths, "encoder_digest": hashed.hexdigest()}


def tokenizer_for(flags: CaptionFlags, captions: Sequence[str]) -> Tokenizer:
    """The tokenizer of a training with `encoder=words`: that of the file, or one of the captions' words; with
    `encoder=glide` it adds no start token."""
    from dataclasses import replace

    from unveil.image.data.tokenizer import train_words

    if flags.words:
        tokenizer = read_words(Path(flags.words))
    else:
        tokenizer = train_words(captions, flags.text_length, flags.vocabulary)
    return replace(tokenizer, start=None, end=None, bare=True) if flags.encoder == "glide" else tokenizer


def read_words(file: Path) -> Tokenizer:
    """The tokenizer that a training or `unveil data captions` wrote.

    Raises:
        UnveilError: the file is missing, damaged or something else.
    """
    from unveil.files.reading import reading
    from unveil.image.data.tokenizer import tokenizer_from

    with reading(file):
        if file.stat().st_size > LARGEST_FILE:
            raise ValueError("not a tokenizer")
        text = file.read_text(encoding="utf-8")
    return tokenizer_from(text)
