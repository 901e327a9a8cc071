"""All that a path planner learns from data, as one module: the denoiser, quantiles of travel time, and
statistics of the data."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from unveil.network.condition import Condition
from unveil.network.scales import constant_scale, is_constant
from unveil.planning.data.episodes import Episodes
from unveil.planning.networks.path_transformer import PathTransformer
from unveil.planning.networks.quantiles import QuantileMLP
from unveil.process.denoiser import GaussianDenoiser
from unveil.process.parameterization import x0
from unveil.process.schedule import Cosine

LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)  # quantiles of travel time that are learned
SUPPORT_BINS = 256  # bins per axis of the map of visited positions


@dataclass(frozen=True)
class PathModelShape:
    """The sizes of a `PathModel`, which determine its tensors.

    Args:
        dimensions: D, size of a position.
        stride: environment steps between two positions.
        patch: positions per token.
        width, depth, heads: sizes of the transformer.
        longest: positions of the longest training window, which is the length of the longest plan.
    """

    dimensions: int = 2
    stride: int = 4
    patch: int = 4
    width: int = 128
    depth: int = 4
    heads: int = 4
    longest: int = 200


class PathModel(nn.Module):
    """Denoiser of paths (B, H, D) between known ends, quantiles of travel time, and statistics of the data.

    The networks see positions normalised to mean 0 and standard deviation 1.
    """

    mean: Tensor
    deviation: Tensor
    support: Tensor
    support_low: Tensor
    support_bin: Tensor
    speed_limit: Tensor
    acceleration_limit: Tensor

    def __init__(self, shape: PathModelShape) -> None:
        super().__init__()
        self.shape = shape
        d = shape.dimensions
        network = PathTransformer(d, 2 * d + 1, shape.width, shape.depth, shape.heads, shape.patch)
        self.denoiser = GaussianDenoiser(network, Cosine(), x0)
        self.travel = QuantileMLP(2 * d, LEVELS)
        for name, size in (("mean", (d,)), ("deviation", (d,)), ("support_low", (d,)), ("support_bin", (d,))):
            self.register_buffer(name, torch.ones(size))
        self.register_buffer("support", torch.zeros((SUPPORT_BINS,) * d, dtype=torch.uint8))
        self.register_buffer("speed_limit", torch.ones(d))
        self.register_buffer("acceleration_limit", torch.ones(d))

    def learn_statistics(self, episodes: Episodes) -> tuple[int, ...]:
        """Set the buffers from data: normalisation, visited positions, and limits of speed and acceleration
        (per step).

        The limits are the 99.9 % quantiles of |change of position| in one step and of the change of that, on
        each axis. An axis that is nearly constant (`scales.is_constant`) is normalised to 0 and has no
        limits.

        Returns:
            The axes that vary, but so little that they count as constant.
        Raises:
            ValueError: no position changes within an episode.
        """
        d = self.shape.dimensions
        position = episodes.observations[:, :d].astype(np.float64)
        inside = np.ones(len(position) - 1, dtype=bool)
        inside[episodes.ends[:-1] - 1] = False
        velocity = np.diff(position, axis=0)
        moving = inside & (np.abs(velocity).max(1) > 0)
        if not moving.any():
            raise ValueError(
                "path model: no position changes within an episode, so there is no path to learn"
            )
        both = moving[1:] & moving[:-1]
        least, most = position.min(0), position.max(0)
        constant = is_constant(most - least, np.maximum(np.abs(least), np.abs(most)))
        scale = constant_scale((least + most) / 2.0)
        size = np.where(constant, scale, (most - least) / (SUPPORT_BINS - 2) + 1e-9 * (most - least))
        low = np.where(
            constant, (least + most) / 2.0 - (SUPPORT_BINS // 2 + 0.5) * size, least - size
        )  # one empty bin around the data
        visited = np.zeros((SUPPORT_BINS,) * d, dtype=np.uint8)
        visited[tuple(((position - low) / size).astype(int).T)] = 1
        for axis in range(d):
            wide = np.pad(visited, [(1, 1) if a == axis else (0, 0) for a in range(d)])
            visited = np.maximum.reduce([wide.take(range(k, k + SUPPORT_BINS), axis=axis) for k in range(3)])
        deviation = np.where(constant, scale, position.std(0))
        speed = np.quantile(np.abs(velocity[moving]), 0.999, axis=0)
        acceleration = (
            np.quantile(np.abs(np.diff(velocity, axis=0)[both]), 0.999, axis=0) if both.any() else speed
        )
        self.mean.copy_(torch.from_numpy(np.where(constant, (least + most) / 2.0, position.mean(0))))
        self.deviation.copy_(torch.from_numpy(deviation))
        self.support.copy_(torch.from_numpy(visited))
        self.support_low.copy_(torch.from_numpy(low))
        self.support_bin.copy_(torch.from_numpy(size))
        self.speed_limit.copy_(torch.from_numpy(np.where(constant | (speed <= 0.0), deviation, speed)))
        self.acceleration_limit.copy_(
            torch.from_numpy(np.where(constant | (acceleration <= 0.0), deviation, acceleration))
        )
        return tuple(np.flatnonzero(constant & (most > least)).tolist())

    def normalized(self, position: Tensor) -> Tensor:
        """Positions in the data's units to normalised ones."""
        return (position - self.mean) / self.deviation

    def denormalized(self, position: Tensor) -> Tensor:
        """Normalised positions to the data's units."""
        return position * self.deviation + self.mean

    @property
    def network(self) -> PathTransformer:
        """The denoiser's network."""
        assert isinstance(self.denoiser.network, PathTransformer)
        return self.denoiser.network

    def condition(
        self, start: Tensor, goal: Tensor, lengths: Tensor, horizon: int, known: Tensor
    ) -> Condition:
        """The denoiser's condition.

        The anchor path is straight, at constant speed. The vector is (start, goal, log(lengths) - 3), of
        order 1, since e^3 is about 20.

        Args:
            start, goal: (B, D), normalised.
            lengths: (B,), positions of each path, at most `horizon`.
            horizon: H.
            known: (B, H, D), numbers of x that are clean.
        """
        position = torch.arange(horizon, device=start.device, dtype=start.dtype)
        fraction = (position / (lengths[:, None] - 1)).clamp(max=1.0)[..., None]
        anchor = start[:, None] + fraction * (goal - start)[:, None]
        return Condition(
            concat=torch.cat([anchor, known.to(start.dtype)], dim=-1),
            vector=torch.cat([start, goal, lengths[:, None].to(start.dtype).log() - 3.0], dim=1),
            valid=position < lengths[:, None],
        )

    def travel_steps(self, start: Tensor, goal: Tensor) -> Tensor:
        """Quantiles (B, Q) of the environment steps that the data take from start (B, D) to goal (B, D), in
        the data's units."""
        pair = torch.cat([self.normalized(start), self.normalized(goal)], dim=1)
        return self.travel(pair).exp() * self.shape.stride

    def supported(self, position: Tensor) -> Tensor:
        """Whether data visited the bin of each position (..., D), in the data's units, or a neighbouring bin:
        bool (...)."""
        cell = ((position - self.support_low) / self.support_bin).floor().long()
        inside = ((cell >= 0) & (cell < SUPPORT_BINS)).all(-1)
        cell = cell.clamp(0, SUPPORT_BINS - 1)
        return inside & self.support[tuple(cell.unbind(-1))].bool()


def endpoint_known(lengths: Tensor, horizon: int, dimensions: int) -> Tensor:
    """(B, H, D) bool: the known numbers of paths, the start, the goal at index lengths - 1, and the padding
    behind it."""
    place = torch.arange(horizon, device=lengths.device)
    ends = (place == 0) | (place >= lengths[:, None] - 1)
    return ends[..., None].expand(-1, -1, dimensions)
