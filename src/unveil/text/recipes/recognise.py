"""Whether a path is a text model of another program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

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
