"""Each row of a batch may step between times of its own."""

import pytest
import torch

from unveil.process.denoiser import GaussianDenoiser
from unveil.process.parameterization import v
from unveil.process.posterior import posterior_coefficients
from unveil.process.schedule import cosine_betas, tabulated
from unveil.sampling.gaussian import DDIM


class Halving(torch.nn.Module):
    """Half of x, plus the time."""

    def forward(self, x, time, cond=None):
        return 0.5 * x + time[:, None]


@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_rows_may_step_from_times_of_their_own(eta, generator):
    schedule = tabulated(cosine_betas(100))
    denoise, x = GaussianDenoiser(Halving(), schedule, v), torch.randn(2, 5, generator=generator)
    t, s = torch.tensor([0.9, 0.4], dtype=torch.float64), torch.tensor([0.6, 0.1], dtype=torch.float64)
    both, _ = DDIM(schedule, eta).step(denoise, x, t, s, None, torch.Generator().manual_seed(0))
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    for k in range(2):
        alone, _ = DDIM(schedule, eta).step(
            denoise, x[k : k + 1], t[k], s[k], None, torch.Generator().manual_seed(0)
        )
        fresh = torch.randn((1, 5), generator=torch.Generator().manual_seed(0))
        deviation = (posterior_coefficients(schedule, t[k], s[k]).small.sqrt() * eta).float()
        torch.testing.assert_close(both[k : k + 1] - deviation * noise[k : k + 1], alone - deviation * fresh)
