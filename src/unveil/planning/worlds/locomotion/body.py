"""The three bodies: sizes, reward, end of an episode, and D4RL's normalised score."""

import re
from dataclasses import dataclass
from difflib import get_close_matches
from math import inf

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Body:
    """A body of gymnasium's MuJoCo environments, with its default settings.

    Reward: forward speed of the root + 1 while healthy (`alive`) - `control_cost` * |action|^2. An episode
    ends when the body is not healthy: height, angle of the trunk or another state number is outside its open
    range; a half-cheetah is always healthy. Version v4 of the environments (and D4RL's) gives the `alive`
    reward for the last, unhealthy step too; v5 does not.

    `score_min` and `score_max` are D4RL's `ref_min_score` and `ref_max_score` (d4rl/infos.py, Fu et al. 2020,
    arXiv:2004.07219): mean returns of a uniformly random policy and of D4RL's SAC expert, in gym's v2
    environments.

    Args:
        name: as in names of data sets, such as `hopper-medium-v2`.
        title: as in gymnasium's ids, such as `Hopper-v5`.
        observations: D, positions without the root's x, then velocities, clipped to [-`fastest`, `fastest`].
        actions: A, torques in [-1, 1].
        steps: environment steps of the longest episode.
    """

    name: str
    title: str
    observations: int
    actions: int
    score_min: float
    score_max: float
    control_cost: float
    alive: float
    height: tuple[float, float] = (-inf, inf)
    angle: tuple[float, float] = (-inf, inf)
    state: tuple[float, float] = (-inf, inf)
    fastest: float = inf
    steps: int = 1000


BODIES = {
    body.name: body
    for body in (
        Body(
            "hopper",
            "Hopper",
            11,
            3,
            -20.272305,
            3234.3,
            1e-3,
            1.0,
            (0.7, inf),
            (-0.2, 0.2),
            (-100.0, 100.0),
            10.0,
        ),
        Body(
            "walker2d", "Walker2d", 17, 6, 1.629008, 4592.3, 1e-3, 1.0, (0.8, 2.0), (-1.0, 1.0), fastest=10.0
        ),
        Body("halfcheetah", "HalfCheetah", 17, 6, -280.178953, 12135.0, 0.1, 0.0),
    )
}


SCORE_SOURCE = "D4RL d4rl/infos.py, Fu et al. 2020, arXiv:2004.07219; measured in gym's v2 worlds, mujoco-py"


def named_body(name: str) -> Body:
    """The body of that name.

    Raises:
        ValueError: no such body; the message lists the names and the closest one.
    """
    if name in BODIES:
        return BODIES[name]
    close = get_close_matches(name.lower(), BODIES, n=1)
    raise ValueError(
        f"unknown body {name!r}{f' (did you mean {close[0]}?)' if close else ''}; known: {', '.join(BODIES)}"
    )


def body_of(source: str) -> Body:
    """The body that the name or path of a data set contains, the last if it contains several:
    `hopper-medium-v2`, `mujoco/hopper/medium-v0`.

    Raises:
        ValueError: it contains none.
    """
    words = [word for word in re.split(r"[^a-z0-9]+", source.lower()) if word in BODIES]
    if not words:
        raise ValueError(f"no body is named in {source!r}; known: {', '.join(BODIES)}")
    return BODIES[words[-1]]


def normalized_score(body: Body, returns: Float[np.ndarray, "*N"]) -> Float[np.ndarray, "*N"]:
    """D4RL's normalised score, 100 (R - min) / (max - min) of undiscounted returns R of whole episodes: 0 is
    the random policy, 100 the expert."""
    return np.asarray(100.0 * (returns - body.score_min) / (body.score_max - body.score_min))
