"""Episodes of any gymnasium environment, by its id or by a function that makes it."""

from __future__ import annotations

import inspect
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import Bool, Float, Int

from unveil.errors import UnveilError
from unveil.planning.data.fields import GOAL
from unveil.planning.data.interface import Interface, entry

SUCCESS = ("success", "is_success")  # entries of `info` by which environments report success
ROBOTICS = ("PointMaze", "AntMaze", "Fetch", "Hand", "Adroit", "FrankaKitchen", "Maze")
Make = Callable[..., "gymnasium.Env[Any, Any]"]
Draw = Callable[["gymnasium.Env[Any, Any]", int], np.ndarray]


def maker(name: str) -> Make:
    """A function that makes the environment: `render_mode` is its only argument.

    Args:
        name: an id of gymnasium, such as Pendulum-v1, or module:function, a function of the user's without
            necessary arguments; the module may lie in the current folder.
    Raises:
        UnveilError: no such environment, module or function, or a package that is missing.
    """
    module, colon, function = name.partition(":")
    if colon and "/" not in name and not function.rpartition("-v")[2].isdigit():
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        try:
            made = getattr(import_module(module), function)
        except (ImportError, AttributeError, ValueError) as error:
            raise UnveilError(
                f"`env={name}`: {error}; give an id of gymnasium, or module:function"
            ) from error
        if not callable(made):
            raise UnveilError(f"`env={name}`: {function} is no function that makes an environment")
        return _own(made, name)
    if name.startswith(ROBOTICS):
        _robotics(name)
    elif name.startswith("unveil/"):
        import_module("unveil.planning.worlds.maze.registration")
    try:
        gymnasium.spec(name)
    except Exception as error:  # gymnasium's own errors, and those of a module in the id
        raise UnveilError(
            f"`env={name}`: {_first_line(error)}; give an id of gymnasium, or module:function"
        ) from error
    return lambda **more: gymnasium.make(name, **more)


def _own(made: Callable[..., Any], name: str) -> Make:
    """A user's function as a `Make`, which leaves `render_mode` out where it takes none."""
    try:
        parameters = inspect.signature(made).parameters.values()
    except (TypeError, ValueError):
        parameters = ()
    takes = any(p.name == "render_mode" or p.kind == p.VAR_KEYWORD for p in parameters)

    def make(**more: object) -> gymnasium.Env[Any, Any]:
        env = made(**more) if takes else made()
        if not isinstance(env, gymnasium.Env):
            raise UnveilError(f"`env={name}` gives {type(env).__name__}, but a gymnasium.Env is needed")
        return env

    return make


def _robotics(name: str) -> None:
    """Register the environments of gymnasium-robotics."""
    level = gymnasium.logger.min_level
    try:
        gymnasium.logger.min_level = gymnasium.logger.ERROR  # it warns of environments that are not used here
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gymnasium.register_envs(import_module("gymnasium_robotics"))
    except ImportError as error:
        if name not in gymnasium.registry:
            raise UnveilError(
                f"`env={name}` is of gymnasium-robotics, which is not installed: pip install 'unveil[rl]'"
            ) from error
    finally:
        gymnasium.logger.min_level = level


def made_with(make: Make, name: str, render: bool = False) -> gymnasium.Env[Any, Any]:
    """Make an environment.

    Raises:
        UnveilError: it cannot be made.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return make(render_mode="rgb_array") if render else make()
    except UnveilError:
        raise
    except Exception as error:  # whatever an environment raises while it is made
        raise UnveilError(f"`env={name}` cannot be made: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def limits(env: gymnasium.Env[Any, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The limits of an environment's continuous actions; ((), ()) where they are -1 and 1, or unbounded."""
    space = env.action_space
    if not isinstance(space, gymnasium.spaces.Box) or not space.is_bounded():
        return (), ()
    low, high = (np.asarray(x, np.float64).reshape(-1) for x in (space.low, space.high))
    if (low == -1.0).all() and (high == 1.0).all():
        return (), ()
    return tuple(low.tolist()), tuple(high.tolist())


