"""Composition of conditions: closed forms of Gaussians, and its special cases."""

import pytest
import torch
from torch import Tensor

from unveil.network.condition import Condition
from unveil.process.denoised import GaussianDenoised
from unveil.sampling.composition import changing, composed
from unveil.sampling.guidance import Branch, cfg


def posterior(x_t: Tensor, t: Tensor, cond: Condition | None) -> GaussianDenoised:
    """E[x_0 | x_t] of x_0 ~ N(m, 1) and x_t = x_0 + N(0, 1); m is the condition's vector."""
    assert cond is not None
    assert cond.vector is not None
    return GaussianDenoised(0.5 * (x_t + cond.vector))


def about(mean: float, rows: int = 3) -> Branch:
    return Branch(Condition(vector=torch.full((rows, 2), mean, dtype=torch.float64)))


X = torch.tensor([[0.0, 1.0], [2.0, -1.0], [0.5, 0.5]], dtype=torch.float64)
T = torch.full((3,), 0.5, dtype=torch.float64)


def test_one_condition_of_weight_one_is_classifier_free_guidance():
    ones = torch.ones(1, 3, dtype=torch.float64)
    ours = composed(posterior, [about(2.0)], ones, about(0.0), 3.0)(X, T).mean
    torch.testing.assert_close(ours, cfg(posterior, about(2.0), about(0.0), 3.0)(X, T).mean)


def test_the_product_of_gaussians_has_the_sum_of_their_shifts():
    # p(x) prod (p(x | m_k) / p(x))^w_k of unit Gaussians around m_k and 0 is a unit Gaussian around sum w_k m_k
    weights = torch.tensor([[1.0, 1.0, 0.0], [1.0, -0.5, 2.0]], dtype=torch.float64)
    made = composed(posterior, [about(2.0), about(-1.0)], weights, about(0.0), 1.0)(X, T).mean
    centre = weights[0] * 2.0 - weights[1] * 1.0
    torch.testing.assert_close(made, 0.5 * (X + centre[:, None]))


def test_outside_the_interval_the_scale_is_one():
    weights = torch.ones(2, 3, dtype=torch.float64)
    branches = [about(2.0), about(-1.0)]
    early = composed(posterior, branches, weights, about(0.0), 5.0, (0.6, 1.0))(X, T).mean
    torch.testing.assert_close(early, composed(posterior, branches, weights, about(0.0), 1.0)(X, T).mean)


def test_weights_of_another_number_are_refused():
    with pytest.raises(ValueError, match="2 conditions need weights"):
        composed(posterior, [about(1.0), about(2.0)], torch.ones(1, 3), about(0.0), 1.0)


def test_a_changing_denoiser_uses_the_stage_of_its_time():
    def stage(mean: float):
        return lambda x_t, t: GaussianDenoised(torch.full_like(x_t, mean))

    denoise = changing([stage(1.0), stage(2.0)], lambda t: int(t < 0.5))
    assert float(denoise(X, T).mean[0, 0]) == 1.0
    assert float(denoise(X, T - 0.1).mean[0, 0]) == 2.0
