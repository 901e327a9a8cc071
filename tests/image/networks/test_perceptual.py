"""The perceptual loss is its formula, knows nothing of contrast in feature space, and fits the images' size."""

import pytest
import torch
from torch.nn import functional as F

from unveil.image.networks import perceptual
from unveil.image.networks.perceptual import LAYERS, SMALL_LAYERS, PerceptualLoss
from unveil.image.networks.squeezenet import activations, caffe_input

FIRES = ((96, 2, 3), (6, 2, 3), (6, 2, 4), (8, 2, 4), (8, 2, 5), (10, 2, 5), (10, 2, 6), (12, 2, 6))


def weights(generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Random weights of a SqueezeNet with few channels behind its first layer."""
    shapes = {"conv1": (96, 3, 7)}
    for number, (inputs, squeeze, expand) in enumerate(FIRES, 2):
        shapes[f"fire{number}.squeeze"] = (squeeze, inputs, 1)
        shapes |= {f"fire{number}.expand{k}x{k}": (expand, squeeze, k) for k in (1, 3)}
    made = {}
    for name, (out, inputs, side) in shapes.items():
        scale = (inputs * side**2) ** -0.5
        made[f"{name}.weight"] = scale * torch.randn(out, inputs, side, side, generator=generator)
        made[f"{name}.bias"] = torch.randn(out, generator=generator)
    return made


def images(generator: torch.Generator, side: int, count: int = 2) -> torch.Tensor:
    return torch.rand((count, 3, side, side), generator=generator) * 2.0 - 1.0


@pytest.mark.parametrize(("side", "layers"), [(64, LAYERS), (32, SMALL_LAYERS)])
def test_it_is_the_squared_distance_of_unit_features_summed_over_layers(side, layers, generator):
    loss = PerceptualLoss(weights(generator))
    x, y = images(generator, side), images(generator, side)
    expected = torch.zeros(2)
    for layer in layers:
        a, b = (activations(caffe_input(127.5 * v + 127.5), loss.weights)[layer] for v in (x, y))
        cosine = F.cosine_similarity(a, b, dim=1)
        # |a/|a| - b/|b||^2 = 2 - 2 cos where neither vanishes
        alive = (a.norm(dim=1) > 0) & (b.norm(dim=1) > 0)
        assert bool(alive.all())
        expected += (2.0 - 2.0 * cosine).mean((1, 2))
    torch.testing.assert_close(loss.distance(x, y), expected, rtol=1e-4, atol=1e-4)
    scale = perceptual.SCALE if side == 64 else perceptual.SMALL_SCALE
    torch.testing.assert_close(loss(x, y), scale * loss.distance(x, y))


def test_equal_images_have_none_and_a_finite_gradient_also_where_no_feature_is_active(generator):
    dead = {name: torch.zeros_like(value) for name, value in weights(generator).items()}
    x = images(generator, 32).requires_grad_()
    for known in (weights(generator), dead):
        loss = PerceptualLoss(known)(x, x.detach()).sum()
        (gradient,) = torch.autograd.grad(loss, x)
        assert float(loss.detach()) == 0.0 and not gradient.any()


def test_layers_have_the_sides_of_the_published_network(generator):
    found = activations(caffe_input(images(generator, 64, 1)), weights(generator))
    sides = {name: value.shape[-1] for name, value in found.items()}
    assert [sides[name] for name in LAYERS] == [29, 14, 14, 7, 7, 7, 3]
    small = activations(caffe_input(images(generator, 32, 1)), weights(generator), "fire5")
    assert list(small) == ["conv1", "fire2", "fire3", "fire4", "fire5"]
    assert [small[name].shape[-1] for name in SMALL_LAYERS] == [13, 6, 6, 3]


def test_grey_images_have_three_equal_channels(generator):
    loss = PerceptualLoss(weights(generator))
    x, y = images(generator, 32)[:, :1], images(generator, 32)[:, :1]
    torch.testing.assert_close(loss(x, y), loss(x.expand(-1, 3, -1, -1), y.expand(-1, 3, -1, -1)))


def test_images_that_are_too_small_are_refused(generator):
    with pytest.raises(ValueError, match="sides of at least 16 pixels, got 8"):
        PerceptualLoss(weights(generator))(images(generator, 8), images(generator, 8))
    loss = PerceptualLoss(weights(generator))
    assert bool(torch.isfinite(loss(images(generator, 16), images(generator, 16))).all())
