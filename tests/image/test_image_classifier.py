"""Classifier guidance: with an exact model of a mixture and its exact classifier, guided images are those of
the class."""

from math import log

import pytest
import torch
from torch import nn

from unveil.image.classifier import ImageClassifier, classifier_loss
from unveil.image.data.images import ImageSet, RandomImages
from unveil.image.generation import Given, ImageSettings, generate
from unveil.image.model import ImageModel
from unveil.image.shape import ImageShape
from unveil.image.training import image_batches
from unveil.sampling.guidance import tilted

SMALL = {
    "size": 4,
    "channels": 1,
    "width": 8,
    "multiples": (1,),
    "blocks": 1,
    "attention": (),
    "groups": 4,
    "stem": 1,
}
MEANS, DEVIATION = (-0.5, 0.5), 0.1


def column(value, x):
    return value.to(x.dtype)[:, None, None, None]


class Mixture:
    """Images of N(m_k, d^2) pixels, k = 0 or 1 with equal chances: beliefs and p(k | x_t) in closed form."""

    def __init__(self, schedule) -> None:
        self.schedule = schedule

    def logits(self, x_t, t):
        alpha, sigma = column(self.schedule.alpha(t), x_t), column(self.schedule.sigma(t), x_t)
        variance = (alpha * DEVIATION) ** 2 + sigma**2
        each = [-((x_t - alpha * mean) ** 2 / (2 * variance)).flatten(1).sum(1) for mean in MEANS]
        return torch.stack(each, dim=1)

    def belief_of(self, k, x_t, t):
        alpha, sigma = column(self.schedule.alpha(t), x_t), column(self.schedule.sigma(t), x_t)
        gain = alpha * DEVIATION**2 / ((alpha * DEVIATION) ** 2 + sigma**2)
        return MEANS[k] + gain * (x_t - alpha * MEANS[k])

    def belief(self, x_t, t):
        p = self.logits(x_t, t).softmax(1)
        return sum(column(p[:, k], x_t) * self.belief_of(k, x_t, t) for k in (0, 1))


class Network(nn.Module):
    """A stand-in for the model's network, or, with `classes`, for the classifier's."""

    def __init__(self, owner, classes: bool = False) -> None:
        super().__init__()
        self.owner, self.classes = [owner], classes
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x, time, cond=None):
        (owner,) = self.owner
        steps = owner.shape.diffusion_steps
        if self.classes:
            return Mixture(owner.schedule).logits(x, time.double() / steps)
        denoiser, t = owner.denoiser, (time.double() + 1.0) / steps
        skip, out, _ = (column(c, x) for c in denoiser.coefficients(t))
        return (Mixture(denoiser.schedule).belief(x, t) - skip * x) / out


def pair(steps: int = 100):
    shape = ImageShape(**SMALL | {"schedule": "linear", "diffusion_steps": steps})
    model = ImageModel(shape)
    model.denoiser.network = Network(model)
    classifier = ImageClassifier(
        ImageShape(**SMALL | {"schedule": "linear", "diffusion_steps": steps, "classes": 2})
    )
    classifier.network = Network(classifier, classes=True)
    return model, classifier


def test_the_moved_belief_is_the_belief_of_the_class(generator):
    """Bayes' rule at scale 1, to float32, at every time: the mixture's mean plus sigma^2 / alpha grad log p(k
    | x_t)."""
    model, classifier = pair()
    schedule = model.denoiser.schedule
    t = torch.tensor([0.05, 0.3, 0.6, 0.9], dtype=torch.float64)
    x_t = column(schedule.sigma(t), torch.ones(1)) * torch.randn((4, 1, 4, 4), generator=generator)
    labels = torch.tensor([0, 1, 1, 0])
    moved = tilted(model.denoiser, classifier.log_probability(labels), schedule)(x_t, t).mean
    exact = torch.cat(
        [Mixture(schedule).belief_of(int(k), x_t[i : i + 1], t[i : i + 1]) for i, k in enumerate(labels)]
    )
    torch.testing.assert_close(moved, exact, rtol=1e-3, atol=1e-3)
    assert float((model.denoiser(x_t, t).mean - exact).abs().max()) > 0.2


@pytest.mark.parametrize(
    ("form", "solver", "steps"), [("belief", "dpmpp", 40), ("belief", "ddim", 60), ("mean", "ddpm", 100)]
)
def test_guided_images_are_of_the_class_that_was_asked(form, solver, steps):
    """Mean and deviation of the class's Gaussian; without guidance both classes come."""
    model, classifier = pair()
    labels = torch.tensor([0, 1]).repeat(24)
    settings = ImageSettings(solver, steps, classifier_form=form)
    made = generate(model, labels, 48, settings, torch.Generator().manual_seed(0), given=Given(classifier))
    x = made.pixels.float() / 127.5 - 1.0
    for k in (0, 1):
        assert float(x[labels == k].mean()) == pytest.approx(MEANS[k], abs=0.03)
        assert float(x[labels == k].std()) == pytest.approx(DEVIATION, rel=0.25)
    free = generate(
        model,
        labels,
        48,
        ImageSettings(solver, steps, classifier_scale=0.0),
        torch.Generator().manual_seed(0),
        given=Given(classifier),
    )
    signs = free.pixels.float().flatten(1).mean(1) > 127.5
    assert 0.2 < float(signs.float().mean()) < 0.8
    assert 0.2 < float((signs == (labels == 1)).float().mean()) < 0.8


