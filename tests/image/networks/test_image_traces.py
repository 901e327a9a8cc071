"""A traced image network follows t: nothing that is computed from the time is remembered as a constant."""

import warnings

import pytest
import torch
from torch import nn

from unveil.image.model import ImageModel
from unveil.image.networks.classifier2d import Classifier2d, Classifier2dShape
from unveil.image.networks.linear_unet2d import LinearUNet2d
from unveil.image.networks.unet2d import UNet2d, UNet2dShape
from unveil.image.shape import ImageShape
from unveil.network.layers import by_eights


def moved(network: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data.normal_(0.0, 0.2, generator=generator)
    return network.eval()


def model(schedule: str, predicts: str) -> nn.Module:
    shape = ImageShape(
        8, 1, width=8, multiples=(1, 2), groups=4, attention=(), schedule=schedule, predicts=predicts
    )  # pyright: ignore
    return moved(ImageModel(shape))


class Belief(nn.Module):
    def __init__(self, of: nn.Module) -> None:
        super().__init__()
        self.of = of

    def forward(self, x, t):
        return self.of.denoiser(x, t, None).mean


NETWORKS = {
    "unet": (lambda: moved(UNet2d(UNet2dShape(1, 8, (1, 2), 1, (1,), groups=4))), (3.0, 500.0)),
    "linear": (lambda: moved(LinearUNet2d(1, 8, (8, 8, 16), (2, 2), (4, 4), (False, True))), (3.0, 500.0)),
    "classifier": (
        lambda: moved(Classifier2d(Classifier2dShape(8, 1, 3, 8, (1, 2), 1, (1,), 4, groups=4))),
        (3.0, 500.0),
    ),
    "table": (lambda: Belief(model("linear", "eps")), (0.3, 0.7)),
    "flow": (lambda: Belief(model("flow", "flow")), (0.3, 0.7)),
    "edm": (lambda: Belief(model("karras", "edm")), (0.3, 0.7)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_trace_at_one_time_is_right_at_another(name):
    make, (first, second) = NETWORKS[name]
    network, x = make(), torch.randn((2, 1, 8, 8), generator=torch.Generator().manual_seed(1))
    kind = torch.float32 if second > 1.0 else torch.float64
    one, other = (torch.full((2,), t, dtype=kind) for t in (first, second))
    with warnings.catch_warnings(action="ignore"), torch.no_grad():
        traced = torch.jit.trace(network, (x, one), check_trace=False)
        wanted = network(x, other)
        torch.testing.assert_close(traced(x, other), wanted, rtol=1e-4, atol=1e-5)
        assert float((network(x, one) - wanted).abs().max()) > 1e-3


def test_rows_of_zeros_beside_change_nothing():
    linear = nn.Linear(5, 3).eval()
    for count in (1, 2, 7, 8, 9):
        x = torch.randn((count, 5), generator=torch.Generator().manual_seed(count))
        torch.testing.assert_close(by_eights(linear, x), linear(x))
