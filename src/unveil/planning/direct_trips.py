"""Recordings without marks: which windows go straight from their start to their goal?

Where a body wanders from goal to goal and nothing says when a goal changed, most windows are detours. Those that take about as long as
the fastest between the same two points are not: Q(start, goal), a low quantile of the time that windows take, is learned by regression,
and windows with time <= slack * Q are kept.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from unveil.network.scales import constant_scale, is_constant
from unveil.planning.data.windows import ListedWindows, PathWindows
from unveil.planning.networks.quantiles import QuantileMLP, pinball

LEVELS = (0.05, 0.1, 0.25)  # quantiles that are learned together; the filter uses `level`, one of them


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
    """The windows, out of `proposals` random ones, that take at most `slack` times the `level`-quantile of the time between their ends.

    Args:
        steps, rows: of the regression: AdamW steps, and windows a step.
        progress: called with (done, of how many) blocks of work.
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
