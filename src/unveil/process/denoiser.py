"""The Gaussian denoiser: network, schedule and parameterization as (x_t, t, cond) -> belief about x_0."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from unveil.network.condition import Condition
from unveil.network.inference_layout import recording
from unveil.process.corrupt import like
from unveil.process.denoised import GaussianDenoised
from unveil.process.parameterization import Coefficients, Parameterization
from unveil.process.schedule import Schedule, cached, exact, one_time


class Output(NamedTuple):
    """Raw output of a network, variance fraction if learned, coefficients of the parameterization."""

    raw: Tensor
    variance_fraction: Tensor | None
    coefficients: Coefficients


class GaussianDenoiser(nn.Module):
    """mean = c_skip * x_t + c_out * F(c_in * x_t, time_input(t), cond).

    Args:
        network: (x, time, cond) -> like x; with `learned_variance`, twice as many channels along axis 1.
        time_input: maps t (B,), float64, to the network's time input; the default is t itself. Networks
            trained on a DDPM table of N entries take the index i - 1 = N t - 1.
        learned_variance: the second half of axis 1 (the channels of an image network) is v in [-1, 1], and
            variance_fraction = (v + 1) / 2 (Nichol & Dhariwal 2021, eq. 15).
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
            ValueError: a coefficient is not finite: eps and EDM are undefined where alpha = 0.
        """
        return _coefficients(self.schedule, self.parameterization, t)

    def output(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Output:
        """The raw output F, the variance fraction if learned, and the coefficients that map F to a belief."""
        coefficients = self.coefficients(t)
        scaled = like(coefficients.input, x_t) * x_t
        raw = self.network(scaled, self.time_input(t).to(x_t.device, x_t.dtype), cond)
        return Output(*self._parts(raw), coefficients)

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> GaussianDenoised:
        """The belief about x_0 given x_t (B, *E) at t (B,)."""
        # a recorded graph would keep the coefficients of this one time as constants
        once = None if recording() else one_time(t)
        if once is not None:
            return self.at(x_t, once, cond)
        raw, fraction, (skip, out, _) = self.output(x_t, t, cond)
        return GaussianDenoised(like(skip, x_t) * x_t + like(out, x_t) * raw, fraction)

    def at(self, x_t: Tensor, time: float, cond: Condition | None = None) -> GaussianDenoised:
        """The belief about x_0 given x_t (B, *E) at one time of all rows, whose coefficients are numbers.

        A graph that is recorded of it keeps this time, and is right for no other.
        """
        at = _at(self.schedule, self.parameterization, self.time_input, time)
        scaled = x_t if at.input == 1.0 else at.input * x_t
        raw, fraction = self._parts(self.network(scaled, x_t.new_full((x_t.shape[0],), at.time), cond))
        return GaussianDenoised(at.skip * x_t + at.out * raw, fraction)

    def _parts(self, raw: Tensor) -> tuple[Tensor, Tensor | None]:
        if not self.learned_variance:
            return raw, None
        mean, variance = raw.chunk(2, dim=1)
        return mean, (variance + 1.0) / 2.0


class At(NamedTuple):
    """The coefficients at one time, and the network's time input there."""

    skip: float
    out: float
    input: float
    time: float


@cached
def _at(
    schedule: Schedule,
    parameterization: Parameterization,
    time_input: Callable[[Tensor], Tensor],
    time: float,
) -> At:
    t = torch.tensor([time], dtype=torch.float64, device="cpu")
    return At(*(float(value) for value in (*_coefficients(schedule, parameterization, t), time_input(t))))


def _coefficients(schedule: Schedule, parameterization: Parameterization, t: Tensor) -> Coefficients:
    coefficients = parameterization(schedule.alpha(t), schedule.sigma(t))
    if not recording() and not bool(torch.isfinite(torch.stack(coefficients)).all()):
        raise ValueError(
            "denoiser: this parameterization is undefined where alpha(t) = 0; "
            "start the time grid below 1, or use v, flow or x0"
        )
    return coefficients
