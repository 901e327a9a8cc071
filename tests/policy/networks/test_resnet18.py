"""The image encoder has the published parameters, its spatial softmax finds places, and crops are what they
say."""

import pytest
import torch

from unveil.policy.networks.resnet18 import ImageEncoder, SpatialSoftmax, centre_crop, random_crop


def test_it_has_as_many_parameters_as_the_published_encoders():
    """torchvision's ResNet-18 without its last layer has 11,176,512 with either norm; then 512 x 32 + 32 for
    mixing, 64 x 64 + 64."""
    assert sum(p.numel() for p in ImageEncoder((84, 84)).parameters()) == 11_176_512 + 16_416 + 4_160


def test_the_spatial_softmax_is_its_formula_and_finds_a_bright_pixel():
    torch.manual_seed(0)
    layer, x = SpatialSoftmax(3, 2), torch.randn(1, 3, 4, 5)
    mixed = torch.einsum("kc,chw->khw", layer.mix.weight[:, :, 0, 0], x[0]) + layer.mix.bias[:, None, None]
    expected = torch.zeros(2, 2)
    for k in range(2):
        share = mixed[k].exp() / mixed[k].exp().sum()
        for row in range(4):
            for column in range(5):
                expected[k] += share[row, column] * torch.tensor([-1 + 2 * column / 4, -1 + 2 * row / 3])
    torch.testing.assert_close(layer(x)[0], expected)
    bright = torch.zeros(1, 3, 4, 5)
    bright[0, :, 1, 4] = 1000.0
    torch.nn.init.ones_(layer.mix.weight)
    torch.testing.assert_close(layer(bright)[0], torch.tensor([[1.0, -1 / 3]] * 2))


def test_the_encoder_sees_the_whole_image_and_each_row_alone():
    torch.manual_seed(0)
    encoder, x = ImageEncoder((40, 32), channels=2, keypoints=8, width=16).eval(), torch.randn(3, 2, 40, 32)
    y = encoder(x)
    assert y.shape == (3, 16)
    torch.testing.assert_close(encoder(x[1:2])[0], y[1], rtol=1e-4, atol=1e-5)
    for row, column in ((0, 0), (39, 31), (20, 16)):
        moved = x.clone()
        moved[0, :, row, column] += 5.0
        assert (encoder(moved) - y)[0].abs().max() > 1e-6
    assert encoder.train()(x).allclose(y)  # nothing in it is of the batch
    with pytest.raises(ValueError, match=r"must be \(2, 40, 32\), got \(2, 32, 40\)"):
        encoder(x.transpose(2, 3))
    with pytest.raises(ValueError, match="multiple of 16"):
        ImageEncoder((48, 48), width=24)
    with pytest.raises(
        ValueError, match="longer than 32 pixels"
    ):  # where every feature would be at one place whatever it is
        ImageEncoder((32, 32))


def numbered(rows: int, height: int, width: int) -> torch.Tensor:
    """(rows, 2, 1, height, width), every pixel its own place."""
    return torch.arange(height * width).reshape(1, 1, 1, height, width).expand(rows, 2, 1, -1, -1)


def test_random_crops_are_windows_each_equally_likely_and_a_rows_images_are_cut_alike():
    images = numbered(6000, 4, 5)
    crops = random_crop(images, (2, 4), torch.Generator().manual_seed(0))
    assert crops.shape == (6000, 2, 1, 2, 4)
    corner = crops[:, 0, 0, 0, 0]
    assert torch.equal(crops[:, 1], crops[:, 0])
    window = (torch.arange(2)[:, None] * 5 + torch.arange(4)).expand(6000, 1, 2, 4)
    assert torch.equal(crops[:, 0], corner[:, None, None, None] + window)
    found = torch.bincount(corner, minlength=20).reshape(4, 5)
    assert (found[:3, :2] - 1000).abs().max() < 120  # six corners; four standard deviations
    assert found.sum() == found[:3, :2].sum()
    again = random_crop(images, (2, 4), torch.Generator().manual_seed(0))
    assert torch.equal(crops, again)


def test_the_centre_crop_is_in_the_middle():
    assert centre_crop(numbered(1, 5, 6), (3, 2))[0, 0, 0].tolist() == [[8, 9], [14, 15], [20, 21]]
    assert torch.equal(centre_crop(numbered(1, 5, 6), (5, 6)), numbered(1, 5, 6))
    for crop in (lambda x, s: centre_crop(x, s), lambda x, s: random_crop(x, s, torch.Generator())):
        with pytest.raises(ValueError, match=r"\(6, 6\) is larger than images of \(5, 6\)"):
            crop(numbered(1, 5, 6), (6, 6))
