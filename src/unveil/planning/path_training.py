"""Training batches of a `PathModel`, with their noise, and its loss."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from unveil.planning.data.windows import ListedWindows, PathWindows
from unveil.planning.networks.quantiles import pinball
from unveil.planning.path_model import LEVELS, PathModel, endpoint_known
from unveil.process.objective import denoising_loss


class PathBatch(NamedTuple):
    """Windows, and the random numbers of their loss.

    Args:
        positions: (B, H, D), in the data's units.
        lengths: (B,), positions of each window without the padding.
        known: (B, H, D) bool, numbers that stay clean: both ends, the padding, and some between the ends.
        t: (B,), diffusion times in (0, 1], stratified.
        noise: (B, H, D), standard normal.
    """

    positions: Tensor
    lengths: Tensor
    known: Tensor
    t: Tensor
    noise: Tensor


def path_batches(
    windows: PathWindows | ListedWindows, size: int, waypoints: float = 0.3
) -> Callable[[torch.Generator], PathBatch]:
    """A function generator -> random batch.

    Args:
        windows: the data.
        size: B, windows per batch.
        waypoints: probability that a window has known positions between its ends, at most 8 % of them.
    """

    def draw(generator: torch.Generator) -> PathBatch:
        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator, device="cpu")

        positions, _, lengths = windows.draw(size, generator)
        _, horizon, dimensions = positions.shape
        waypoint = uniform(size, horizon) < 0.08 * uniform(size, 1) * (uniform(size, 1) < waypoints)
        between = waypoint[..., None] & (uniform(size, horizon, dimensions) < 0.75)
        t = (
            (torch.randperm(size, generator=generator, device="cpu") + uniform(size))
            .div(size)
            .clamp(min=1e-3)
        )
        noise = torch.randn(positions.shape, generator=generator, device="cpu")
        return PathBatch(positions, lengths, endpoint_known(lengths, horizon, dimensions) | between, t, noise)

    return draw


def path_loss(model: nn.Module, batch: PathBatch) -> tuple[Tensor, Mapping[str, float]]:
    """Denoising loss of paths whose ends are known, plus a tenth of the pinball loss of travel time; and both
    for the log."""
    assert isinstance(model, PathModel)
    device = model.mean.device
    x_0, known, lengths = (
        model.normalized(batch.positions.to(device)),
        batch.known.to(device),
        batch.lengths.to(device),
    )
    cond = model.condition(x_0[:, 0], x_0[:, -1], lengths, x_0.shape[1], known)
    denoising = denoising_loss(
        model.denoiser, x_0, batch.t, batch.noise.to(device), cond=cond, known=known
    ).mean()
    quantiles = model.travel(torch.cat([x_0[:, 0], x_0[:, -1]], dim=1))
    travel = pinball(quantiles, (lengths - 1).to(quantiles).log(), LEVELS).mean()
    return denoising + 0.1 * travel, {
        "denoising_loss": float(denoising.detach()),
        "travel_loss": float(travel.detach()),
    }
