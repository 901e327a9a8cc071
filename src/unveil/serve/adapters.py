"""LoRA files and learned words that a server offers to prompts: those of its start alone."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from unveil.errors import UnveilError
from unveil.image.prompts.prompt import LoraTag, without_loras
from unveil.image.recipes.config import SampleImage
from unveil.runs.flags import changed
from unveil.serve.refusal import Refused

if TYPE_CHECKING:
    from unveil.image.model import ImageModel

Tagged = list[tuple[Path, LoraTag]]
RUNS = {"lora": "pytorch_lora_weights.safetensors", "inversion": "learned_embeds.safetensors"}


class Lora(NamedTuple):
    """A LoRA file.

    Args:
        base: the model that a run of `unveil train lora` was trained on; "": not known.
    """

    path: Path
    base: str


class Word(NamedTuple):
    """A learned word.

    Args:
        vectors, width: shape of its vectors; the width is that of the text encoder.
    """

    path: Path
    vectors: int
    width: int


class Adapters(NamedTuple):
    """LoRA files by id, as `<lora:id:0.8>` of a prompt names them; learned words, as prompts contain them."""

    loras: dict[str, Lora]
    words: dict[str, Word]


NONE = Adapters({}, {})


def adapters_of(loras: Sequence[str], embeddings: Sequence[str]) -> Adapters:
    """Look at the files of `unveil serve --lora ... --embedding ...`.

    Args:
        loras: files, folders of PEFT or diffusers, or runs of `unveil train lora`; an id is the name without
            suffix.
        embeddings: files of learned words, or runs of `unveil train inversion`; these are read.
    Raises:
        UnveilError: no such file, another kind of run, a name that a tag cannot hold, or the same name twice.
    """
    found: dict[str, Lora] = {}
    for place in loras:
        path = _placed(place, "lora")
        name = path.stem if path.is_file() else path.name
        if not name.strip() or name != name.strip() or set(name) & set(":<>"):
            raise UnveilError(f"{place}: a tag <lora:name:1> cannot hold this name; rename it")
        if name in found:
            raise UnveilError(f"{place}: there are two LoRA files named {name}; rename one")
        found[name] = Lora(path, _base(path))
    words: dict[str, Word] = {}
    for place in embeddings:
        from unveil.image.recipes.embeddings import words_of

        path = _placed(place, "inversion")
        for word, shape in words_of(path).items():
            if word in words:
                raise UnveilError(f"{place}: the learned word {word[:60]} is there twice; leave one out")
            words[word] = Word(path, *shape)
    return Adapters(found, words)


def _placed(place: str, recipe: str) -> Path:
    """An existing file or folder; runs of another recipe are refused."""
    path = Path(place).resolve()
    if not path.exists():
        raise UnveilError(f"{place}: no such file or folder")
    if (path / "config.json").is_file():
        if _config(path).get("recipe") != recipe:
            raise UnveilError(f"{place}: no run of `unveil train {recipe}`")
        if not (path / RUNS[recipe]).is_file():
            raise UnveilError(f"{place}: {RUNS[recipe]} is missing; the training has saved nothing yet")
    return path


def _config(path: Path) -> dict[str, object]:
    try:
        found = json.loads((path / "config.json").read_text("utf-8-sig"))
    except (OSError, ValueError) as error:
        raise UnveilError(f"{path / 'config.json'}: not a config of unveil ({error})") from error
    return found if isinstance(found, dict) else {}


def _base(path: Path) -> str:
    return str(_config(path).get("base", "")) if (path / "config.json").is_file() else ""


def named(config: SampleImage, adapters: Adapters) -> SampleImage:
    """The config with the files that its prompts name, as `unveil sample image` takes them: the folders of
    LoRA files, and the files of learned words.

    Raises:
        Refused: a prompt names a LoRA file that is not served.
    """
    tags = [tag for prompt in config.prompt for tag in without_loras(prompt)[1]]
    for tag in tags:
        if tag.name not in adapters.loras:
            known = f"there are {', '.join(adapters.loras)}" if adapters.loras else "this server has none"
            raise Refused(400, f"`prompt`: there is no LoRA file named {tag.name[:80]!r}; {known}")
    folders = dict.fromkeys(str(adapters.loras[tag.name].path.parent) for tag in tags)
    said = [*config.prompt, str(config.settings.negative)]
    files = [str(it.path) for word, it in adapters.words.items() if any(_says(text, word) for text in said)]
    return changed(config, lora=tuple(folders), embedding=tuple(dict.fromkeys(files)))


def _says(text: str, word: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) is not None


def tagged(config: SampleImage, adapters: Adapters) -> tuple[Tagged, list[str]]:
    """The LoRA files of the prompts with their factors, and the prompts without tags.

    Raises:
        ValueError: prompts that name different files; one model makes all images of a job.
    """
    split = [without_loras(prompt) for prompt in config.prompt]
    if len({tags for _, tags in split}) > 1:
        raise ValueError("all prompts of a job must name the same LoRA files with the same weights")
    files = [(adapters.loras[tag.name].path, tag) for tag in (split[0][1] if split else ())]
    return files, [text for text, _ in split]


def findable(config: SampleImage, files: Tagged) -> bool:
    """Whether `unveil sample image` finds the same files in the folders of the config."""
    from unveil.image.recipes.loras import named_loras

    try:
        return named_loras(config.lora, config.prompt)[0] == files
    except UnveilError:
        return False


def add_adapters(model: ImageModel, files: Tagged, config: SampleImage) -> ImageModel:
    """The model with LoRA files merged into it and with learned words; it is changed.

    Raises:
        UnveilError: files of another base, or damaged ones.
    """
    from unveil.image.recipes.embeddings import add_embeddings
    from unveil.image.recipes.loras import add_loras

    add_loras(model, files)
    add_embeddings(model, config.embedding)
    return model
