"""Which settings of planning on locomotion can be: one line with the setting's name, as a flag or as Python has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

if TYPE_CHECKING:
    from unveil.planning.recipes.locomotion.config import EvalLocomotion


def as_flag(name: str) -> str:
    """A field as the command line names it."""
    return f"--{name.replace('_', '-')}"


def as_argument(name: str) -> str:
    """A field as `unveil.load` takes it."""
    return f"load: {name}"


def check_planning(config: EvalLocomotion, said: Callable[[str], str]) -> None:
    """Refuse settings that cannot be.

    Args:
        said: a field's name, for people.
    Raises:
        ValueError: the field, what is needed and what was got.
    """
    from unveil.checks import flag, number, one_of, whole
    from unveil.planning.recipes.locomotion.config import EvalLocomotion

    def value(name: str) -> Any:
        return getattr(config, name)

    for name in (
        "episodes",
        "batch_size",
        "sampling_steps",
        "threads",
        "max_episode_length",
        "horizon",
        "n_diffusion_steps",
    ):
        whole(said(name), value(name))
    for name in ("n_guide_steps", "t_stopgrad", "seed"):
        whole(said(name), value(name), 0)
    for name in ("raw", "scale_grad_by_std", "anchored", "clip_denoised"):
        flag(said(name), value(name))
    hints = get_type_hints(EvalLocomotion)
    for name in ("preset", "guidance", "select", "solver", "version", "fast", "compile"):
        one_of(said(name), value(name), get_args(hints[name]))
    number(said("temperature"), value("temperature"), 0.0)
    number(said("ask_scale"), value("ask_scale"))
    number(said("discount"), value("discount"))
    if config.sharpness is not None:
        number(said("sharpness"), config.sharpness)
    if config.ask is not None and number(said("ask"), config.ask, 0.0) > 1.0:
        raise ValueError(f"{said('ask')} must lie in 0 .. 1, got {config.ask}")
    if config.warm_steps is not None:
        whole(said("warm_steps"), config.warm_steps, 1, config.sampling_steps)
    if config.plan_horizon is not None and config.plan_horizon != "auto":
        whole(said("plan_horizon"), config.plan_horizon)
    if config.anchored and config.sharpness is None:
        raise ValueError(f"{said('anchored')} needs {said('sharpness')}: the best plan alone is no mean")
    given_scale(config.scale, said)


def given_scale(text: object, said: Callable[[str], str] = as_flag) -> float:
    """The scale as a number; NaN where it is chosen by `auto`.

    Raises:
        ValueError: it is neither.
    """
    from math import isfinite

    if text == "auto":
        return float("nan")
    try:
        scale = float("nan") if isinstance(text, bool) else float(text)  # pyright: ignore[reportArgumentType]
    except (ValueError, TypeError):
        scale = float("nan")
    if not isfinite(scale):
        raise ValueError(f"{said('scale')} is a number or auto, got {text!r:.60}")
    return scale
