"""Train a planner of any environment, a diffusion and its value: `unveil train planner`."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from unveil.planning.recipes.locomotion.config import TrainLocomotion, TrainValue, folder_name
from unveil.runs.flags import changed

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float

    from unveil.planning.data.episodes import Episodes
    from unveil.planning.data.interface import Interface
    from unveil.planning.recipes.planner.config import TrainPlanner
    from unveil.runs.progress import Progress

CARRIED = (
    "horizon",
    "shortest",
    "n_diffusion_steps",
    "inverse",
    "width",
    "heads",
    "patch",
    "normalizer",
    "hold_out",
)
"""Settings of `TrainPlanner` that diffusion and value share."""
HORIZON, TO_GOALS = 32, 128  # environment steps of the longest window of plans for returns, and to goals


def train_planner(config: TrainPlanner, progress: Progress) -> Path:
    """Train the diffusion, and the value where it is wanted; returns the run folder above both."""
    from unveil.errors import UnveilError
    from unveil.files.notes import note
    from unveil.planning.recipes.locomotion.train import begun_with, check, train_on, trained_on
    from unveil.runs.training import begin

    if not config.data:
        raise UnveilError("`data` is needed: a file, a Minari folder or id, or a D4RL name")
    run = run_folder(config)
    check(diffusion_config(config, run, 0))
    device = begin(config.run, run / "diffusion")
    begin(config.run, run / "value")
    episodes, interface = data_of(config)
    goal = bool(interface.goal)
    shared = diffusion_config(config, run, len(interface.goal)).shared
    more = {"interface": interface.described(), "observe": list(config.observe), "goal": config.goal}
    kept = trained_on(episodes, shared)
    returns, relative = (None, None) if goal or is_body(config) else outcomes(config, kept, progress)
    diffusion, begun = begun_with(of_part(diffusion_config(config, run, len(interface.goal)), "diffusion"))
    train_on(diffusion, kept, more, device, progress, relative, begun)
    if goal and config.value:
        note("plans lead to goals, so no value function is trained")
    elif config.value:
        value, begun = begun_with(of_part(value_config(config, run), "value"))
        train_on(value, kept, more, device, progress, returns, begun)
    return run


def of_part(config: TrainLocomotion | TrainValue, name: str) -> TrainLocomotion | TrainValue:
    """The config with `from` as a part of the planner that it names."""
    return changed(config, source=str(Path(config.run.source) / name)) if config.run.source else config


def is_body(config: TrainPlanner) -> bool:
    """Whether the data name a body of `unveil train locomotion`, whose settings are then the defaults."""
    from unveil.planning.recipes.locomotion.clip import body_name

    return bool(body_name(config.data))


def outcomes(
    config: TrainPlanner, episodes: Episodes, progress: Progress
) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """The return that follows each step, which the value learns, and its advantage, whose rank the diffusion
    is conditioned on."""
    from unveil.planning.advantage import advantages
    from unveil.planning.data.trajectories import continued_returns

    shared = diffusion_config(config, run_folder(config), 0).shared
    returns = continued_returns(episodes, discount_of(config), shared.termination_penalty)

    def on_step(done: int, of: int) -> None:
        progress("expected returns", done, of, {})

    steps = min(2_000, config.run.steps)
    return returns, advantages(episodes, returns, config.run.seed, steps, on_step=on_step)


def discount_of(config: TrainPlanner) -> float:
    """The discount per environment step."""
    return config.discount or (0.997 if is_body(config) else 0.99)


def run_folder(config: TrainPlanner) -> Path:
    """The run folder, by default runs/planner-<data>."""
    return config.run.out or Path("runs") / f"planner-{folder_name(config.data)}"


def data_of(config: TrainPlanner) -> tuple[Episodes, Interface]:
    """The data of a training, and the interface of the planner; with `env` they are checked against it.

    Raises:
        UnveilError: no such data or environment, or data that do not fit it.
    """
    from unveil.planning.data.recorded import read_recorded, with_limits
    from unveil.planning.worlds import environment

    if config.env is None:
        episodes, interface = read_recorded(config.data, config.observe, config.goal)
        return episodes, with_limits(interface, episodes)
    env = environment.made_with(environment.maker(config.env), config.env)
    try:
        choices = environment.choices(env)
        episodes, interface = read_recorded(config.data, config.observe, config.goal, choices)
        low, high = environment.limits(env)
        interface = replace(interface, environment=config.env, low=low, high=high)
        sizes = episodes.observations.shape[1], episodes.actions.shape[1]
        environment.check_spaces(env, config.env, interface, *sizes)
    finally:
        env.close()
    return episodes, interface


def diffusion_config(config: TrainPlanner, run: Path, goals: int) -> TrainLocomotion:
    """The training of the diffusion.

    Args:
        goals: how many numbers a goal has; 0 for plans for returns.
    """
    own = _shared(config, TO_GOALS if goals else HORIZON) | {"depth": config.depth}
    made = changed(TrainLocomotion(), **own, returns_discount=discount_of(config))
    return replace(made, returns=False if goals else None, run=replace(config.run, out=run / "diffusion"))


def value_config(config: TrainPlanner, run: Path) -> TrainValue:
    """The training of the value."""
    own = _shared(config, HORIZON) | {"depth": min(2, config.depth)}
    rate = 0.5 * config.run.learning_rate  # as `unveil train value` and `train locomotion` differ
    flags = replace(config.run, steps=config.value_steps, learning_rate=rate, out=run / "value")
    return replace(changed(TrainValue(), **own, discount=discount_of(config)), run=flags)


def _shared(config: TrainPlanner, horizon: int) -> dict[str, object]:
    own: dict[str, object] = {name: getattr(config, name) for name in CARRIED}
    penalty = config.termination_penalty
    if penalty is None:
        penalty = -100.0 if is_body(config) else 0.0
    named = {"preset": config.preset, "dataset": config.data, "termination_penalty": penalty}
    return own | named | {"horizon": config.horizon or horizon}


def after_planner(config: TrainPlanner, run: Path) -> str:
    """The command that evaluates the planner; or, without an environment, how to plan in Python."""
    from unveil.planning.data.interface import interface_of
    from unveil.planning.recipes.locomotion.models import read_locomotion_config
    from unveil.planning.recipes.locomotion.next_step import has_body

    diffusion = run / "diffusion"
    described = read_locomotion_config(diffusion)
    interface = interface_of(described)
    if interface.environment:
        return (
            f"unveil eval planner --checkpoint {shlex.quote(str(run))} --env "
            f"{shlex.quote(interface.environment)}"
        )
    if has_body(config.data, diffusion, "locomotion"):
        return f"unveil eval planner --checkpoint {shlex.quote(str(run))}"
    told = "planner.reset(goal); " if interface.goal and not interface.fields else ""
    return (
        f"in Python, planner = unveil.load({str(run)!r}); {told}action = planner.act(observation)   (or, in "
        f"gymnasium: unveil eval planner --checkpoint {shlex.quote(str(run))} --env ID)"
    )
