"""Small policies in the files of the real ones."""

from pathlib import Path

import numpy as np

from unveil.planning.worlds.locomotion.body import Body


def write_snapshots(folder: Path, body: Body, iterations: list[int], seed: int = 0, hidden: int = 5) -> Path:
    generator, sizes, arrays = (
        np.random.default_rng(seed),
        (body.observations, hidden, hidden, body.actions),
        {},
    )
    for iteration in iterations:
        one = {"obs_mean": generator.normal(size=sizes[0]), "obs_std": generator.uniform(0.5, 2, sizes[0])}
        for i in range(3):
            one |= {
                f"W{i}": generator.normal(size=sizes[i : i + 2]),
                f"b{i}": generator.normal(size=sizes[i + 1]),
            }
        one["log_std"] = generator.uniform(-1.5, 0, body.actions)
        arrays |= {f"iter{iteration:03}/{name}": values.astype(np.float32) for name, values in one.items()}
    np.savez(folder / f"trpo_{body.title}.npz", iters=np.array(iterations), **arrays)
    return folder / f"trpo_{body.title}.npz"


def write_actor(folder: Path, body: Body, kind: str = "tqc", seed: int = 0, hidden: int = 5) -> Path:
    generator, arrays = np.random.default_rng(seed), {}
    sizes = {"latent_pi.0": (hidden, body.observations), "latent_pi.2": (hidden, hidden)}
    for name, size in (sizes | {"mu": (body.actions, hidden), "log_std": (body.actions, hidden)}).items():
        arrays |= {
            f"{name}.weight": generator.normal(size=size),
            f"{name}.bias": generator.normal(size=size[0]),
        }
    np.savez(
        folder / f"{kind}_{body.title}.npz",
        **{name: values.astype(np.float32) for name, values in arrays.items()},
    )
    return folder / f"{kind}_{body.title}.npz"
