"""Register block stacking in gymnasium, as `unveil/KukaStacking-v1`; see `worlds/maze/registration.py`."""

import gymnasium

from unveil.planning.worlds.stacking.env import STEPS

NAME = "unveil/KukaStacking-v1"


def register() -> None:
    """Register the environment if it is not registered yet."""
    if NAME not in gymnasium.registry:
        gymnasium.register(
            id=NAME, entry_point="unveil.planning.worlds.stacking.env:StackingEnv", max_episode_steps=STEPS
        )


register()