def choices(env: gymnasium.Env[Any, Any]) -> int:
    """The number of an environment's discrete actions; 0 for continuous ones."""
    return int(env.action_space.n) if isinstance(env.action_space, gymnasium.spaces.Discrete) else 0


def check_spaces(
    env: gymnasium.Env[Any, Any], name: str, interface: Interface, observations: int, actions: int
) -> None:
    """Refuse an environment whose observations or actions are not those of a planner.

    Args:
        observations, actions: sizes of a row of the planner.
    Raises:
        UnveilError: the message names the field and both sizes.
    """
    seen, space = env.observation_space, env.action_space
    fields = interface.fields
    if isinstance(seen, gymnasium.spaces.Dict):
        if not fields:
            raise UnveilError(
                f"{name} has dictionary observations ({', '.join(seen.spaces)}), but the data flat ones of "
                f"{observations} numbers"
            )
        inside = {field: entry(seen.spaces, field) for field in fields}
        if missing := [field for field, part in inside.items() if part is None]:
            raise UnveilError(
                f"{name} has no observation {missing[0]!r}, which the planner reads; it has "
                f"{', '.join(seen.spaces)}"
            )
        sizes = {field: _size(name, f"observation {field!r}", part) for field, part in inside.items()}
        size, said = sum(sizes.values()), ", ".join(f"{k} {v}" for k, v in sizes.items())
    elif fields:
        raise UnveilError(f"{name} has flat observations, but the planner reads {', '.join(fields)}")
    else:
        size = _size(name, "the observation", seen)
        said = f"{size} numbers"
    if size != observations:
        raise UnveilError(f"{name}: observations have {said}, but the planner reads {observations} numbers")
    if interface.choices:
        if choices(env) != interface.choices:
            raise UnveilError(
                f"{name}: actions are {space}, but the planner chooses one of {interface.choices}"
            )
    elif not isinstance(space, gymnasium.spaces.Box) or int(np.prod(space.shape)) != actions:
        raise UnveilError(f"{name}: actions are {space}, but the planner gives {actions} numbers")


def _size(name: str, what: str, space: object) -> int:
    if isinstance(space, gymnasium.spaces.Discrete):
        return 1
    if not isinstance(
        space, gymnasium.spaces.Box | gymnasium.spaces.MultiDiscrete | gymnasium.spaces.MultiBinary
    ):
        raise UnveilError(f"{name}: {what} is {type(space).__name__}, but planners read vectors of numbers")
    if len(space.shape) > 1:
        raise UnveilError(
            f"{name}: {what} has the shape {space.shape}, such as a picture; planners read vectors of numbers"
        )
    return int(np.prod(space.shape))


