"""The autoencoder is Stable Diffusion's: as many tensors and parameters, and equal to diffusers' by names."""

import re

import pytest
import torch
from torch import Tensor

from unveil.image.networks.autoencoder import KL_F8, Autoencoder, AutoencoderShape

TINY = AutoencoderShape(3, 8, (1, 2, 2), 2, 4, groups=4)
RULES = (  # our names -> diffusers' names, in this order
    (r"^moments\.", "quant_conv."),
    (r"^enter\.", "post_quant_conv."),
    (r"^(encoder|decoder)\.enter\.", r"\1.conv_in."),
    (r"^(encoder|decoder)\.norm\.", r"\1.conv_norm_out."),
    (r"^(encoder|decoder)\.leave\.", r"\1.conv_out."),
    (r"\.middle\.0\.", ".mid_block.resnets.0."),
    (r"\.middle\.1\.norm\.", ".mid_block.attentions.0.group_norm."),
    (r"\.middle\.1\.query\.", ".mid_block.attentions.0.to_q."),
    (r"\.middle\.1\.key\.", ".mid_block.attentions.0.to_k."),
    (r"\.middle\.1\.value\.", ".mid_block.attentions.0.to_v."),
    (r"\.middle\.1\.merge\.", ".mid_block.attentions.0.to_out.0."),
    (r"\.middle\.2\.", ".mid_block.resnets.1."),
    (r"^encoder\.levels\.(\d+)\.\d+\.conv\.", r"encoder.down_blocks.\1.downsamplers.0.conv."),
    (r"^decoder\.levels\.(\d+)\.\d+\.conv\.", r"decoder.up_blocks.\1.upsamplers.0.conv."),
    (r"^encoder\.levels\.(\d+)\.(\d+)\.", r"encoder.down_blocks.\1.resnets.\2."),
    (r"^decoder\.levels\.(\d+)\.(\d+)\.", r"decoder.up_blocks.\1.resnets.\2."),
    (r"\.first_norm\.", ".norm1."),
    (r"\.first\.", ".conv1."),
    (r"\.second_norm\.", ".norm2."),
    (r"\.second\.", ".conv2."),
    (r"\.skip\.", ".conv_shortcut."),
)


def diffusers_name(name: str) -> str:
    for pattern, replacement in RULES:
        name = re.sub(pattern, replacement, name)
    return name


def drawn(network: torch.nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
    """Random weights for every tensor, also for those that begin at 0 or 1."""
    return {
        name: value + 0.3 * torch.randn(value.shape, generator=generator)
        for name, value in network.state_dict().items()
    }


def test_at_full_size_it_has_the_tensors_and_parameters_of_stable_diffusion():
    with torch.device("meta"):
        network = Autoencoder(KL_F8)
    state = network.state_dict()
    assert len(state) == 248 and sum(value.numel() for value in state.values()) == 83_653_863
    parts = [name.split(".")[0] for name in state]
    assert (parts.count("encoder"), parts.count("decoder")) == (106, 138)
    skips = [name for name in state if name.endswith("skip.weight")]
    assert len(skips) == 4 and KL_F8.factor == 8


@pytest.mark.parametrize("sides", [(16, 16), (8, 20)])
def test_it_equals_diffusers_by_names(sides, generator):
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 16, 16),
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=4,
    ).eval()
    ours = Autoencoder(TINY).eval()
    weights = drawn(ours, generator)
    ours.load_state_dict(weights)
    theirs.load_state_dict({diffusers_name(name): value for name, value in weights.items()})
    x = torch.randn((2, 3, *sides), generator=generator)
    with torch.no_grad():
        mean, log_variance = ours.encode(x)
        code = theirs.encode(x).latent_dist
        torch.testing.assert_close(mean, code.mean, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(log_variance, code.logvar, rtol=1e-5, atol=1e-5)
        noise = torch.randn(mean.shape, generator=generator)
        made = ours(x, noise)
        torch.testing.assert_close(made.z, code.mean + code.std * noise, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(made.x, theirs.decode(made.z).sample, rtol=1e-5, atol=1e-5)


def test_rows_and_columns_on_the_left_and_above_are_not_padded(generator):
    """A convolution that halves the sides and picks its centre reads pixel 2 i + 1: the first pixel is never
    the centre, and the last one is."""
    network = Autoencoder(TINY).encoder.levels[0][-1]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.conv.weight[range(8), range(8), 1, 1] = 1.0
    x = torch.randn((1, 8, 6, 6), generator=generator)
    torch.testing.assert_close(network(x), x[:, :, 1::2, 1::2])


def test_the_log_variance_is_clamped(generator):
    network = Autoencoder(TINY)
    with torch.no_grad():
        network.moments.bias[4:] = torch.tensor([100.0, -100.0, 0.0, 0.0])
    _, log_variance = network.encode(torch.randn((1, 3, 8, 8), generator=generator))
    assert bool((log_variance[:, 0] == 20.0).all()) and bool((log_variance[:, 1] == -30.0).all())


def test_a_stem_folds_pixels_and_keeps_their_places(generator):
    """The last convolution's channels are unfolded to where the first one's were folded from."""
    shape = AutoencoderShape(2, 4, (1, 1), 1, 3, groups=2, stem=2)
    network = Autoencoder(shape)
    x = torch.randn((1, 2, 8, 12), generator=generator)
    assert shape.factor == 4 and network.encode(x)[0].shape == (1, 3, 2, 3)
    assert network.decode(torch.randn((1, 3, 2, 3), generator=generator)).shape == x.shape
    with torch.no_grad():
        network.decoder.leave.weight.zero_()
        network.decoder.leave.bias.copy_(torch.arange(8.0))
    made = network.decode(torch.zeros(1, 3, 1, 1))[0]
    torch.testing.assert_close(made[0, :2, :2], torch.arange(4.0).reshape(2, 2))


@pytest.mark.usefixtures("unchecked")
def test_sizes_that_do_not_fit_are_refused_in_one_line():
    network = Autoencoder(TINY)
    with pytest.raises(ValueError, match=r"sides that 4 divides, got \(1, 3, 8, 10\)"):
        network.encode(torch.zeros(1, 3, 8, 10))
    with pytest.raises(ValueError, match=r"z must be \(B, 4, h, w\), got \(1, 3, 2, 2\)"):
        network.decode(torch.zeros(1, 3, 2, 2))
    with pytest.raises(ValueError, match="`groups` 32 must divide every number of channels, got 8"):
        AutoencoderShape(width=8)
    with pytest.raises(ValueError, match="`multiples` must have at least one number"):
        AutoencoderShape(multiples=())
