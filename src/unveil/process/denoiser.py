"""Network + schedule + parameterization = (x_t, t, cond) -> belief about x_0."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from unveil.network.condition import Condition
from unveil.process.corrupt import like
from unveil.process.denoised import GaussianDenoised
from unveil.process.parameterization import Coefficients, Parameterization
from unveil.process.schedule import Schedule, exact, one_time, remembered


class Output(NamedTuple):
    """What a network said, and how to read it."""

    raw: Tensor
    variance_fraction: Tensor | None
    coefficients: Coefficients


class GaussianDenoiser(nn.Module):
    """mean = c_skip * x_t + c_out * F(c_in * x_t, time_input(t), cond).

    Args:
        network: (x, time, cond) -> like x, or, with `learned_variance`, twice the channels along axis 1.
        time_input: what the network is told of t (B,), float64; the default is t itself. DDPM tables want `i - 1 = N t - 1`.
        learned_variance: the second half of axis 1, the channels of an image network, is v in [-1, 1], and variance_fraction = (v + 1) / 2
            (Nichol & Dhariwal 2021, eq. 15).
    """

    def __init__(
        self,
        network: nn.Module,
        schedule: Schedule,
        parameterization: Parameterization,
        time_input: Callable[[Tensor], Tensor] = exact,
        learned_variance: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.schedule = schedule
        self.parameterization = parameterization
        self.time_input = time_input
        self.learned_variance = learned_variance

    def coefficients(self, t: Tensor) -> Coefficients:
        """The parameterization's coefficients at t, float64 on the CPU.

        Raises:
            ValueError: one is not finite: eps and EDM have none where alpha = 0.
        """
        return _coefficients(self.schedule, self.parameterization, t)

    def output(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Output:
        """The network's raw output F, its variance fraction if it is learned, and the coefficients that turn F into a belief."""
        coefficients = self.coefficients(t)
        scaled = like(coefficients.input, x_t) * x_t
        raw = self.network(scaled, self.time_input(t).to(x_t.device, x_t.dtype), cond)
        return Output(*self._parts(raw), coefficients)

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> GaussianDenoised:
        """The belief about x_0 given x_t (B, *E) at t (B,)."""
        once = None if _recording() else one_time(t)  # a graph would keep the coefficients of this one time
        if once is None:
            raw, fraction, (skip, out, _) = self.output(x_t, t, cond)
            return GaussianDenoised(like(skip, x_t) * x_t + like(out, x_t) * raw, fraction)
        at = _at(self.schedule, self.parameterization, self.time_input, once)
        scaled = x_t if at.input == 1.0 else at.input * x_t
        raw, fraction = self._parts(self.network(scaled, x_t.new_full(t.shape, at.time), cond))
        return GaussianDenoised(at.skip * x_t + at.out * raw, fraction)

    def _parts(self, raw: Tensor) -> tuple[Tensor, Tensor | None]:
        if not self.learned_variance:
            return raw, None
        mean, variance = raw.chunk(2, dim=1)
        return mean, (variance + 1.0) / 2.0


class At(NamedTuple):
    """What a denoiser needs of one time: the coefficients, and what the network is told."""

    skip: float
    out: float
    input: float
    time: float


@remembered
def _at(
    schedule: Schedule,
    parameterization: Parameterization,
    time_input: Callable[[Tensor], Tensor],
    time: float,
) -> At:
    t = torch.tensor([time], dtype=torch.float64, device="cpu")
    return At(*(float(found) for found in (*_coefficients(schedule, parameterization, t), time_input(t))))


def _coefficients(schedule: Schedule, parameterization: Parameterization, t: Tensor) -> Coefficients:
    found = parameterization(schedule.alpha(t), schedule.sigma(t))
    if not _recording() and not bool(torch.isfinite(torch.stack(found)).all()):
        raise ValueError(
            "denoiser: this parameterization is undefined where alpha(t) = 0; start the grid below 1, or use v, flow or x0"
        )
    return found


def _recording() -> bool:
    """Whether `torch.jit.trace`, `torch.compile` or `torch.export` records a graph, in which numbers read from tensors were constants."""
    return torch.jit.is_tracing() or torch.compiler.is_compiling()
