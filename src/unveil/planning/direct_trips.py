"""Find the windows without detours in recordings that do not mark when a goal changed.

If a body moves from goal to goal and the changes of goals are not marked, most windows are detours. A window
is direct if it takes about as long as the fastest windows between the same two points: a low quantile
Q(start, goal) of the duration of windows is learned by regression, and windows with duration <= slack * Q are
kept.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from unveil.network.scales import constant_scale, is_constant
from unveil.planning.data.windows import ListedWindows, PathWindows
from unveil.planning.networks.quantiles import QuantileMLP, pinball

LEVELS = (0.05, 0.1, 0.25)  # quantiles that are learned together; the filter uses one of them


def direct_windows(
    windows: PathWindows,
    generator: torch.Generator,
    *,
    level: float = 0.1,
    slack: float = 1.1,
    steps: int = 2000,
    rows: int = 2048,
    proposals: int = 4_000_000,
    progress: Callable[[int, int], None] | None = None,
) -> ListedWindows:
    """The direct windows among random ones: duration <= slack * Q(start, goal).

    Args:
        windows: the data.
        level: probability of the quantile Q, one of `LEVELS`.
        slack: factor on the quantile.
        steps, rows: AdamW steps of the regression, and windows per step.
        proposals: number of random windows that are filtered.
        progress: called with the work done and all of it.
    """
    values = windows.values.double()
    mean, deviation, size = values.mean(0), values.std(0), values.abs().amax(0)
    constant = torch.from_numpy(is_constant(2.0 * deviation.numpy(), size.numpy()))
    scale = torch.where(constant, torch.from_numpy(constant_scale(mean.numpy())), deviation).float()

    def pairs(first: Tensor, strides: Tensor) -> Tensor:
        start, goal = windows.ends(first, strides)
        return torch.cat([(start - mean) / scale, (goal - mean) / scale], dim=1).float()

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator, device="cpu")))
        travel = QuantileMLP(2 * len(mean), LEVELS)
    optimizer = torch.optim.AdamW(travel.parameters(), 2e-3)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    blocks = max(1, proposals // 65_536)
    for step in range(steps):
        first, strides = windows.propose(rows, generator)
        loss = pinball(travel(pairs(first, strides)), strides.log(), LEVELS).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rates.step()
        if progress is not None and step % 50 == 0:
            progress(step, steps + 5 * blocks)
    kept = []
    with torch.no_grad():
        for block in range(blocks):
            first, strides = windows.propose(65_536, generator)
            fastest = travel(pairs(first, strides))[:, LEVELS.index(level)].exp()
            direct = strides <= slack * fastest
            kept.append((first[direct], strides[direct]))
            if progress is not None:
                progress(steps + 5 * (block + 1), steps + 5 * blocks)
    return ListedWindows(
        windows, torch.cat([first for first, _ in kept]), torch.cat([strides for _, strides in kept])
    )
