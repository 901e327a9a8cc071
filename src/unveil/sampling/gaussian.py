"""Solvers of Gaussian diffusion: each step goes from t to a cleaner s, using the belief about x_0."""

from dataclasses import dataclass
from math import isfinite
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from unveil.process.corrupt import like
from unveil.process.denoised import GaussianDenoise, GaussianDenoised
from unveil.process.posterior import learned_log_variance, posterior_coefficients
from unveil.process.schedule import Schedule, cached, log_snr
from unveil.sampling.edit import LogPotential, potential_gradient
from unveil.sampling.loop import Solver
from unveil.sampling.noise import Noise, normal_like


@dataclass(frozen=True)
class DDIM:
    """The DDIM solver. Song, Meng & Ermon 2021, eq. 12.

        x_s = alpha_s mean + sqrt(sigma_s^2 - v) eps_hat + sqrt(v) z
        v = eta^2 beta-tilde,    eps_hat = (x_t - alpha_t mean) / sigma_t

    eta = 0 is the Euler step of the probability flow, and with `Flow` the Euler step of flow matching. With
    eta = 1 it is DDPM's posterior with variance beta-tilde.
    """

    schedule: Schedule
    eta: float = 0.0

    def step(
        self, denoise: GaussianDenoise, x_t: Tensor, t: Tensor, s: Tensor, carry: None, generator: Noise
    ) -> tuple[Tensor, None]:
        mean = denoise(x_t, t.expand(len(x_t))).mean
        if t.ndim:  # every row has its own step
            kept, gained, deviation = (like(factor, x_t) for factor in _ddim(self.schedule, self.eta, t, s))
        else:
            kept, gained, deviation = _ddim_once(self.schedule, self.eta, float(t), float(s))
        x_s = kept * x_t + gained * mean
        return (x_s if self.eta == 0.0 else x_s + deviation * normal_like(x_t, generator)), None


