"""Files of textual inversion: learned vectors of new words of a text encoder. Gal et al. 2022.

Three forms are read: diffusers' `learned_embeds` ({token: (W,) or (n, W)}), AUTOMATIC1111's `.pt`
(`string_to_param`, whose word is the name of the file), and kohya's (`emb_params`, the same).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import torch
from safetensors.torch import save
from torch import Tensor

from unveil.errors import UnveilError
from unveil.files.atomic import MADE, output
from unveil.files.pickles import Made, Symbol, nothing
from unveil.files.safetensors import read_tensors
from unveil.files.torch_save import Form, read_torch

NAMES = ("learned_embeds.safetensors", "learned_embeds.bin")
LONGEST = 75
"""Most vectors of a word: they must fit into one chunk of a prompt."""
_XL = {"clip_l", "clip_g"}
_PARAMETER = Symbol("torch._utils", "_rebuild_parameter")
_PARAMETERS = Symbol("torch.nn.modules.container", "ParameterDict")
_SETS = (Symbol("__builtin__", "set"), Symbol("builtins", "set"))  # an empty one in every module


@dataclass(frozen=True, eq=False)
class LearnedWord:
    """A new word of a text encoder.

    Args:
        token: the word as it stands in a prompt.
        vectors: (n, W), its vectors, in float32.
    """

    token: str
    vectors: Tensor


class ExtendedTable(NamedTuple):
    """A table of token embeddings with learned words.

    Args:
        table: (V + n, W), the table with the vectors of all words behind it.
        ids: the ids of each word, in order; the first is that of a block of `prompt_chunks.chunks`.
    """

    table: Tensor
    ids: dict[str, tuple[int, ...]]


def read_words(path: Path) -> tuple[LearnedWord, ...]:
    """Read the learned words of a file, or of a folder of diffusers.

    Raises:
        UnveilError: it cannot be read, or holds no learned words; it is for Stable Diffusion XL.
    """
    file = path
    if path.is_dir():
        file = next((path / name for name in NAMES if (path / name).is_file()), path / NAMES[0])
    if file.suffix == ".safetensors":
        tree: object = read_tensors(file)
    else:
        tree = read_torch(file, Form(_knows, nothing, _plain, 2**30, 100_000, 16, zipped=False))
    try:
        words = _words(cast(dict[object, object], tree) if isinstance(tree, dict) else {}, file.stem)
        return tuple(LearnedWord(token, _vectors(token, value)) for token, value in words.items())
    except ValueError as error:
        raise UnveilError(f"{file}: learned words that cannot be used: {error}") from error


def write_word(file: Path, word: LearnedWord) -> None:
    """Write diffusers' form, {token: (n, W)} in safetensors: `learned_embeds.safetensors` in a folder, or a
    file with the token as its name, which is then the word in AUTOMATIC1111's program.

    Raises:
        UnveilError: the file cannot be written, or another program made it.
    """
    vectors = word.vectors.detach().to("cpu", torch.float32, copy=True).contiguous()
    with output(file) as partial:
        partial.write_bytes(save({word.token: vectors}, {"format": "pt", "unveil": MADE}))


def write_automatic(file: Path, word: LearnedWord, step: int = 0) -> None:
    """Write AUTOMATIC1111's form, a pickle of plain numbers and tensors; the name of the file is the word.

    Args:
        step: number of steps of its training.
    Raises:
        UnveilError: the file cannot be written, or another program made it.
    """
    vectors = word.vectors.detach().to("cpu", torch.float32, copy=True).contiguous()
    tree = {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": vectors},
        "name": word.token,
        "step": step,
        "sd_checkpoint": None,
        "sd_checkpoint_name": None,
        "unveil": MADE,
    }
    with output(file) as partial:
        torch.save(tree, partial)


def extended(table: Tensor, words: Sequence[LearnedWord]) -> ExtendedTable:
    """Append the vectors of words to a table of token embeddings.

    Diffusers calls the further vectors of a word token_1, token_2 ...; here a word has several ids, which a
    tokenizer puts where the word stands.

    Args:
        table: (V, W), of the text encoder; it is not changed.
    Raises:
        UnveilError: the vectors are of another width: the words are for another base.
        ValueError: a word occurs twice.
    """
    ids: dict[str, tuple[int, ...]] = {}
    first = len(table)
    for word in words:
        if word.token in ids:
            raise ValueError(f"the learned word {word.token[:60]} is there twice; leave one of its files out")
        if word.vectors.shape[1] != table.shape[1]:
            raise UnveilError(
                f"learned word for another base: the vectors of {word.token[:60]} are "
                f"{word.vectors.shape[1]} wide, those of the text encoder {table.shape[1]}"
            )
        ids[word.token] = tuple(range(first, first + len(word.vectors)))
        first += len(word.vectors)
    return ExtendedTable(torch.cat([table, *(word.vectors.to(table) for word in words)]), ids)


def _words(tree: Mapping[object, object], stem: str) -> dict[str, object]:
    """The vectors of a file by their words."""
    if set(tree) >= _XL:
        raise ValueError("they are for Stable Diffusion XL, which has two text encoders")
    if isinstance(tree.get("string_to_param"), dict):
        inside = cast(dict[object, object], tree["string_to_param"])
        if len(inside) != 1:
            raise ValueError(f"string_to_param has {len(inside)} words; one is known")
        return {stem: next(iter(inside.values()))}
    if "emb_params" in tree:
        return {stem: tree["emb_params"]}
    words = {str(token): value for token, value in tree.items()}
    if not words or not all(isinstance(value, Tensor) for value in words.values()):
        raise ValueError("needed are tensors by token, or string_to_param, or emb_params")
    return words


def _vectors(token: str, value: object) -> Tensor:
    if not isinstance(value, Tensor) or value.ndim not in (1, 2) or not value.dtype.is_floating_point:
        raise ValueError(f"{token[:60]} is no vector and no matrix")
    vectors = value.float().reshape(-1, value.shape[-1])
    if not 1 <= len(vectors) <= LONGEST or not vectors.numel():
        raise ValueError(f"{token[:60]} has {len(vectors)} vectors; 1 .. {LONGEST} are known")
    if not bool(vectors.isfinite().all()):
        raise ValueError(f"{token[:60]} holds numbers that are not finite; download it again")
    return vectors


def _knows(symbol: Symbol) -> bool:
    return symbol in (_PARAMETER, _PARAMETERS, *_SETS)


def _plain(tree: object) -> object:
    """The part of a pickle that holds vectors, with parameters as tensors; the rest is never read."""
    if not isinstance(tree, dict):
        return tree
    inside = cast(dict[object, object], tree)
    key = next((key for key in ("string_to_param", "emb_params") if key in inside), None)
    return _tensors(inside) if key is None else {key: _tensors(inside[key])}


def _tensors(value: object) -> object:
    if isinstance(value, dict):
        return {key: _tensors(part) for key, part in cast(dict[object, object], value).items()}
    if isinstance(value, Made) and value.maker == _PARAMETER and value.arguments:
        return value.arguments[0]
    if isinstance(value, Made) and value.maker == _PARAMETERS:
        state: object = value.state
        return (
            _tensors(cast(dict[str, object], state).get("_parameters")) if isinstance(state, dict) else None
        )
    return value
