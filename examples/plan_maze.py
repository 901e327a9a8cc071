"""Plan through the large maze with the packaged weights, then drive a simulated ball along the plan.

python examples/plan_maze.py
"""

import gymnasium as gym
import numpy as np

import unveil


def main() -> int:
    planner = unveil.load("maze-large")
    plan = planner.plan(start=(1.0, 1.0), goal=(7.0, 9.0))
    print(f"{len(plan.path)} positions, predicted arrival at step {plan.arrival:.0f}")

    world = gym.make("unveil/Maze2D-Large-v1")
    observation, info = world.reset(seed=0, options={"start": (1.0, 1.0)})
    planner.reset(goal=info["goal"])
    arrived, done = 0, False
    for step in range(1, 801):
        force = planner.act(observation)
        observation, reward, _, done, _ = world.step(force.astype(np.float32))
        arrived = arrived or (step if reward else 0)
    print(f"arrived at step {arrived}; episode over: {done}")
    return arrived


if __name__ == "__main__":
    main()
