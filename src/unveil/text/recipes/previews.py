"""Text on the way of a training: what the averaged weights write at each checkpoint."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor, nn

from unveil.errors import UnveilError
from unveil.runs.progress import Progress
from unveil.sampling.noise import generators
from unveil.text.generation import until_end, write_after
from unveil.text.model import TextModel
from unveil.text.recipes.display import printable
from unveil.text.settings import TextSettings

COUNT, STEPS = 4, 32


def sampler(
    model: TextModel, trained: nn.Module, run: Path, progress: Progress, prompts: Sequence[Sequence[int]] = ()
) -> Callable[[int, dict[str, Tensor]], None]:
    """A function (step, averaged weights) that writes `samples/step-<step>.txt`: 4 texts at temperature 1,
    with the same seeds each time.

    The training continues exactly as without it: the weights are put back, and the texts have generators of
    their own. An error becomes a warning.

    Args:
        trained: the module whose weights are averaged: the model, or the LoRA matrices inside it.
        prompts: token ids that the texts begin with and that are not shown; by default none.
    """
    announced: list[Path] = []

    def on_sample(step: int, weights: dict[str, Tensor]) -> None:
        file = run / "samples" / f"step-{step:06d}.txt"
        before = {name: value.detach().clone() for name, value in trained.state_dict().items()}
        training = model.training
        try:
            trained.load_state_dict(weights)
            texts = _texts(model.eval(), prompts or [[]] * COUNT)
            file.parent.mkdir(exist_ok=True)
            file.write_text("\n---\n".join(texts) + "\n", encoding="utf-8")
        except (UnveilError, ValueError, RuntimeError, OSError) as error:
            warnings.warn(f"no samples at step {step}: {error}", stacklevel=2)
            return
        finally:
            trained.load_state_dict(before)
            model.train(training)
        if not announced:
            announced.append(file)
            progress(f"samples of the weights so far: {file}", 1, 1, {})

    return on_sample


def _texts(model: TextModel, prompts: Sequence[Sequence[int]]) -> list[str]:
    length = TextSettings(length=None).tokens(model.shape.context - max(map(len, prompts)))
    order = "first-hitting" if model.window else "ancestral"
    settings = TextSettings(length, steps=min(STEPS, length), order=order, temperature=1.0)
    rows = write_after(model, prompts, length, settings, generators(0, len(prompts))).ids.tolist()
    return [printable(model.tokens.decode(until_end(row, model.tokens, settings))) for row in rows]
