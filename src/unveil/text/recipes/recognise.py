"""Whether a path is a text model of another program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from unveil.errors import UnveilError
from unveil.runs.recognised import Reading, Recognised
from unveil.text.weights.llada import is_llada


def recognise(path: Path) -> Recognised | None:
    """A folder of LLaDA's weights, which is read where it is; None for anything else."""
    if not is_llada(path):
        return None
    from unveil.text.model import TextModel
    from unveil.text.recipes.convert import inspect_llada
    from unveil.text.recipes.load import load_text_model

    loader: Callable[..., TextModel] = load_text_model

    def load(device: str, seed: int, **settings: object) -> TextModel:
        return loader(str(path), device, **settings)

    def convert(out: Path, reading: Reading) -> str:
        raise UnveilError(
            f"{path}: LLaDA's weights are read where they are, so nothing is converted; use the folder "
            f"itself: unveil sample text --checkpoint {path}"
        )

    return Recognised(load, lambda _: inspect_llada(path), convert)


class Llada(NamedTuple):
    """What a folder of LLaDA's weights says without being loaded: number of tokens that the model can see,
    and whether it has LLaDA's chat template."""

    context: int
    chats: bool


def described(folder: Path) -> Llada:
    """A folder of LLaDA's weights.

    Raises:
        UnveilError: damaged, or another architecture.
    """
    from unveil.text.data.chat import is_lladas
    from unveil.text.weights import llada

    return Llada(llada.describe(folder).shape.context, is_lladas(llada.read_template(folder)))
