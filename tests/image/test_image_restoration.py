"""Measurements: every operator's closed form against its matrix, exact posteriors, and pictures that come
back."""

from itertools import pairwise

import pytest
import torch
from test_image_classifier import SMALL, column
from torch import nn

from unveil.image.generation import Given, ImageSettings, generate
from unveil.image.inversion import slerp
from unveil.image.model import ImageModel, pixels_of
from unveil.image.restoration import Blur, Hide, Shrink, measurement_cost
from unveil.image.shape import ImageShape
from unveil.process.denoised import GaussianDenoised
from unveil.process.schedule import Cosine
from unveil.sampling.guidance import steered

KNOWN = (torch.arange(16) % 3 != 0).reshape(1, 1, 4, 4)
OPERATORS = {
    "denoise": Hide(torch.ones_like(KNOWN)),
    "inpaint": Hide(KNOWN),
    "deblur": Blur(0.7),
    "superres": Shrink(2),
}
PRIOR = 0.5


class Smooth:
    """x_0 ~ N(0, PRIOR^2) in every pixel, float64."""

    schedule = Cosine()

    def __call__(self, x_t, t):
        alpha, sigma = column(self.schedule.alpha(t), x_t), column(self.schedule.sigma(t), x_t)
        return GaussianDenoised(alpha * PRIOR**2 / ((alpha * PRIOR) ** 2 + sigma**2) * x_t)


def matrix(operator) -> torch.Tensor:
    """A, from what it does to each pixel alone."""
    pixels = torch.eye(16, dtype=torch.float64).reshape(16, 1, 4, 4)
    shown = Hide(operator.known.expand(16, -1, -1, -1)) if isinstance(operator, Hide) else operator
    return shown.apply(pixels).flatten(1).T


@pytest.mark.parametrize("name", OPERATORS)
def test_the_inverse_is_that_of_the_matrix(name, generator):
    operator, a = OPERATORS[name], matrix(OPERATORS[name])
    y = torch.randn((1, len(a)), generator=generator, dtype=torch.float64)
    side = int(len(a) ** 0.5)
    got = operator.solved(
        y.reshape(1, 1, side, side), 0.3, torch.tensor([[[[0.2]]]], dtype=torch.float64)
    ).flatten(1)
    expected = torch.linalg.solve(0.09 * torch.eye(len(a), dtype=torch.float64) + 0.2 * a @ a.T, y.T).T
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


def test_what_the_operators_do():
    assert torch.linalg.matrix_rank(matrix(OPERATORS["superres"])) == 4
    a = matrix(Blur(0.7))
    torch.testing.assert_close(a, a.T)
    torch.testing.assert_close(a.sum(1), torch.ones(16, dtype=torch.float64))  # light is kept
    assert float(a[0].argmax()) == 0 and float(a[0, 1]) == pytest.approx(float(a[0, 3]))  # round the edge
    torch.testing.assert_close(
        matrix(Shrink(2))[0, [0, 1, 4, 5]], torch.full((4,), 0.25, dtype=torch.float64)
    )


