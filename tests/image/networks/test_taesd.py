"""Tiny autoencoders equal diffusers' AutoencoderTiny, and TAEF2's normalised blocks the formula of their
source."""

import pytest
import torch
from torch.nn import functional as F

from unveil.image.networks.taesd import TAEF2, TinyAutoencoder, TinyBlock, TinyShape


def test_it_equals_diffusers_whose_layers_come_in_the_same_order(generator):
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.AutoencoderTiny(
        encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4, latent_channels=4
    ).eval()
    ours = TinyAutoencoder(TinyShape(latent=4, width=8)).eval()
    weights = [0.3 * torch.randn(v.shape, generator=generator) for v in ours.state_dict().values()]
    for network in (ours, theirs):
        names = network.state_dict()
        network.load_state_dict(dict(zip(names, weights, strict=True)))
    x = torch.rand((2, 3, 16, 24), generator=generator)
    with torch.no_grad():
        z = ours.encode(x)  # diffusers takes images in -1 .. 1 and gives them back so
        torch.testing.assert_close(z, theirs.encode(2.0 * x - 1.0).latents, rtol=1e-5, atol=1e-5)
        made = 2.0 * ours.decode(z) - 1.0
        torch.testing.assert_close(made, theirs.decode(z).sample, rtol=1e-5, atol=1e-4)


def test_taef2_has_the_tensors_and_parameters_of_its_files():
    with torch.device("meta"):
        network = TinyAutoencoder(TAEF2)
    for part, count in ((network.encoder, 1_338_528), (network.decoder, 1_338_499)):
        assert len(part.state_dict()) == 79 and sum(p.numel() for p in part.parameters()) == count
    pooled = {name.split(".")[0] for name in network.encoder.state_dict() if ".pool." in name}
    assert pooled == {"11", "12", "13"}
    assert {n.split(".")[0] for n in network.decoder.state_dict() if ".pool." in n} == {"3", "4", "5"}


def test_a_pooled_block_adds_its_normalisation_before_the_convolutions_and_to_the_skip(generator):
    block = TinyBlock(4, pooled=True)
    for parameter in block.parameters():
        parameter.data = 0.5 * torch.randn(parameter.shape, generator=generator)
    w = block.state_dict()
    x = torch.randn((2, 4, 5, 3), generator=generator)
    wide = torch.einsum("oi,bihw->bohw", w["pool.0.weight"][:, :, 0, 0], x)
    grouped = wide.reshape(2, 4, -1)
    normed = (grouped - grouped.mean(2, keepdim=True)) / (grouped.var(2, False, keepdim=True) + 1e-5).sqrt()
    scaled = normed.reshape(wide.shape) * w["pool.1.weight"][:, None, None] + w["pool.1.bias"][:, None, None]
    y = x + torch.einsum("oi,bihw->bohw", w["pool.3.weight"][:, :, 0, 0], scaled.clamp(min=0.0))
    h = y
    for k in (0, 2, 4):
        h = F.conv2d(h if k == 0 else h.relu(), w[f"conv.{k}.weight"], w[f"conv.{k}.bias"], padding=1)
    torch.testing.assert_close(block(x), (h + y).relu(), rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("unchecked")
def test_sizes_that_do_not_fit_are_refused_in_one_line():
    network = TinyAutoencoder(TinyShape(width=8))
    with pytest.raises(ValueError, match=r"sides that 8 divides, got \(1, 3, 16, 20\)"):
        network.encode(torch.zeros(1, 3, 16, 20))
    with pytest.raises(ValueError, match=r"z must be \(B, 4, h, w\), got \(1, 8, 2, 2\)"):
        network.decode(torch.zeros(1, 8, 2, 2))
