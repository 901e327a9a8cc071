"""How much better each recorded step went than its state lets expect: a return minus its mean given the
observation.

A planner that is conditioned on the rank of a return asks, from a bad state, for what no plan can reach. The
rank of the advantage compares a step with other steps from like states only. Kumar et al. 2019
(reward-conditioned policies, section 4) condition on advantages too.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float

from unveil.network.layers import mlp
from unveil.network.normalization import Normalization
from unveil.planning.data.episodes import Episodes


def advantages(
    episodes: Episodes,
    returns: Float[np.ndarray, " N"],
    seed: int,
    steps: int = 2_000,
    rows: int = 512,
    on_step: Callable[[int, int], object] | None = None,
) -> Float[np.ndarray, " N"]:
    """A_t = G_t - V(s_t), where V, an MLP, is the regression of returns on observations.

    Args:
        returns: (N,), G_t.
        seed: seed of the regression.
        steps, rows: AdamW steps of the regression, and transitions per step.
        on_step: called every 100 steps with their number, and all.
    """
    generator = torch.Generator(device="cpu").manual_seed(seed)
    norm = Normalization(episodes.observations.shape[1])
    norm.learn(episodes.observations, "gaussian")
    seen = norm.normalized(torch.from_numpy(np.asarray(episodes.observations, np.float32)))
    mean, deviation = float(returns.mean(dtype=np.float64)), float(returns.std(dtype=np.float64))
    scale = deviation if deviation > 1e-6 * max(1.0, abs(mean)) else 1.0
    target = torch.from_numpy(((returns.astype(np.float64) - mean) / scale).astype(np.float32))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        expected = mlp(seen.shape[1], 256, 1, depth=2)
    optimizer = torch.optim.AdamW(expected.parameters(), 1e-3)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        some = torch.randint(len(seen), (rows,), generator=generator, device="cpu")
        loss = (expected(seen[some])[:, 0] - target[some]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rates.step()
        if on_step is not None and step % 100 == 0:
            on_step(step, steps)
    with torch.no_grad():
        value = torch.cat([expected(part)[:, 0] for part in seen.split(65_536)])
    return (scale * (target - value)).numpy()