def test_a_blurred_point_is_a_gaussian():
    """exp(-r^2 / (2 d^2)) / (2 pi d^2), far from the edges; the transform of the continuous one is cut at the
    grid's frequencies: 1e-6."""
    point, d = torch.zeros((1, 1, 32, 32), dtype=torch.float64), 2.0
    point[..., 16, 16] = 1.0
    r = torch.arange(32, dtype=torch.float64) - 16
    expected = (-(r[:, None] ** 2 + r**2) / (2 * d**2)).exp() / (2 * torch.pi * d**2)
    torch.testing.assert_close(Blur(d).apply(point)[0, 0], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", OPERATORS)
def test_the_steered_belief_is_the_posterior(name, generator):
    """The belief N(mean, r^2 I), conditioned on y = A x_0 + noise: mean + r^2 A' (A A' r^2 + noise^2)^-1 (y -
    A mean), exactly."""
    prior, operator, a = Smooth(), OPERATORS[name], matrix(OPERATORS[name])
    x, t = (
        torch.randn((1, 1, 4, 4), generator=generator, dtype=torch.float64),
        torch.tensor([0.6], dtype=torch.float64),
    )
    y = torch.randn((1, len(a)), generator=generator, dtype=torch.float64)
    side = int(len(a) ** 0.5)
    if isinstance(operator, Hide):
        y = y * operator.known.flatten()
    cost = measurement_cost(operator, y.reshape(1, 1, side, side), 0.1, prior.schedule, PRIOR)
    got = steered(prior, cost, prior.schedule)(x, t).mean.flatten()
    alpha, sigma = float(prior.schedule.alpha(t)), float(prior.schedule.sigma(t))
    r = PRIOR**2 * sigma**2 / (alpha**2 * PRIOR**2 + sigma**2)
    mean = prior(x, t).mean.flatten()
    gain = r * a.T @ torch.linalg.inv(r * a @ a.T + 0.01 * torch.eye(len(a), dtype=torch.float64))
    torch.testing.assert_close(got, mean + gain @ (y[0] - a @ mean), rtol=1e-8, atol=1e-9)


class Network(nn.Module):
    """The raw output of `Smooth` as an image model's network: x_0 ~ N(0, PRIOR^2)."""

    def __init__(self, model) -> None:
        super().__init__()
        self.model, self.weight = [model], nn.Parameter(torch.zeros(()))

    def forward(self, x, time, cond=None):
        denoiser = self.model[0].denoiser
        t = (time.double() + 1.0) / self.model[0].shape.diffusion_steps
        skip, out, _ = (column(c, x) for c in denoiser.coefficients(t))
        alpha, sigma = column(denoiser.schedule.alpha(t), x), column(denoiser.schedule.sigma(t), x)
        return (alpha * PRIOR**2 / ((alpha * PRIOR) ** 2 + sigma**2) * x - skip * x) / out


def smooth_model(steps: int = 200) -> ImageModel:
    model = ImageModel(ImageShape(**SMALL | {"schedule": "linear", "diffusion_steps": steps}))
    model.denoiser.network = Network(model)
    return model


@pytest.mark.parametrize("name", ["inpaint", "superres"])
def test_restored_images_are_samples_of_the_posterior(name):
    """Mean and deviation, over 200 images, of what is known well and of what is not."""
    model, operator, a = smooth_model(), OPERATORS[name], matrix(OPERATORS[name]).float()
    truth = 0.3 * torch.randn((1, 1, 4, 4), generator=torch.Generator().manual_seed(1))
    if isinstance(operator, Hide):
        operator = Hide(operator.known.expand(200, -1, -1, -1))
    y = operator.apply(truth.expand(200, -1, -1, -1))
    given = Given(
        cost=lambda some: measurement_cost(operator.rows(some), y[some], 0.05, model.denoiser.schedule, PRIOR)
    )
    made = generate(
        model,
        None,
        200,
        ImageSettings("heun", 30, clip=False),
        torch.Generator().manual_seed(0),
        batch=100,
        given=given,
    )
    x = made.pixels.float().flatten(1) / 127.5 - 1.0
    covariance = torch.linalg.inv(torch.eye(16) / PRIOR**2 + a.T @ a / 0.05**2)
    mean = covariance @ a.T @ y[0].flatten() / 0.05**2
    assert (
        float((x.mean(0) - mean).abs().max()) < 0.12
    )  # 3.4 standard errors where nothing is known, and pixels end at -1 and 1
    torch.testing.assert_close(x.std(0), covariance.diag().sqrt(), rtol=0, atol=0.09)
    low, high = (
        (operator.apply(x[:200].reshape(200, 1, 4, 4)) - y).abs().mean(),
        (x.reshape(200, 1, 4, 4) - truth).abs().mean(),
    )
    assert float(low) < 0.06 < float(high)


def test_known_pixels_are_exact_and_the_others_are_made_up():
    """RePaint with jumps, on independent pixels: known ones to the level, unknown ones of the prior's mean
    and deviation."""
    model = smooth_model()
    value = torch.full((150, 1, 4, 4), 0.4)
    known = KNOWN.expand(150, 1, 4, 4)
    settings = ImageSettings("heun", 20, jumps=3, jump_length=5, clip=False)
    made = generate(
        model,
        None,
        150,
        settings,
        torch.Generator().manual_seed(0),
        batch=150,
        given=Given(known=known, value=value),
    )
    assert made.calls == 3 * 39
    assert torch.equal(made.pixels[known], pixels_of(value)[known])
    free = made.pixels[~known].float() / 127.5 - 1.0
    assert float(free.mean()) == pytest.approx(0.0, abs=0.06) and float(free.std()) == pytest.approx(
        PRIOR, rel=0.12
    )


@pytest.mark.parametrize("solver", ["ddpm", "dpmpp"])
def test_image_to_image_keeps_as_much_as_its_strength_leaves(solver):
    """Of N(0, d^2) pixels, x_0 noised to t and drawn again from p(x_0 | x_t): correlation alpha^2 d^2 /
    (alpha^2 d^2 + sigma^2)."""
    model = smooth_model()
    begin = PRIOR * torch.randn((200, 1, 4, 4), generator=torch.Generator().manual_seed(2)).clamp(-1.9, 1.9)
    kept = []
    for strength in (0.2, 0.5, 1.0):
        settings = ImageSettings(solver, 100, strength=strength)
        made = generate(model, None, 200, settings, 100, batch=200, given=Given(begin=begin))
        x = made.pixels.float().flatten() / 127.5 - 1.0
        kept.append(float(torch.corrcoef(torch.stack([x, begin.flatten()]))[0, 1]))
        times = torch.tensor(strength, dtype=torch.float64)
        alpha, sigma = (
            float(model.denoiser.schedule.alpha(times)),
            float(model.denoiser.schedule.sigma(times)),
        )
        signal = (alpha * PRIOR) ** 2
        expected = (
            signal / (signal + sigma**2) if solver == "ddpm" else (signal / (signal + sigma**2)) ** 0.5
        )  # the flow adds no new noise
        assert kept[-1] == pytest.approx(expected, abs=0.06)
    assert kept[0] > kept[1] > kept[2]


@pytest.mark.parametrize(
    ("solver", "begins"), [("ddim", 0.52), ("ddpm", 0.52), ("dpmpp", 0.512), ("heun", 0.512)]
)
def test_image_to_image_begins_at_its_strength_however_few_the_steps(solver, begins):
    """Of a table of 25 steps ddim and ddpm begin at the nearest entry, 13; the times after it fall, and the
    last is the grid's."""
    model, seen = smooth_model(25), []
    begin = Given(begin=torch.zeros(2, 1, 4, 4))
    for steps in (1, 2, 5, 25):
        seen.clear()
        settings = ImageSettings(solver, steps, strength=0.512)
        generate(
            model,
            None,
            2,
            settings,
            torch.Generator(),
            on_step=lambda _, t: seen.append(float(t)),
            given=begin,
        )
        assert (
            seen[0] == pytest.approx(begins, abs=1e-9)
            and all(b <= a for a, b in pairwise(seen))
            and len(seen) <= 2 * steps
        )
    generate(model, None, 2, ImageSettings(solver, 3, strength=0.004), torch.Generator(), given=begin)


def test_negative_conditions_lead_away_from_a_class_in_one_call():
    from test_image_model import exact

    model, seen = exact("ddpm"), []
    model.denoiser.network.register_forward_pre_hook(lambda _, given: seen.append(given[2].label))
    settings = ImageSettings(scale=1.5, negative=0)
    made = generate(model, torch.ones(8, dtype=torch.long), 8, settings, torch.Generator().manual_seed(0))
    assert float(made.pixels.float().mean()) / 127.5 - 1.0 == pytest.approx(
        -0.5 + 1.5 * 1.0, abs=0.05
    )  # from -1/2 past 1/2
    assert all(label.tolist() == [0] * 8 + [1] * 8 for label in seen) and len(seen) == made.calls
    without = exact("ddpm", null=False)
    generate(
        without, torch.ones(2, dtype=torch.long), 2, settings, torch.Generator().manual_seed(0)
    )  # needs no class-free belief
    with pytest.raises(ValueError, match="give `scale` above 1"):
        generate(model, torch.ones(2, dtype=torch.long), 2, ImageSettings(negative=0), torch.Generator())


def test_interpolation_is_between_its_ends():
    a, b = torch.randn((2, 1, 8, 8), generator=torch.Generator().manual_seed(0)).split(1)
    between = slerp(a.expand(3, -1, -1, -1), b.expand(3, -1, -1, -1), torch.tensor([0.0, 0.5, 1.0]))
    torch.testing.assert_close(between[[0, 2]], torch.cat([a, b]), rtol=1e-5, atol=1e-5)
    assert float(between[1].norm()) == pytest.approx(float((a.norm() + b.norm()) / 2), rel=0.1)
