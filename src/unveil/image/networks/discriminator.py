"""The patch discriminator of adversarial autoencoders, and its losses.

Isola et al. 2017, section 3.2 and appendix 6.1.2; Esser et al. 2021, section 3.1 and eq. 7.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

LARGEST_WEIGHT = 1e4
WIDEST = 8  # channels of the widest layer, as a multiple of the first's


class PatchDiscriminator(nn.Module):
    """Images (B, C, H, W) -> scores of overlapping patches (B, 1, h, w), larger for real ones.

    4 x 4 convolutions with LeakyReLU 0.2: `layers` with stride 2, whose channels double up to 8 times
    `width`, one with stride 1, and one to a single channel. A score sees 16, 34 or 70 pixels with 1, 2 or 3
    `layers`. Weights begin as N(0, 0.02^2).

    Args:
        groups: of the GroupNorm of all layers but the first and last, where the originals have BatchNorm,
            whose statistics are bad for small batches; 0: no norm.
    Raises:
        ValueError: `layers` below 1, or groups that do not divide the channels.
    """

    def __init__(self, channels: int, width: int = 64, layers: int = 2, groups: int = 16) -> None:
        super().__init__()
        if layers < 1 or (groups and width % groups):
            raise ValueError(
                f"PatchDiscriminator: {layers} layers of {width} channels and {groups} groups; take at least "
                "1 layer, and groups that divide the channels"
            )
        widths = [width * min(2**k, WIDEST) for k in range(layers + 1)]
        blocks: list[nn.Module] = [nn.Conv2d(channels, widths[0], 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for k in range(1, layers + 1):
            stride = 2 if k < layers else 1
            blocks.append(nn.Conv2d(widths[k - 1], widths[k], 4, stride=stride, padding=1, bias=not groups))
            blocks += [nn.GroupNorm(groups, widths[k])] if groups else []
            blocks.append(nn.LeakyReLU(0.2))
        self.blocks = nn.Sequential(*blocks, nn.Conv2d(widths[-1], 1, 4, padding=1))
        for module in self.blocks:
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)


def patch_layers(size: int) -> int:
    """The `layers` of a `PatchDiscriminator` for images of this side: a score sees about half of it."""
    return 1 if size < 48 else 2 if size < 128 else 3


def hinge_loss(real: Tensor, made: Tensor) -> Tensor:
    """1/2 (mean max(0, 1 - real) + mean max(0, 1 + made)), of the scores of real and made images."""
    return 0.5 * (F.relu(1.0 - real).mean() + F.relu(1.0 + made).mean())


def adversarial_loss(discriminator: nn.Module, made: Tensor) -> Tensor:
    """- mean score of made images; its gradient reaches the images, and not the discriminator's weights."""
    fixed = {name: value.detach() for name, value in discriminator.state_dict().items()}
    return -functional_call(discriminator, fixed, (made,)).mean()


def adaptive_weight(loss: Tensor, adversarial: Tensor, last: Sequence[Tensor]) -> Tensor:
    """|grad loss| / (|grad adversarial| + 1e-4), at most 1e4, with respect to the weights of the last layer.

    With it as a factor, the adversarial loss changes these weights as much as the reconstruction loss does.
    Esser et al. 2021, eq. 7.

    Args:
        last: weights of the decoder's last layer.
    """
    norms = []
    for value in (loss, adversarial):
        parts = torch.autograd.grad(value, last, retain_graph=True)
        norms.append(torch.cat([part.flatten() for part in parts]).norm())
    return (norms[0] / (norms[1] + 1e-4)).clamp(0.0, LARGEST_WEIGHT).detach()
