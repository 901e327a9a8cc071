"""Names of public data sets for planners. Free of heavy imports, for configs."""

from __future__ import annotations

import re

MINARI = re.compile(r"[\w-]+(/[\w-]+)+-v\d+")  # ids of Minari's data sets, such as mujoco/hopper/medium-v0


D4RL_BODIES = ("halfcheetah", "hopper", "walker2d", "ant")


D4RL_MIXES = ("random", "medium", "expert", "medium-replay", "medium-expert", "full-replay")


D4RL = {
    f"{body}-{mix}-v2": f"{body}_{mix.replace('-', '_')}-v2.hdf5"
    for body in D4RL_BODIES
    for mix in D4RL_MIXES
}


D4RL_MAZES = {f"maze2d-{maze}-v1": f"maze2d-{maze}-sparse-v1.hdf5" for maze in ("umaze", "medium", "large")}


OWN = tuple(
    f"{body}-{mix}"
    for body in ("hopper", "walker2d", "halfcheetah")
    for mix in ("medium", "medium-replay", "medium-expert", "expert")
)