class EnvironmentEpisodes:
    """`count` episodes of an environment, each in a copy of its own, stepped together; each is stepped only
    while it runs. Episode i starts with `reset(seed=seed + i)`.

    Attributes:
        observations: the current observation of each episode, as the environment gives it.
        running: whether an episode is not finished.
        terminated: whether the environment ended it; the others reached the limit of steps.
        returns, lengths: sum of rewards, and number of steps up to now.
        succeeded: whether `info` reported success in a step up to now.
        reported: the entry of `info` that reports success; "" if there is none.
        names: the entries of `info` seen.

    Args:
        make: makes the environment.
        name: for messages.
        count, seed: number of episodes, and the seed of the first.
        steps: largest number of steps; 0: as the environment says, or 1,000.
        success: the entry of `info` that reports success; "": `success` or `is_success`.
        frames: whether to draw the first episode.
        draw: (environment, step) -> its picture; by default its own `render`.
    Raises:
        UnveilError: the environment cannot be made, reset, stepped or drawn.
    """

    running: Bool[np.ndarray, " B"]
    terminated: Bool[np.ndarray, " B"]
    succeeded: Bool[np.ndarray, " B"]
    returns: Float[np.ndarray, " B"]
    lengths: Int[np.ndarray, " B"]

    def __init__(
        self,
        make: Make,
        name: str,
        count: int,
        seed: int,
        steps: int = 0,
        success: str = "",
        frames: bool = False,
        draw: Draw | None = None,
    ) -> None:
        self.name, self.count, self._seed = name, count, seed
        self._draws, self._draw_by, self._success = frames, draw, success
        rendered = frames and draw is None
        self.envs = [made_with(make, name, render=rendered and i == 0) for i in range(count)]
        spec = self.envs[0].spec
        self.steps = steps or (spec.max_episode_steps if spec is not None else None) or 1000
        self.reset()

    def reset(self) -> None:
        """Reset all episodes."""
        self.observations: list[Any] = []
        self.infos: list[Mapping[str, Any]] = []
        self.frames: list[np.ndarray] = []
        for i, env in enumerate(self.envs):
            seen, info = self._guarded("reset", lambda env=env, i=i: env.reset(seed=self._seed + i))
            self.observations.append(seen)
            self.infos.append(info)
        self.running = np.ones(self.count, dtype=bool)
        self.terminated, self.succeeded = np.zeros((2, self.count), dtype=bool)
        self.returns, self.lengths = np.zeros(self.count), np.zeros(self.count, dtype=np.int64)
        self.reported = ""
        self.names: set[str] = set()
        self._draw()

    def step(self, which: Sequence[int], actions: np.ndarray) -> None:
        """Step the episodes `which`, each with its action."""
        for i, action in zip(which, actions, strict=True):
            env = self.envs[i]
            space = env.action_space
            if isinstance(space, gymnasium.spaces.Discrete):
                given = space.start + action
            else:
                assert isinstance(space, gymnasium.spaces.Box)
                # float64 where the space is of floats: rewards of gymnasium's bodies depend on it
                exact = np.issubdtype(space.dtype, np.floating)
                given = np.asarray(action, np.float64 if exact else space.dtype).reshape(space.shape)
            seen, reward, ended, cut, info = self._guarded("step", lambda env=env, a=given: env.step(a))
            self.observations[i], self.infos[i] = seen, info
            self.returns[i] += float(reward)
            self.lengths[i] += 1
            self.terminated[i] = bool(ended)
            self.running[i] = not (ended or cut) and self.lengths[i] < self.steps
            self._note_success(i, info)
            if i == 0:
                self._draw()

    def _note_success(self, i: int, info: Mapping[str, Any]) -> None:
        self.names |= set(map(str, info))
        for name in (self._success,) if self._success else SUCCESS:
            if name in info:
                self.reported = name
                self.succeeded[i] |= bool(np.asarray(info[name]).any())

    def goal(self, i: int) -> object:
        """The goal of an episode, as the environment gives it: `desired_goal` of its observation, or `goal`
        of its `info`; None if there is none."""
        seen = self.observations[i]
        if isinstance(seen, Mapping) and GOAL in seen:
            return seen[GOAL]
        return self.infos[i].get("goal")

    def close(self) -> None:
        """Free the environments."""
        for env in self.envs:
            env.close()

    def _draw(self) -> None:
        if self._draws and self.running[0]:
            env, draw = self.envs[0], self._draw_by
            step = int(self.lengths[0])
            frame = self._guarded("drawn", lambda: env.render() if draw is None else draw(env, step))
            if not isinstance(frame, np.ndarray) or frame.ndim != 3:
                raise UnveilError(f"{self.name} draws no pictures (render_mode rgb_array); leave `video` out")
            self.frames.append(np.asarray(frame, np.uint8))

    def _guarded(self, what: str, call: Callable[[], Any]) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return call()
        except UnveilError:
            raise
        except Exception as error:  # whatever an environment raises
            hint = "; without a display MuJoCo needs MUJOCO_GL=egl or osmesa; or leave `video` out"
            hint = hint if what == "drawn" else ""
            raise UnveilError(
                f"{self.name} cannot be {what}: {type(error).__name__}: {_first_line(error)}{hint}"
            ) from error
