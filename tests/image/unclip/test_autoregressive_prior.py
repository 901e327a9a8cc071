"""The autoregressive prior: codes of embeddings, their errors, and draws by the probabilities."""

import pytest
import torch
from torch import Tensor, nn

from unveil.image.networks.code_transformer import CodesShape
from unveil.image.networks.prior import PriorShape
from unveil.image.unclip.autoregressive_prior import (
    AutoregressivePrior,
    CodesBatch,
    codes_loss,
    principal_components,
)
from unveil.image.unclip.prior_settings import PriorSettings
from unveil.network.condition import Condition

SHAPE = PriorShape(embedding=6, context=5, pooled=6, length=3, width=16, layers=1, heads=2)


class Words(nn.Module):
    """Prompts to vectors; that of "" is all ones."""

    def forward(self, prompts: list[str] | tuple[str, ...], device: torch.device) -> Condition:
        each = [torch.randn(6, generator=torch.Generator().manual_seed(len(it))) for it in prompts]
        vectors = torch.stack([v if it else torch.ones(6) for v, it in zip(each, prompts, strict=True)])
        return Condition(tokens=torch.ones((len(prompts), 3, 5)), vector=vectors)


class Known(nn.Module):
    """Logits by a function of codes, products and condition."""

    def __init__(self, made) -> None:
        super().__init__()
        self.made = made

    def forward(self, codes: Tensor, products: Tensor, cond: Condition) -> Tensor:
        return self.made(codes, products, cond)[:, None]


def data(count: int = 400) -> Tensor:
    torch.manual_seed(3)
    return torch.randn(count, 6) @ torch.diag(torch.tensor([3.0, 2.0, 1.0, 0.5, 0.2, 0.1])) + 0.5


def prior(dimensions: int = 6, bins: int = 16, unit: bool = False) -> AutoregressivePrior:
    torch.manual_seed(0)
    model = AutoregressivePrior(SHAPE, CodesShape(dimensions, bins, 4), Words(), unit).eval()
    z = data()
    model.fit(z, z[:, 0])
    return model


def test_axes_are_orthonormal_and_fall_in_variance():
    z = data()
    mean, axes = principal_components(z, 4)
    torch.testing.assert_close(axes.T @ axes, torch.eye(4), atol=1e-5, rtol=0)
    spread = ((z - mean) @ axes).var(0)
    assert bool((spread[:-1] > spread[1:]).all())
    kept = ((z - mean) @ axes @ axes.T + mean - z).square().sum()
    values = torch.linalg.eigvalsh(((z - mean).T @ (z - mean)).double())
    assert float(kept) == pytest.approx(float(values[:2].sum()), rel=1e-3)
    with pytest.raises(ValueError, match="`dimensions` 7: the embeddings have 6 numbers"):
        principal_components(z, 7)


@pytest.mark.parametrize("bins", [4, 16, 256])
def test_codes_differ_by_at_most_half_a_value(bins):
    model, z = prior(bins=bins), data()
    codes = model.quantized(z)
    assert int(codes.min()) == 0 and int(codes.max()) == bins - 1
    error = ((model.embeddings(codes) - z) @ model.axes).abs()
    bound = (model.high - model.low) / (2 * bins)
    assert bool((error <= bound * 1.001 + 1e-5).all())
    assert bool((error.amax(0) > 0.8 * bound).all())
    assert torch.equal(model.quantized(model.embeddings(codes)), codes)


def test_left_out_components_are_the_whole_error_of_fine_codes():
    model, z = prior(dimensions=3, bins=60_000), data()
    error = (model.embeddings(model.quantized(z)) - z).square().sum()
    _, axes = principal_components(z, 6)
    left = ((z - model.mean) @ axes)[:, 3:].square().sum()
    assert float(error) == pytest.approx(float(left), rel=1e-3)


def test_values_of_the_product_are_equally_frequent_and_the_upper_half_is_drawn():
    model, z = prior(), data()
    seen = torch.bucketize(z[:, 0].contiguous(), model.edges)
    assert bool(((seen.bincount(minlength=4) - 100).abs() <= 1).all())
    drawn: list[Tensor] = []

    def made(codes: Tensor, products: Tensor, cond: Condition) -> Tensor:
        drawn.append(products)
        return torch.zeros(len(products), 16)

    model.add_module("network", Known(made))
    model.sample(["a"] * 300, PriorSettings(candidates=1, prior_scale=2.0), 0)
    unknown, known = drawn[0].chunk(2)
    assert unknown.unique().tolist() == [4] and known.unique().tolist() == [2, 3]
    assert 120 < int((known == 2).sum()) < 180


def test_codes_are_drawn_by_their_probabilities_with_guidance():
    """Null logits 0 and logits (l0, l1) with the text: at scale s the probability is softmax(s l)."""
    model, logit = prior(dimensions=1, bins=2), 0.7

    def made(codes: Tensor, products: Tensor, cond: Condition) -> Tensor:
        assert cond.vector is not None
        told = (cond.vector != 1.0).any(1).float()
        return torch.stack([torch.zeros(len(told)), told * logit], dim=1)

    model.add_module("network", Known(made))
    for scale in (1.0, 3.0):
        settings = PriorSettings(candidates=1, prior_scale=scale)
        codes = model.quantized(model.sample(["a"] * 3000, settings, 0))
        wanted = float(torch.tensor(scale * logit).sigmoid())
        assert float(codes.float().mean()) == pytest.approx(wanted, abs=0.03)


def test_the_loss_is_the_mean_log_probability_of_the_codes_given_those_before():
    model, z = prior(dimensions=4), data(8)
    batch = CodesBatch(z, ("a", "bb", "", "a", "a", "a", "a", "bb"))
    loss, _ = codes_loss(model, batch)
    codes, cond = model.quantized(z), model.condition(batch.prompts)
    assert cond.vector is not None
    products = model.products(z, cond.vector)
    products[2] = 4
    total = 0.0
    with torch.no_grad():
        for k in range(4):
            rows = model.network(codes[:, :k], products, cond)[:, -1].log_softmax(-1)
            total -= float(rows.gather(1, codes[:, k : k + 1]).mean())
    assert float(loss.detach()) == pytest.approx(total / 4, rel=1e-5)


def test_samples_do_not_depend_on_each_other():
    model, settings = prior(unit=True), PriorSettings(candidates=2)
    three = model.sample(["a", "bb", "ccc"], settings, 5)
    torch.testing.assert_close(three[1:2], model.sample(["bb"], settings, 6))
    torch.testing.assert_close(three.norm(dim=1), torch.ones(3))
