"""CLIP: its loss and its scores in closed form, what its towers see, and the gradient that guides."""

from dataclasses import replace
from math import exp, log

import pytest
import torch
from torch import nn

from unveil.image.clip_model import ClipModel, chance, contrastive_loss, equal, recall
from unveil.image.data.tokenizer import train_words
from unveil.image.generation import Given, generate
from unveil.image.model import ImageModel
from unveil.image.networks.text_encoder import WordTransformer, WordTransformerShape
from unveil.image.prompts.text_conditioning import TextConditioning
from unveil.image.settings import ImageSettings
from unveil.image.shape import ImageShape
from unveil.image.solvers import image_times
from unveil.process.schedule import cosine_betas, tabulated
from unveil.sampling.edit import potential_gradient

SMALL = ImageShape(
    4, 1, width=8, multiples=(1,), attention=(), groups=4, stem=1, schedule="cosine", context=8, pooled=8
)


def towers(noised: bool = True, network: nn.Module | None = None, width: int = 5) -> ClipModel:
    torch.manual_seed(0)
    tokenizer = train_words(["a red circle", "a blue square"], length=6)
    text = TextConditioning(tokenizer, WordTransformer(WordTransformerShape(tokenizer.size, 6, 8, 1, 2)))
    return ClipModel(SMALL, width, text, noised, network)


def test_the_loss_is_the_mean_of_both_cross_entropies():
    """Row i: -log softmax over texts at i; column j: over images. Radford et al. 2021, figure 3."""
    torch.manual_seed(1)
    images, texts = (torch.randn(4, 3).double() for _ in range(2))
    logits = 7.0 * images @ texts.T
    rows = -sum(float(logits[i, i] - logits[i].logsumexp(0)) for i in range(4)) / 4
    columns = -sum(float(logits[j, j] - logits[:, j].logsumexp(0)) for j in range(4)) / 4
    loss = contrastive_loss(images, texts, torch.eye(4).bool(), torch.tensor(7.0).double())
    assert float(loss) == pytest.approx((rows + columns) / 2, rel=1e-12)


def test_equal_captions_are_right_for_each_others_images():
    """With perfect embeddings of two captions, four images have the loss ln 2 at a large scale, the least for
    uniform targets, and the gradient is 0; a loss that takes the twin for wrong pulls twins apart."""
    images = torch.eye(2).double()[[0, 0, 1, 1]].requires_grad_()
    texts = torch.eye(2).double()[[0, 0, 1, 1]]
    positive = equal(["a", "a", "b", "b"], ["a", "a", "b", "b"])
    loss = contrastive_loss(images, texts, positive, torch.tensor(100.0).double())
    assert float(loss.detach()) == pytest.approx(log(2.0), abs=1e-9)
    loss.backward()
    assert images.grad is not None and float(images.grad.abs().max()) < 1e-9


def test_the_scale_begins_at_one_over_seven_hundredths_and_ends_at_a_hundred():
    model = towers()
    assert float(model.scale.detach()) == pytest.approx(1 / 0.07, rel=1e-6)
    with torch.no_grad():
        model.log_scale.fill_(6.0)
    assert float(model.scale.detach()) == pytest.approx(100.0, rel=1e-6) and exp(6.0) > 400


def test_embeddings_are_of_unit_length_unless_they_are_not():
    model = towers()
    x = torch.randn(2, 1, 4, 4)
    assert torch.allclose(model.image_embedding(x).norm(dim=1), torch.ones(2))
    assert torch.allclose(model.text_embedding(["a red circle"]).norm(dim=1), torch.ones(1))
    raw = model.image_embedding(x, unit=False)
    assert torch.allclose(raw / raw.norm(dim=1, keepdim=True), model.image_embedding(x), atol=1e-6)
    assert not torch.allclose(raw.norm(dim=1), torch.ones(2), atol=1e-2)


class Seen(nn.Module):
    """An image tower that returns what it sees: the pixels' mean, and the time."""

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        return torch.stack([x.mean((1, 2, 3)), time], dim=1)


def test_a_tower_of_noisy_images_sees_the_time_and_one_of_clean_ones_does_not():
    x, t = torch.ones(2, 1, 4, 4), torch.tensor([0.5, 1.0]).double()
    seen = towers(True, Seen(), 2).image_embedding(x, t, unit=False)
    assert seen[:, 1].tolist() == [500.0, 1000.0] and torch.allclose(seen[:, 0], torch.ones(2))
    assert towers(True, Seen(), 2).image_embedding(x, unit=False)[:, 1].tolist() == [1.0, 1.0]
    assert towers(False, Seen(), 2).image_embedding(x, unit=False)[:, 1].tolist() == [0.0, 0.0]
    counted = ClipModel(SMALL, 2, towers().text, True, Seen(), counted_from=0)
    assert counted.image_embedding(x, t, unit=False)[:, 1].tolist() == [499.0, 999.0]


