"""`unveil train inversion`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unveil.errors import UnveilError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from unveil.image.data.images import ImageSet
    from unveil.image.prompts.text_conditioning import TextConditioning
    from unveil.image.recipes.inversion.config import TrainInversion
    from unveil.image.training import ImageBatch
    from unveil.runs.progress import Progress

# of the paper's, those that say nothing of what is shown
TEMPLATES = (
    "a photo of {}",
    "a rendering of {}",
    "a cropped photo of {}",
    "a close-up photo of {}",
    "a bright photo of {}",
    "a good photo of {}",
    "the photo of {}",
    "a depiction of {}",
)
UNKNOWN = ("<unknown>", "[UNK]", "<unk>")


def train_inversion(config: TrainInversion, progress: Progress) -> Path:
    """Train the vectors of a new word of a model of text to image; returns the run folder."""
    from dataclasses import replace

    from unveil.image.prompts.learned_words import add_words
    from unveil.image.recipes.inversion.config import TrainInversion
    from unveil.image.recipes.tuning import (
        LOWER,
        check_given,
        learned_from,
        open_base,
        random_data,
        read_pictures,
        sampler,
        tuned_task,
    )
    from unveil.image.training import image_batches
    from unveil.runs.device import enough_memory
    from unveil.runs.finetuning import refuse
    from unveil.runs.flags import flat
    from unveil.runs.training import as_json, begin, run_task

    run = config.run.folder
    refuse(config.run, "a word is learned for a model; give that as `base`")
    check_given(config.model, config.pictures)
    device = begin(config.run, run)
    base = open_base(config.model, device)
    model, text = base.model, base.model.text
    assert text is not None
    first = first_vector(text, config.init)
    vectors = add_words(text, {config.token: first.expand(config.vectors, -1).clone()})
    model.eval()
    text.unfreeze()
    images = read_pictures(config.pictures, config.captions, model, progress)
    templates = config.templates or (("{}",) if base.encoder in ("words", "glide") else TEMPLATES)
    if config.captions:
        check_captions(images, text, config)
    else:
        prompts = tuple(templates[k % len(templates)].replace("{}", config.token) for k in range(len(images)))
        images = replace(images, captions=prompts, drawings=None)
    assert images.captions is not None
    size, drop = images.pixels.shape[-1], config.model.label_drop
    with enough_memory(LOWER):
        data = random_data(model, images, run, config.pictures.flip, progress)
    if not config.captions:
        data.captions = templated(templates, config.token)
    described = as_json(
        flat(config)
        | base.described
        | learned_from(images, config.pictures)
        | {"recipe": "inversion", "templates": () if config.captions else templates}
    )

    def draws(count: int) -> Callable[[torch.Generator], ImageBatch]:
        return image_batches(data, model.shape, count, drop)

    def on_save(step: int, averaged: dict[str, Tensor]) -> None:
        write_words(run, config.token, averaged["vectors"], step)

    task = tuned_task(model, vectors, draws, config.run.batch_size, described["min_snr"])
    on_sample = sampler(base, vectors, images.captions, size, run, progress)
    with enough_memory(LOWER):
        run_task(task, config.run, device, run, described, TrainInversion(), progress, on_sample, on_save)
    return run


def first_vector(text: TextConditioning, word: str) -> Tensor:
    """The vector (W,) that a new word begins with: that of a known word, or the mean of all words.

    Args:
        word: "": the mean.
    Raises:
        UnveilError: a word that is not one token of the vocabulary.
    """
    from unveil.image.prompts.learned_words import table_of

    table = table_of(text).float()
    if not word:
        return table.mean(0)
    ids = text.ids(word)
    if len(ids) != 1 or text.tokenizer.token_of(ids[0]) in UNKNOWN:
        what = "is not in the vocabulary" if len(ids) == 1 else f"is {len(ids)} tokens, not one,"
        raise UnveilError(f"`init` {word!r} {what} of the base's text encoder; take another word")
    return table[ids[0]]


def templated(templates: Sequence[str], token: str) -> Callable[[Tensor, torch.Generator], Sequence[str]]:
    """A function that draws a template for each row; the count of random numbers depends on that of rows."""
    import torch

    def captions(rows: Tensor, generator: torch.Generator) -> Sequence[str]:
        drawn = torch.randint(len(templates), (len(rows),), generator=generator, device="cpu").tolist()
        return [templates[int(k)].replace("{}", token) for k in drawn]

    return captions


def check_captions(images: ImageSet, text: TextConditioning, config: TrainInversion) -> None:
    """Refuse captions without the word.

    Raises:
        UnveilError: the first of them.
    """
    rows = {row for them in text.learned.values() for row in them}
    for caption in images.captions or ():
        if not rows & set(text.ids(caption)):
            raise UnveilError(
                f"the caption {caption[:60]!r} does not contain the word {config.token}; write it into all "
                "captions, or give `templates` instead"
            )


def write_words(run: Path, token: str, vectors: Tensor, step: int) -> None:
    """Write the word as learned_embeds.safetensors of diffusers, and as the .pt file of AUTOMATIC1111's
    program, whose name is the word.

    Raises:
        UnveilError: a file cannot be written, or another program made it.
    """
    from unveil.image.weights.textual_inversion import NAMES, LearnedWord, write_automatic, write_word

    word = LearnedWord(token, vectors)
    write_word(run / NAMES[0], word)
    write_automatic(run / f"{token}.pt", word, step)


def after_training(config: TrainInversion, run: Path) -> str:
    """The next command: samples of a prompt with the word."""
    from shlex import quote

    from unveil.runs.config import stored_config

    prompt = quote(str(stored_config(run).get("example", config.token)))
    return f"unveil sample image --checkpoint {quote(str(run))} --prompt {prompt} -n 4"
