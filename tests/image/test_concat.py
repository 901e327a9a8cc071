"""What models see beside the noisy image: masks, low-resolution images with noise, semantic maps."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from unveil.image.concat import Beside, check_map, enlarged, low_channels, masked, noised, one_hot
from unveil.image.data.images import Drawn, ImageSet, RandomImages
from unveil.image.generation import Given, generate
from unveil.image.latents.cached_latents import cached_latents
from unveil.image.latents.latent import Latents
from unveil.image.latents.random_latents import RandomLatents
from unveil.image.model import ImageModel
from unveil.image.networks.autoencoder import Autoencoder, AutoencoderShape
from unveil.image.settings import ImageSettings
from unveil.image.shape import ImageShape
from unveil.image.training import image_batches, image_loss, seen_beside

SHAPE = ImageShape(
    8, 3, width=8, multiples=(1,), groups=4, attention=(), stem=1, diffusion_steps=25, predicts="x0"
)


@pytest.fixture
def latents() -> Latents:
    torch.manual_seed(0)
    return Latents(Autoencoder(AutoencoderShape(3, 4, (1, 2), 1, 4, groups=2)), 1.5).eval()


def test_the_mask_is_1_where_the_image_is_generated_and_the_hole_is_grey(generator):
    """Stable Diffusion's convention; GLIDE's mask is the opposite."""
    x = torch.rand((2, 3, 4, 4), generator=generator) + 0.1
    hole = torch.zeros((2, 1, 4, 4), dtype=torch.bool)
    hole[0, :, :2] = True
    channels = masked(x, hole)
    assert channels.shape == (2, 4, 4, 4)
    assert torch.equal(channels[:, :1], hole.float())
    assert not channels[0, 1:, :2].any()
    assert torch.equal(channels[0, 1:, 2:], x[0, :, 2:]) and torch.equal(channels[1, 1:], x[1])


def test_latent_models_see_the_code_of_the_masked_image_and_the_nearest_mask(latents, generator):
    x = 2.0 * torch.rand((1, 3, 8, 8), generator=generator) - 1.0
    hole = torch.zeros((1, 1, 8, 8), dtype=torch.bool)
    hole[..., 2, 4] = hole[..., 5, 1] = True  # one at the first pixel of its square, one at the last
    channels = masked(x, hole, latents)
    wanted = torch.zeros(1, 1, 4, 4)
    wanted[..., 1, 2] = 1.0
    assert torch.equal(channels[:, :1], wanted)
    grey = x.clone()
    grey[..., 2, 4] = grey[..., 5, 1] = 0.0
    with torch.no_grad():
        torch.testing.assert_close(channels[:, 1:], latents.encode(grey))


def test_low_resolution_images_reach_the_grid_without_loss(generator):
    low = torch.rand((2, 3, 8, 8), generator=generator)
    folded = enlarged(low, 4)
    assert folded.shape[1] == low_channels(3, upsample=2, factor=4) == 12
    assert torch.equal(torch.nn.functional.pixel_shuffle(folded, 2), low)
    assert torch.equal(enlarged(low, 8), low) and low_channels(3, 4, 4) == 3
    ramp = torch.arange(4.0).expand(1, 1, 4, 4)
    fine = enlarged(ramp, 8)[0, 0, 0]
    torch.testing.assert_close(fine, ((torch.arange(8.0) + 0.5) / 2.0 - 0.5).clamp(0.0, 3.0))
    assert low_channels(3, 8, 4) == low_channels(1, 4, 1) * 3 == 3
    with pytest.raises(ValueError, match="must divide 4 or be a multiple"):
        low_channels(3, 3, 4)


def test_noise_of_a_level_is_that_of_ddpms_table():
    """Entry n, counted from 1, of alpha_bar = prod(1 - beta), beta from 1e-4 to 0.02; level 0 is no noise."""
    low, noise = torch.full((3, 1, 1, 1), 0.5), torch.full((3, 1, 1, 1), 2.0)
    found = noised(low, torch.tensor([0, 1, 350]), noise).flatten()
    kept = (1.0 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)[[0, 349]]
    wanted = 0.5 * kept.sqrt() + 2.0 * (1.0 - kept).sqrt()
    torch.testing.assert_close(found, torch.cat([torch.tensor([0.5]), wanted.float()]))


def test_maps_become_a_channel_for_each_label():
    labels = torch.tensor([[[0, 2, 1, 1], [2, 2, 255, 1], [0, 0, 0, 0], [0, 0, 0, 0]]]).byte()
    channels = one_hot(labels, 3)
    assert torch.equal(channels.sum(1), (labels != 255).float())
    assert torch.equal(channels[0, 2], (labels[0] == 2).float())
    shares = one_hot(labels, 3, 2)
    assert shares[0, :, 0, 0].tolist() == [0.25, 0.0, 0.75] and shares[0, :, 0, 1].tolist() == [0, 0.75, 0]
    check_map(labels, 3)
    with pytest.raises(ValueError, match=r"label 2, but the model knows 0 \.\. 1, and 255"):
        check_map(labels, 2)


@pytest.mark.parametrize("latent", [False, True])
def test_maps_and_pictures_are_mirrored_with_their_images(latent, latents, tmp_path, generator):
    labels = torch.randint(255, (6, 4, 4), generator=generator).byte().numpy()
    images = ImageSet(labels[:, None].repeat(3, 1), maps=labels)
    source = RandomImages(images, flip=True)
    if latent:
        codes = replace(cached_latents(latents, images.pixels, tmp_path, True), std=None)  # the means
        source = RandomLatents(codes, source)
    drawn = source.drawn(32, generator)
    pictures = drawn.of(source.pixels)
    assert source.maps is not None and torch.equal(drawn.of(source.maps), pictures[:, 0])
    assert drawn.mirrored is not None and 4 < int(drawn.mirrored.sum()) < 28
    with torch.no_grad():
        x = latents.encode(pictures / 127.5 - 1.0) if latent else pictures
    torch.testing.assert_close(drawn.x, x, rtol=1e-2, atol=1e-2)  # the cache is in half precision


def network_sees(model: ImageModel, run) -> list:
    """The conditions of the network while `run` is called."""
    seen = []
    hook = model.denoiser.network.register_forward_pre_hook(lambda _, given: seen.append(given[2]))
    run()
    hook.remove()
    return seen


KINDS = {
    "inpaint": {"concat": 4},
    "lowres": {"concat": 3, "upsample": 2, "noise_levels": 350},
    "map": {"concat": 5},
}


@pytest.mark.parametrize("trunk", ["unet", "dit"])
@pytest.mark.parametrize("kind", KINDS)
def test_training_and_sampling_show_the_network_the_same(kind, trunk, generator):
    torch.manual_seed(0)
    model = ImageModel(replace(SHAPE, beside=kind, trunk=trunk, **KINDS[kind]))
    pixels = torch.randint(256, (4, 3, 8, 8), generator=generator).byte()
    images = RandomImages(ImageSet(pixels.numpy(), maps=pixels[:, 0].numpy() % 5))
    batch = image_batches(images, model.shape, 4)(generator)
    assert batch.beside is not None
    (told,) = network_sees(model, lambda: image_loss(model, batch)[0].backward())
    if kind == "lowres":
        assert torch.equal(told.concat_level, batch.beside.level.float()) and batch.beside.level.any()
        low = noised(
            torch.nn.functional.avg_pool2d(model.normalized(batch.pixels), 2),
            batch.beside.level,
            batch.beside.noise,
        )
        given = Given(low=low, level=batch.beside.level)
    elif kind == "map":
        given = Given(beside=model.mapped(batch.beside.labels))
    else:
        given = Given(beside=masked(model.normalized(batch.pixels), batch.beside.hole))
    calls = network_sees(model, lambda: generate(model, None, 4, ImageSettings(steps=2), 0, given=given))
    assert len(calls) == 2
    for call in calls:
        assert torch.equal(call.concat, told.concat)
        assert kind != "lowres" or torch.equal(call.concat_level, told.concat_level)


def test_latent_models_see_low_resolution_pixels_of_the_picture(latents, generator):
    """Of 16 pixels at 1/4, 4, on the grid of the codes, 8: the picture itself is reduced, not its code."""
    shape = replace(SHAPE, channels=4, beside="lowres", concat=3, upsample=4, noise_levels=10)
    model = ImageModel(shape, latent=latents)
    pictures = torch.randint(256, (2, 3, 16, 16), generator=generator).byte()
    beside = Beside(pictures, level=torch.tensor([0, 0]), noise=torch.zeros(2, 3, 4, 4))
    cond = model.seeing(None, beside)
    assert cond is not None and model.low == (3, 4, 4)
    means = model.normalized(pictures).unflatten(-1, (4, 4)).unflatten(-3, (4, 4)).mean((-1, -3))
    torch.testing.assert_close(cond.concat, enlarged(means, 8))


def test_levels_are_uniform_up_to_the_largest():
    shape = replace(SHAPE, beside="lowres", concat=3, upsample=2, noise_levels=3)
    images = RandomImages(ImageSet(np.zeros((1, 3, 8, 8), np.uint8)))
    rows = torch.zeros(4000, dtype=torch.int64)
    drawn = Drawn(images.pixels[rows], rows)
    seen = seen_beside(images, drawn, shape, torch.Generator().manual_seed(0))
    assert seen.level is not None
    counts = seen.level.bincount()
    assert len(counts) == 4 and int(counts.min()) > 900


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: replace(SHAPE, beside="inpaint"), "needs its channels"),
        (lambda: replace(SHAPE, beside="lowres", concat=3), "`upsample` above 1"),
        (lambda: replace(SHAPE, trunk="dit", width=10, heads=2), "a multiple of 4"),
        (lambda: replace(SHAPE, trunk="dit", stem=3), "`patch` 3 does not divide a side of 8"),
        (lambda: replace(SHAPE, trunk="dit", dropout=0.1), "has none"),
        (
            lambda: generate(ImageModel(replace(SHAPE, beside="map", concat=5)), None, 1, ImageSettings()),
            "sees a map of 5 channels beside the image",
        ),
        (
            lambda: ImageModel(replace(SHAPE, upsample=2)).beside(
                None, torch.zeros(1, 3, 4, 4), torch.ones(1, dtype=torch.int64)
            ),
            "`noise_level` 1: this model knows none",
        ),
        (
            lambda: generate(
                ImageModel(SHAPE), None, 1, ImageSettings(), given=Given(level=torch.ones(1).long())
            ),
            "this model reads no noise level",
        ),
    ],
)
def test_what_does_not_fit_is_said(make, message):
    with pytest.raises(ValueError, match=message):
        make()
