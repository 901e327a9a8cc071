"""Diffusion Policy's U-Net has the published parameters, reads its vector by FiLM, and treats rows alike."""

import pytest
import torch

from unveil.network.condition import Condition
from unveil.network.conv1d import FilmConv1d
from unveil.policy.networks.conditional_unet1d import ConditionalUNet


@pytest.mark.parametrize(
    ("actions", "vector", "sizes", "parameters"),
    [
        (2, 40, {}, 65_783_298),  # PushT, two observations of 20 numbers
        (2, 10, {}, 65_353_218),  # the state notebook, two observations of 5 numbers
        (2, 1028, {}, 79_947_266),  # the vision notebook, two observations of 512 features and 2 numbers
        (
            2,
            132,
            {"widths": (512, 1024, 2048), "step": 128},
            251_511_938,
        ),  # images, two observations of 64 features and 2 numbers
        (2, 40, {"scale": False}, 63_654_402),
    ],
)
def test_it_has_as_many_parameters_as_the_released_code(actions, vector, sizes, parameters):
    """Counted of the released ConditionalUnet1D itself."""
    with torch.device("meta"):
        network = ConditionalUNet(actions, vector, **sizes)
    assert sum(p.numel() for p in network.parameters()) == parameters


def small(**sizes) -> ConditionalUNet:
    torch.manual_seed(0)
    return ConditionalUNet(2, 6, (16, 32), step=8, **sizes).eval()


@pytest.mark.parametrize("scale", [True, False])
def test_film_is_its_formula(scale):
    torch.manual_seed(0)
    block, x, about = FilmConv1d(8, 16, 5, 3, scale=scale), torch.randn(3, 8, 4), torch.randn(3, 5)
    told = block.about(torch.nn.functional.mish(about))
    gain, shift = (told[:, :16], told[:, 16:]) if scale else (torch.ones(3, 16), told)
    expected = block.second(gain[..., None] * block.first(x) + shift[..., None]) + block.skip(x)
    torch.testing.assert_close(block(x, about), expected)


def test_rows_do_not_see_each_other_and_every_place_sees_the_vector_and_the_time():
    network, x, time, vector = small(), torch.randn(3, 8, 2), torch.tensor([0.0, 5.0, 9.0]), torch.randn(3, 6)
    y = network(x, time, Condition(vector=vector))
    for i in range(3):
        torch.testing.assert_close(
            network(x[i : i + 1], time[i : i + 1], Condition(vector=vector[i : i + 1]))[0], y[i]
        )
    assert ((network(x, time, Condition(vector=vector + 1.0)) - y).abs().amax(-1) > 1e-5).all()
    assert ((network(x, time + 1.0, Condition(vector=vector)) - y).abs().amax(-1) > 1e-5).all()


def test_without_a_vector_the_condition_is_not_read():
    torch.manual_seed(0)
    network, x, time = ConditionalUNet(2, 0, (16, 32), step=8), torch.randn(1, 8, 2), torch.zeros(1)
    assert torch.equal(network(x, time), network(x, time, Condition(vector=torch.randn(1, 6))))


def test_what_cannot_be_is_named():
    network, time = small(), torch.zeros(2)
    told = Condition(vector=torch.zeros(2, 6))
    with pytest.raises(ValueError, match="7 cannot be halved 1 times"):
        network(torch.zeros(2, 7, 2), time, told)
    with pytest.raises(ValueError, match="needs a vector"):
        network(torch.zeros(2, 8, 2), time, None)
    with pytest.raises(ValueError, match=r"must be \(2, 6\), got \(1, 6\)"):
        network(torch.zeros(2, 8, 2), time, Condition(vector=torch.zeros(1, 6)))


def test_its_gradient_is_that_of_differences():
    network = small().double()
    x, vector = torch.randn(1, 4, 2, dtype=torch.float64), torch.randn(1, 6, dtype=torch.float64)
    time = torch.tensor([3.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda x, v: network(x, time, Condition(vector=v)), (x.requires_grad_(), vector.requires_grad_())
    )