def test_the_gradient_is_that_of_the_scaled_cosine():
    """Of finite differences, and along it the similarity rises."""
    model = towers().double()
    log_h = model.log_similarity(["a red circle", "a blue square"])
    x, t = torch.randn(2, 1, 4, 4).double(), torch.tensor([0.3, 0.7]).double()
    gradient = potential_gradient(log_h, x, t)
    direction = torch.randn_like(x)
    step = 1e-5
    rise = (log_h(x + step * direction, t) - log_h(x - step * direction, t)) / (2 * step)
    assert torch.allclose(rise, (gradient * direction).flatten(1).sum(1), rtol=1e-4, atol=1e-7)
    cosines = log_h(x, t) / model.scale
    texts = model.text_embedding(["a red circle", "a blue square"])
    assert torch.allclose(cosines, (model.image_embedding(x, t) * texts).sum(1))


def test_images_of_another_size_or_other_colours_are_refused():
    model = towers()
    for shape in ((1, 1, 8, 8), (1, 3, 4, 4)):
        with pytest.raises(ValueError, match="reads images of 1 x 4 x 4"):
            model.image_embedding(torch.zeros(shape))


def test_recall_counts_ranks_and_ties():
    scores = torch.tensor([[0.9, 0.8, 0.7], [0.9, 0.8, 0.7], [0.9, 0.8, 0.7]])
    assert recall(scores, torch.eye(3).bool(), 1) == pytest.approx(1 / 3)
    assert recall(scores, torch.eye(3).bool(), 2) == pytest.approx(2 / 3)
    assert recall(torch.zeros(3, 3), torch.eye(3).bool(), 1) == pytest.approx(1 / 3)
    assert recall(torch.zeros(3, 3), torch.eye(3).bool(), 2) == pytest.approx(2 / 3)
    assert recall(scores, torch.eye(3).bool(), 5) == 1.0


def test_chance_is_that_of_drawing_without_replacement():
    positive = torch.tensor([[True, False, False, False], [True, True, False, False]])
    assert chance(positive, 1) == pytest.approx((1 / 4 + 2 / 4) / 2)
    assert chance(positive, 2) == pytest.approx((2 / 4 + (1 - 1 / 6)) / 2)


def test_guided_beliefs_move_towards_the_text(monkeypatch):
    """An unconditional model whose belief is 0, guided by x -> scale * mean of x: after one DDIM step from
    t = 1/2 to 0, x_0 = clip_scale * sigma^2 / alpha * the gradient; another sign moves away."""
    model, clip = ImageModel(replace(SMALL, context=0, pooled=0, predicts="x0")), towers(True)
    monkeypatch.setattr(clip, "log_similarity", lambda texts: lambda x, t: x.mean((1, 2, 3)) * len(texts[0]))
    settings = ImageSettings("ddim", steps=2, clip_scale=2.0, clip=False)
    given = Given(clip=clip, texts=["abcd"])
    made = generate(
        model, None, 1, settings, 0, given=given, finish=torch.clone, noise=torch.zeros(1, 1, 4, 4)
    )
    times = image_times(model, settings)
    schedule = model.denoiser.schedule
    gain = float(schedule.sigma(times[-2]) ** 2 / schedule.alpha(times[-2]))
    torch.testing.assert_close(made.pixels, torch.full((1, 1, 4, 4), 2.0 * gain * 4 / 16))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"size": 8}, "do not fit: side"),
        ({"channels": 3}, "do not fit: side"),
        ({"diffusion_steps": 25}, "do not fit: side"),
        ({"schedule": "linear"}, "do not fit: side"),
    ],
)
def test_a_clip_of_other_images_is_refused(change, told):
    model = ImageModel(replace(SMALL, context=0, pooled=0, **change))
    with pytest.raises(ValueError, match=told):
        generate(model, None, 1, ImageSettings(steps=1), 0, given=Given(clip=towers(), texts=["a"]))


def test_a_clip_without_texts_and_one_of_clean_images_are_refused():
    model = ImageModel(replace(SMALL, context=0, pooled=0))
    for given, told in (
        (Given(clip=towers()), "towards texts; give `prompt`"),
        (Given(clip=towers(False), texts=["a"]), "trained on clean images"),
        (Given(texts=["a"]), "give both or neither"),
    ):
        with pytest.raises(ValueError, match=told):
            generate(model, None, 1, ImageSettings(steps=1), 0, given=given)


def test_noise_of_the_schedule_is_what_the_tower_was_trained_on():
    """`described` at t noises by the schedule: the mean of white images falls by alpha."""
    schedule, pixels = tabulated(cosine_betas(1000)), torch.full((512, 1, 4, 4), 255.0)
    model = towers(True, Seen(), 2)
    generator = torch.Generator().manual_seed(0)
    unit = model.described(pixels, t=0.5, generator=generator)
    mean = (500.0 * unit[:, 0] / unit[:, 1]).mean()
    assert float(mean) == pytest.approx(float(schedule.alpha(torch.tensor(0.5).double())), abs=0.03)