def _ddim(schedule: Schedule, eta: float, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The factors of x_t, of the mean and of fresh noise."""
    both = torch.stack([t, s])
    (alpha_t, alpha_s), (sigma_t, sigma_s) = schedule.alpha(both), schedule.sigma(both)
    if eta == 0.0:
        return sigma_s / sigma_t, alpha_s - alpha_t * sigma_s / sigma_t, torch.zeros_like(sigma_s)
    variance = eta**2 * posterior_coefficients(schedule, t, s).small
    kept = (sigma_s**2 - variance).clamp(min=0.0).sqrt() / sigma_t
    return kept, alpha_s - alpha_t * kept, variance.sqrt()


@cached
def _ddim_once(schedule: Schedule, eta: float, t: float, s: float) -> tuple[float, ...]:
    return tuple(
        float(factor)
        for factor in _ddim(schedule, eta, *torch.tensor([t, s], dtype=torch.float64, device="cpu"))
    )


@dataclass(frozen=True)
class Ancestral:
    """DDPM's sampler for any s < t: a sample of p(x_s | x_t) = N(posterior mean, variance).

    With `log_h` the mean is shifted by scale * variance * grad_x log_h(x_t, t), as in the released code of
    Dhariwal & Nichol 2021 (Alg. 1); Diffuser's paper takes the gradient at the mean. With variance "small"
    this equals a shift of the belief by sigma_s^2 / alpha_s * grad, but `tilted` shifts it by
    sigma_t^2 / alpha_t * grad, so their scales differ. The step to s = 0 adds no noise.

    Args:
        variance: "small" is beta-tilde, "large" is beta, "learned" interpolates their logarithms by the
            belief's `variance_fraction`.
        temperature: factor on the standard deviation of the noise.
        log_h: log-potential, (x_t (B, *E), t (B,)) -> (B,), in nats.
        scale: factor on the gradient of `log_h`; 0 disables it.
    """

    schedule: Schedule
    variance: Literal["small", "large", "learned"] = "small"
    temperature: float = 1.0
    log_h: LogPotential | None = None
    scale: float = 0.0

    def step(
        self, denoise: GaussianDenoise, x_t: Tensor, t: Tensor, s: Tensor, carry: None, generator: Noise
    ) -> tuple[Tensor, None]:
        rows = t.expand(len(x_t))
        belief = denoise(x_t, rows)
        kept, gained, small, large = _posterior(self.schedule, float(t), float(s))
        x_s = kept * x_t + gained * belief.mean
        variance = self._variance(belief, small, large, t, s)
        if self.log_h is not None and self.scale != 0.0:
            x_s = x_s + self.scale * variance * potential_gradient(self.log_h, x_t, rows)
        if float(s) <= 0.0:
            return x_s, None
        deviation = variance.sqrt() if isinstance(variance, Tensor) else variance**0.5
        return x_s + self.temperature * deviation * normal_like(x_t, generator), None

    def _variance(
        self, belief: GaussianDenoised, small: float, large: float, t: Tensor, s: Tensor
    ) -> float | Tensor:
        if self.variance == "small":
            return small
        if self.variance == "large":
            return large
        if belief.variance_fraction is None:
            raise ValueError(
                "Ancestral: this denoiser has no learned variance; use 'small' or 'large', not 'learned'"
            )
        return learned_log_variance(self.schedule, belief.variance_fraction, t, s).exp()


@cached
def _posterior(schedule: Schedule, t: float, s: float) -> tuple[float, float, float, float]:
    """The weights of x_t and of the mean, then beta-tilde and beta."""
    c = posterior_coefficients(schedule, *torch.tensor([t, s], dtype=torch.float64, device="cpu"))
    return float(c.x_t_weight), float(c.x_0_weight), float(c.small), float(c.large)


@dataclass(frozen=True)
class Consistency:
    """Multistep consistency sampling: x_s = alpha_s f(x_t, t) + sigma_s z. Song et al. 2023, Alg. 1.

    f must predict the endpoint of the probability flow, as distilled students do. The mean of an ordinary
    denoiser averages over many endpoints, so samples made with it collapse.
    """

    schedule: Schedule

    def step(
        self, denoise: GaussianDenoise, x_t: Tensor, t: Tensor, s: Tensor, carry: None, generator: Noise
    ) -> tuple[Tensor, None]:
        end = denoise(x_t, t.expand(len(x_t))).mean  # (B, *E)
        if float(s) <= 0.0:
            return end, None
        return like(self.schedule.alpha(s), x_t) * end + like(self.schedule.sigma(s), x_t) * normal_like(
            x_t, generator
        ), None


@dataclass(frozen=True)
class Heun:
    """Heun's method (the trapezoidal rule) for dx = mean d(alpha) + eps_hat d(sigma).

    Second order, two network calls per step. The step to s = 0 is an Euler step. With alpha = 1 (`Karras`)
    this is the sampler of Karras et al. 2022, Alg. 1 and 2; with `Flow` it is Heun's method for the velocity.
    It can start at any time, including alpha = 0.

    Args:
        churn: before each step the ratio sigma / alpha is multiplied by 1 + churn and matching noise is
            added; the paper's S_churn / N, clamped to at most sqrt(2) - 1 as there. 0 disables it.
        churn_noise: factor on the added noise, the paper's S_noise.
        churn_range: range of sigma / alpha in which churn is used, the paper's S_tmin and S_tmax.
    """

    schedule: Schedule
    churn: float = 0.0
    churn_noise: float = 1.0
    churn_range: tuple[float, float] = (0.0, float("inf"))

    def step(
        self, denoise: GaussianDenoise, x_t: Tensor, t: Tensor, s: Tensor, carry: None, generator: Noise
    ) -> tuple[Tensor, None]:
        if self.churn > 0.0:
            x_t, t = self._raised(x_t, t, generator)
        alpha_t, sigma_t = self.schedule.alpha(t), self.schedule.sigma(t)
        alpha_s, sigma_s = self.schedule.alpha(s), self.schedule.sigma(s)
        mean = denoise(x_t, t.expand(len(x_t))).mean
        noise = (x_t - like(alpha_t, x_t) * mean) / like(sigma_t, x_t)
        x_s = x_t + like(alpha_s - alpha_t, x_t) * mean + like(sigma_s - sigma_t, x_t) * noise
        if float(sigma_s) == 0.0:
            return x_s, None
        mean_s = denoise(x_s, s.expand(len(x_t))).mean
        noise_s = (x_s - like(alpha_s, x_t) * mean_s) / like(sigma_s, x_t)
        rise, fall = like(0.5 * (alpha_s - alpha_t), x_t), like(0.5 * (sigma_s - sigma_t), x_t)
        return x_t + rise * (mean + mean_s) + fall * (noise + noise_s), None

    def _raised(self, x_t: Tensor, t: Tensor, generator: Noise) -> tuple[Tensor, Tensor]:
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        low, high = self.churn_range
        if float(alpha) == 0.0 or not low <= float(sigma / alpha) <= high:
            return x_t, t
        factor = 1.0 + min(self.churn, 2.0**0.5 - 1.0)
        higher = self.schedule.time(-2.0 * (sigma / alpha * factor).log())
        ratio = self.schedule.alpha(higher) / alpha
        added = (self.schedule.sigma(higher) ** 2 - (ratio * sigma) ** 2).clamp(min=0.0).sqrt()
        return like(ratio, x_t) * x_t + self.churn_noise * like(added, x_t) * normal_like(
            x_t, generator
        ), higher


class PastBelief(NamedTuple):
    """The state of a two-step method: the last mean (B, *E), and half the log-SNR at its time."""

    mean: Tensor
    half_log_snr: float


@dataclass(frozen=True)
class DPMpp2M:
    """DPM-Solver++ (2M). Lu et al. 2022, Alg. 2.

        x_s = sigma_s / sigma_t x_t - alpha_s (e^-h - 1) (mean + (mean - last mean) / (2 r))
        lambda = log(alpha / sigma),    h = lambda_s - lambda_t,    r = h_last / h

    Second order with one call per step; the first step and the step to s = 0 are of first order.
    """

    schedule: Schedule

    def step(
        self,
        denoise: GaussianDenoise,
        x_t: Tensor,
        t: Tensor,
        s: Tensor,
        carry: PastBelief | None,
        generator: Noise,
    ) -> tuple[Tensor, PastBelief]:
        mean = denoise(x_t, t.expand(len(x_t))).mean
        decay, lost, now, h = _dpmpp(self.schedule, float(t), float(s))
        extrapolated = mean
        if carry is not None and isfinite(h):
            extrapolated = mean + 0.5 * h / (now - carry.half_log_snr) * (mean - carry.mean)
        return decay * x_t - lost * extrapolated, PastBelief(mean, now)


@cached
def _dpmpp(schedule: Schedule, t: float, s: float) -> tuple[float, float, float, float]:
    """sigma_s / sigma_t, alpha_s (e^-h - 1), half the log-SNR at t, and h."""
    times = torch.tensor([t, s], dtype=torch.float64, device="cpu")
    (sigma_t, sigma_s), (now, after) = schedule.sigma(times), 0.5 * log_snr(schedule, times)
    h = after - now
    return float(sigma_s / sigma_t), float(schedule.alpha(times)[1] * torch.expm1(-h)), float(now), float(h)


@dataclass(frozen=True)
class Renoise:
    """Use `solver` for steps to a cleaner s < t, and the forward process for steps towards noise, s > t.

    The forward step is x_s = (alpha_s / alpha_t) x_t + noise, and noise of variance
    sigma_s^2 - (alpha_s / alpha_t)^2 sigma_t^2 preserves the marginals. A step towards noise resets the
    solver's `carry`. For such times see `grid.jumping`: RePaint (Lugmayr et al. 2022, Alg. 1, line 9).
    """

    solver: Solver[GaussianDenoised]
    schedule: Schedule

    def step(
        self, denoise: GaussianDenoise, x_t: Tensor, t: Tensor, s: Tensor, carry: object, generator: Noise
    ) -> tuple[Tensor, object]:
        if float(s) <= float(t):
            return self.solver.step(denoise, x_t, t, s, carry, generator)
        ratio = self.schedule.alpha(s) / self.schedule.alpha(t)
        added = (self.schedule.sigma(s) ** 2 - (ratio * self.schedule.sigma(t)) ** 2).clamp(min=0.0).sqrt()
        return like(ratio, x_t) * x_t + like(added, x_t) * normal_like(x_t, generator), None
