"""The diffusion prior: standardized embeddings, guidance that sees x_t in both branches, the best of two."""

import pytest
import torch
from torch import Tensor, nn

from unveil.image.networks.prior import PriorShape
from unveil.image.unclip.prior_model import (
    EmbeddedImages,
    PriorModel,
    best_of,
    moments,
    prior_batches,
    prior_loss,
    prior_times,
)
from unveil.image.unclip.prior_settings import PriorSettings
from unveil.network.condition import Condition
from unveil.process.corrupt import corrupt
from unveil.process.denoised import GaussianDenoised
from unveil.sampling.ancestral import Ancestral
from unveil.sampling.loop import sample

SHAPE = PriorShape(embedding=6, context=5, pooled=6, length=3, width=16, layers=1, heads=2)


class Words(nn.Module):
    """Prompts to vectors that are drawn by their length; "" is a text like others."""

    def forward(self, prompts: list[str] | tuple[str, ...], device: torch.device) -> Condition:
        tokens, vectors = [], []
        for prompt in prompts:
            generator = torch.Generator().manual_seed(len(prompt))
            tokens.append(torch.randn((3, 5), generator=generator))
            vectors.append(torch.randn(6, generator=generator))
        valid = torch.ones((len(tokens), 3), dtype=torch.bool)
        return Condition(tokens=torch.stack(tokens), token_valid=valid, vector=torch.stack(vectors))


class Known(nn.Module):
    """A network that returns what a function makes of its inputs."""

    def __init__(self, made) -> None:
        super().__init__()
        self.made = made

    def forward(self, x: Tensor, time: Tensor, cond: Condition) -> Tensor:
        return self.made(x, time, cond)


def model(steps: int = 50, unit: bool = False, clamp: float = 5.0) -> PriorModel:
    torch.manual_seed(0)
    return PriorModel(SHAPE, Words(), steps, clamp, unit).eval()


def test_standardized_embeddings_have_mean_0_and_deviation_1_and_return():
    prior, z = model(), 0.01 * torch.randn(200, 6) @ torch.randn(6, 6) + 0.3
    prior.mean, prior.std = moments(z)
    x_0 = prior.standardized(z)
    torch.testing.assert_close(x_0.mean(0), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(x_0.std(0, correction=0), torch.ones(6))
    torch.testing.assert_close(prior.embeddings(x_0), z)
    prior.unit = True
    torch.testing.assert_close(prior.embeddings(x_0).norm(dim=1), torch.ones(200))


def test_numbers_that_never_vary_are_not_blown_up():
    z = torch.randn(20, 3) * torch.tensor([1.0, 1e-9, 1.0])
    mean, std = moments(z)
    assert float(((z - mean) / std).abs().max()) < 5.0


def test_both_branches_of_guidance_see_x_t():
    """Public ports hide the noisy embedding in the null branch. A network whose output is x_t alone is the
    same in both branches, so guidance by any scale leaves it as it is; at scale 3 a branch blind to x_t
    would triple it."""
    seen: list[tuple[Tensor, Tensor]] = []

    def made(x: Tensor, time: Tensor, cond: Condition) -> Tensor:
        assert cond.vector is not None
        seen.append((x.clone(), cond.vector.clone()))
        return x

    prior = model()
    prior.denoiser.network = Known(made)
    noise = torch.randn(2, 6)
    settings = PriorSettings(prior_steps=3, prior_scale=3.0, candidates=1)
    guided = prior.sample(["ab", "abc"], settings, 0, noise)
    x, vectors = seen[0]
    torch.testing.assert_close(x[:2], noise)
    torch.testing.assert_close(x[2:], noise)
    null, both = Words()(["", ""], prior.device).vector, Words()(["ab", "abc"], prior.device).vector
    assert null is not None and both is not None
    torch.testing.assert_close(vectors, torch.cat([null, both]))
    plain = prior.sample(["ab", "abc"], PriorSettings(prior_steps=3, prior_scale=1.0, candidates=1), 0, noise)
    torch.testing.assert_close(guided, plain)


def test_guidance_is_the_null_plus_scale_times_the_difference_and_is_clamped():
    """With x_0 = the text's vector known, the last step returns null + s (text - null), clamped."""
    prior = model(clamp=2.0)
    prior.denoiser.network = Known(lambda x, time, cond: cond.vector)
    made = prior.sample(["ab"], PriorSettings(prior_steps=4, prior_scale=2.5, candidates=1), 0)
    null, text = (Words()([it], prior.device).vector for it in ("", "ab"))
    assert null is not None and text is not None
    torch.testing.assert_close(made, (null + 2.5 * (text - null)).clamp(-2.0, 2.0))


def test_the_best_candidate_has_the_largest_product_with_its_text():
    z = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0], [0.0, -1.0]])
    texts = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, -1.0], [0.0, -1.0]])
    assert best_of(z, texts, 2).tolist() == [[0.0, 1.0], [0.0, -1.0]]
    assert best_of(z, None, 1) is z