@pytest.mark.parametrize(("form", "solver"), [("belief", "ddpm"), ("mean", "ddpm")])
def test_a_classifier_leads_within_the_interval_alone(form, solver):
    """Where no step falls into the interval, images are those that nothing leads; in half of it, neither
    these nor those fully led."""
    model, classifier = pair()
    labels = torch.tensor([0, 1]).repeat(4)

    def made(**more):
        settings = ImageSettings(solver, 10, classifier_form=form, **more)
        return generate(
            model, labels, 8, settings, torch.Generator().manual_seed(0), given=Given(classifier)
        ).pixels

    free, led = made(classifier_scale=0.0), made()
    assert (made(interval=(0.001, 0.002)) == free).all() and (led != free).any()
    half = made(interval=(0.0, 0.5))
    assert (half != free).any() and (half != led).any() and (made(interval=(0.0, 1.0)) == led).all()


def test_a_classifier_learns_and_knows_less_in_more_noise():
    shape = ImageShape(**SMALL | {"classes": 2, "schedule": "cosine", "diffusion_steps": 50})
    torch.manual_seed(0)
    model = ImageClassifier(shape)
    pixels = torch.stack([torch.full((1, 4, 4), 90), torch.full((1, 4, 4), 160)]).byte()
    draw = image_batches(RandomImages(ImageSet(pixels.numpy(), torch.tensor([0, 1]).numpy())), shape, 64, 0.0)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(40):
        loss, extra = classifier_loss(model, draw(generator))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.75 * log(2) and extra["accuracy"] > 0.6
    assert model.predicted(pixels).tolist() == [0, 1]
    batch, sure = draw(generator), []
    for t in (0.02, 1.0):
        value, _ = classifier_loss(model, batch._replace(t=torch.full((64,), t, dtype=torch.float64)))
        sure.append(float(value.detach()))
    assert sure[0] < 0.3 < sure[1]
    assert model.described(pixels).shape == (2, 8)


def test_clean_classifiers_never_see_noise(generator):
    shape = ImageShape(**SMALL | {"classes": 2})
    model, seen = ImageClassifier(shape, clean=True), []
    model.network.register_forward_pre_hook(lambda _, given: seen.append(given))
    pixels = torch.arange(32, dtype=torch.uint8).reshape(2, 1, 4, 4)
    draw = image_batches(RandomImages(ImageSet(pixels.numpy(), torch.tensor([0, 1]).numpy())), shape, 8, 0.0)
    batch = draw(generator)
    classifier_loss(model, batch)
    torch.testing.assert_close(seen[0][0], model.normalized(batch.pixels))
    assert seen[0][1].tolist() == [0.0] * 8


def guided(settings=None, labels=True, **more):
    model, classifier = pair()
    told = torch.zeros(2, dtype=torch.long) if labels else None
    given = Given(
        ImageClassifier(
            ImageShape(**SMALL | {"classes": 2, "schedule": "linear", "diffusion_steps": 100} | more)
        )
        if more
        else classifier
    )
    return generate(
        model, told, 2, settings or ImageSettings(steps=2), torch.Generator().manual_seed(0), given=given
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: guided(labels=False), "give `label`"),
        (lambda: guided(schedule="cosine"), "do not fit"),
        (lambda: guided(diffusion_steps=50), "do not fit"),
        (lambda: ImageSettings("ddim", classifier_form="mean"), "needs `solver=ddpm`"),
        (
            lambda: ImageSettings(classifier_scale=-1.0),
            "`classifier_scale` must be a finite number of at least 0",
        ),
        (lambda: ImageClassifier(ImageShape(**SMALL)), "at least 2 classes"),
    ],
)
def test_what_cannot_be_guided_is_said(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_judge_of_clean_images_does_not_guide():
    model, _ = pair()
    judge = ImageClassifier(
        ImageShape(**SMALL | {"classes": 2, "schedule": "linear", "diffusion_steps": 100}), clean=True
    )
    with pytest.raises(ValueError, match="knows noisy ones"):
        generate(
            model,
            torch.zeros(2, dtype=torch.long),
            2,
            ImageSettings(steps=2),
            torch.Generator(),
            given=Given(judge),
        )
