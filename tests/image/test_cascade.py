"""Cascades: what the upsampler sees of the pictures of the model before it, and sizes that do not fit."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.image.cascade import check_stage, enlarge, with_level
from unveil.image.model import ImageModel
from unveil.image.settings import ImageSettings
from unveil.image.shape import ImageShape
from unveil.network.condition import Condition

SETTINGS = ImageSettings(steps=3, scale=2.0, negative="blurred")


class Copies(nn.Module):
    """Says that the image is what it sees beside it; remembers the last condition."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen: Condition | None = None

    def forward(self, x: Tensor, time: Tensor, cond: Condition | None = None) -> Tensor:
        assert cond is not None and cond.concat is not None
        self.seen = cond
        return cond.concat + 0.0 * x


def upsampler(levels: int = 0, **more: object) -> ImageModel:
    fields = {"size": 8, "channels": 3, "width": 8, "multiples": (1,), "groups": 4, "attention": ()}
    fields |= {"stem": 1, "schedule": "cosine", "predicts": "x0", "upsample": 2}
    fields |= {"concat": 3, "beside": "lowres", "noise_levels": levels} if levels else {}
    return ImageModel(ImageShape(**(fields | more)), Copies())


@pytest.mark.parametrize("levels", [0, 300])
def test_an_upsampler_sees_the_pictures_enlarged(generator, levels):
    """In -1 .. 1, in their order whatever the batch, and at noise level 0 without noise. Guidance is left out
    for a model that knows neither classes nor prompts."""
    pixels = torch.randint(256, (3, 3, 4, 4), generator=generator).to(torch.uint8)
    made = enlarge(upsampler(levels), pixels, SETTINGS, batch=2, level=0)
    expected = F.interpolate(pixels.float(), scale_factor=2, mode="bilinear", align_corners=False)
    assert made.pixels.shape == (3, 3, 8, 8) and made.calls == 3
    assert (made.pixels.float() - expected).abs().max() <= 1.0


def test_noise_of_the_level_reaches_the_pictures_and_the_network(generator):
    """low -> sqrt(a) low + sqrt(1 - a) noise, a = prod(1 - beta_i) over the first 200 of DDPM's betas; each
    image has noise of its own seed."""
    model, low = upsampler(300), torch.full((400, 3, 4, 4), 0.5)
    noisy, level = with_level(low, 200, model, seed=5)
    a = float((1.0 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)[:200]).prod())
    assert float(noisy.mean()) == pytest.approx(0.5 * a**0.5, abs=0.01)
    assert float(noisy.var()) == pytest.approx(1.0 - a, rel=0.03)
    assert level is not None and level.tolist() == [200] * 400
    again, _ = with_level(low[:2], 200, model, seed=6)
    assert torch.equal(again, noisy[1:3])
    assert with_level(low, 900, model, seed=5)[1].tolist() == [300] * 400  # the largest that it knows
    clean, none = with_level(low, 200, upsampler(), seed=5)
    assert none is None and torch.equal(clean, low)
    network = model.denoiser.network
    assert isinstance(network, Copies)
    enlarge(model, torch.zeros((2, 3, 4, 4), dtype=torch.uint8), SETTINGS, level=200)
    assert network.seen is not None and network.seen.concat_level.tolist() == [200.0] * 2


def test_noise_makes_drawn_and_true_pictures_more_alike():
    """Pixels N(0, 1) and N(1, 1): the divergence a / 2 of their noised versions, KL of N(sqrt(a), 1) to N(0, 1),
    falls with the level from 1/2 to 0, as the levels that `noised` gives say."""
    model, size = upsampler(1000), (2000, 3, 4, 4)
    divergences: list[float] = []
    for level in (0, 100, 300, 600, 1000):
        one, other = (
            with_level(
                torch.randn(size, generator=torch.Generator().manual_seed(k)) + k, level, model, seed=k
            )[0]
            for k in (0, 1)
        )
        assert float(one.var()) == pytest.approx(1.0, rel=0.03)
        divergences.append(float((other.mean() - one.mean()) ** 2) / 2.0)
        a = float((1.0 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)[:level]).prod())
        assert divergences[-1] == pytest.approx(a / 2.0, abs=0.02)
    assert divergences == sorted(divergences, reverse=True)


def test_stages_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="enlarges images of 3 x 4 x 4, and these have 3 x 8 x 8"):
        check_stage(upsampler(), (3, 8, 8))
    with pytest.raises(ValueError, match="3 x 4 x 4, and these have 1 x 4 x 4"):
        enlarge(upsampler(), torch.zeros((2, 1, 4, 4), dtype=torch.uint8), SETTINGS)
    with pytest.raises(ValueError, match="is no upsampler"):
        check_stage(upsampler(upsample=1), (3, 4, 4))