def test_samples_do_not_depend_on_each_other():
    prior, settings = model(unit=True), PriorSettings(prior_steps=4, candidates=3)
    three = prior.sample(["a", "bb", "ccc"], settings, 5)
    torch.testing.assert_close(three[1:2], prior.sample(["bb"], settings, 6))
    torch.testing.assert_close(three.norm(dim=1), torch.ones(3))


def test_times_are_those_of_unclip():
    assert (prior_times(1000, 4) * 1000).tolist() == [1000, 667, 334, 1, 0]
    assert prior_times(1000, 1).tolist() == [1.0, 0.0]


def test_the_prior_of_a_gaussian_is_drawn():
    """For z_i | y ~ N(m, s^2) the best x_0 is known, and samples by it have this mean and deviation."""
    prior, s = model(steps=1000, clamp=50.0), 0.5
    m = torch.tensor([1.0, -2.0, 0.0, 0.5, 3.0, 1.5])
    schedule = prior.denoiser.schedule

    def best(x: Tensor, time: Tensor, cond: Condition) -> Tensor:
        t = (time.double() + 1.0) / 1000.0
        alpha, sigma = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
        return (m + alpha * s**2 / (alpha**2 * s**2 + sigma**2) * (x - alpha * m)).float()

    prior.denoiser.network = Known(best)
    settings = PriorSettings(prior_steps=200, prior_scale=1.0, candidates=1)
    z = prior.sample(["a"] * 2000, settings, 0)
    torch.testing.assert_close(z.mean(0), m, atol=0.06, rtol=0)
    torch.testing.assert_close(z.std(0), torch.full((6,), s), atol=0.03, rtol=0)


def test_prior_and_decoder_together_draw_images_of_the_text():
    """p(x | y) = p(x | z) p(z | y) on a linear-Gaussian chain: z | y ~ N(m, s^2) and x | z ~ N(2 z + 1, r^2), so
    that x | y ~ N(2 m + 1, 4 s^2 + r^2)."""
    prior, s, r, m = model(steps=1000, clamp=50.0), 0.5, 0.7, -1.5
    schedule = prior.denoiser.schedule

    def posterior_mean(x: Tensor, t: Tensor, mean: Tensor | float, deviation: float) -> Tensor:
        alpha, sigma = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
        gain = alpha * deviation**2 / (alpha**2 * deviation**2 + sigma**2)
        return (mean + gain * (x - alpha * mean)).float()

    prior.denoiser.network = Known(
        lambda x, time, cond: posterior_mean(x, (time.double() + 1.0) / 1000.0, m, s)
    )
    settings = PriorSettings(prior_steps=200, prior_scale=1.0, candidates=1)
    z = prior.sample(["a"] * 2000, settings, 0)
    x = sample(
        lambda x_t, t: GaussianDenoised(posterior_mean(x_t, t, 2.0 * z + 1.0, r)),
        Ancestral(schedule),
        torch.randn(z.shape, generator=torch.Generator().manual_seed(1)),
        prior_times(1000, 200),
        generator=torch.Generator().manual_seed(2),
    )
    torch.testing.assert_close(x.mean(0), torch.full((6,), 2.0 * m + 1.0), atol=0.1, rtol=0)
    spread = (4.0 * s**2 + r**2) ** 0.5
    torch.testing.assert_close(x.std(0), torch.full((6,), spread), atol=0.06, rtol=0)
    together = torch.stack([z.flatten(), x.flatten()])
    assert float(torch.corrcoef(together)[0, 1]) == pytest.approx(2.0 * s / spread, abs=0.03)


def test_a_batch_has_whole_captions_or_empty_ones_and_the_loss_is_that_of_x_0(generator):
    def captions(rows: Tensor, _: torch.Generator) -> list[str]:
        return ["x" * (1 + int(row)) for row in rows]

    z = torch.arange(8.0)[:, None].expand(8, 6) + torch.zeros(8, 6)
    fixed = torch.tensor([True, False, False, False])
    batch = prior_batches(EmbeddedImages(z, captions, fixed, 4), 50, 400, 0.25)(generator)
    rows = batch.embeddings[:, 0].long()
    for prompt, row in zip(batch.prompts, rows.tolist(), strict=True):
        assert prompt in ("", "x" * (1 + row % 4)) and row != 4
    assert 0.15 < sum(prompt == "" for prompt in batch.prompts) / 400 < 0.35
    assert set((batch.t * 50).round().long().tolist()) == set(range(1, 51))
    prior = model()
    prior.mean, prior.std = torch.full((6,), 2.0), torch.full((6,), 3.0)
    loss, _ = prior_loss(prior, batch)
    x_0 = (batch.embeddings - 2.0) / 3.0
    x_t = corrupt(prior.denoiser.schedule, x_0, batch.t, batch.noise)
    out = prior.denoiser.network(x_t, (50 * batch.t - 1).float(), prior.condition(batch.prompts))
    assert float(loss.detach()) == pytest.approx(float((out - x_0).square().mean().detach()), rel=1e-5)
