"""Patches have the published size, losses their formulas, and the weight makes two gradients equally long."""

import pytest
import torch

from unveil.image.networks.discriminator import (
    PatchDiscriminator,
    adaptive_weight,
    adversarial_loss,
    hinge_loss,
    patch_layers,
)


@pytest.mark.parametrize(("layers", "sees"), [(1, 16), (2, 34), (3, 70)])
def test_a_score_sees_16_34_or_70_pixels(layers, sees):
    """The gradient of one score in the middle reaches a square of so many pixels. Without norms, which join
    all positions."""
    torch.manual_seed(0)
    network = PatchDiscriminator(1, 2, layers, groups=0)
    x = torch.zeros((1, 1, 160, 160), requires_grad=True)
    scores = network(x)
    middle = scores.shape[-1] // 2
    (gradient,) = torch.autograd.grad(scores[0, 0, middle, middle], x)
    rows, columns = gradient[0, 0].abs().sum(1).nonzero()[:, 0], gradient[0, 0].abs().sum(0).nonzero()[:, 0]
    assert int(rows[-1] - rows[0]) + 1 == int(columns[-1] - columns[0]) + 1 == sees


def test_the_published_size_has_the_published_number_of_parameters():
    """pix2pix's PatchGAN of 70 x 70 pixels has 2,768,705 parameters for its six input channels; GroupNorm has
    as many as BatchNorm."""
    network = PatchDiscriminator(6, 64, 3)
    assert sum(p.numel() for p in network.parameters()) == 2_768_705
    assert network(torch.zeros(1, 6, 256, 256)).shape == (1, 1, 30, 30)
    assert [patch_layers(size) for size in (28, 64, 256)] == [1, 2, 3]


def test_the_hinge_loss_is_0_beyond_the_margins_and_falls_towards_them():
    real, made = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 1.0])
    assert float(hinge_loss(real, made)) == pytest.approx(0.5 * (0.25 + 1.0))
    assert float(hinge_loss(torch.tensor([1.0]), torch.tensor([-1.0]))) == 0.0


def test_images_are_pulled_towards_higher_scores_and_the_discriminator_is_left_alone(generator):
    torch.manual_seed(0)
    network = PatchDiscriminator(1, 4, 1, groups=2)
    x = torch.randn((2, 1, 16, 16), generator=generator, requires_grad=True)
    loss = adversarial_loss(network, x)
    torch.testing.assert_close(loss, -network(x).mean())
    loss.backward()
    assert all(p.grad is None for p in network.parameters())
    with torch.no_grad():
        assert float(network(x - 10.0 * x.grad).mean()) > float(network(x).mean())


def test_with_the_weight_both_losses_change_the_last_layer_equally(generator):
    last = torch.randn((3, 4), generator=generator, requires_grad=True)
    h = torch.randn((5, 3), generator=generator)
    loss, adversarial = (h @ last).abs().sum(), 0.01 * (h @ last).cos().sum()
    weight = adaptive_weight(loss, adversarial, [last])
    norms = [torch.autograd.grad(v, last, retain_graph=True)[0].norm() for v in (loss, weight * adversarial)]
    torch.testing.assert_close(norms[0], norms[1], rtol=0.05, atol=0.0)  # 1e-4 in the denominator
    assert not weight.requires_grad
    assert float(adaptive_weight(1e9 * loss, adversarial, [last])) == 1e4


@pytest.mark.usefixtures("unchecked")
def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="take at least 1 layer, and groups that divide"):
        PatchDiscriminator(3, 8, 1, groups=3)
