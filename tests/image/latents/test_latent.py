"""A latent space scales codes by one number, draws them with a generator, and decodes what it encoded."""

import pytest
import torch

from unveil.image.latents.latent import STABLE_DIFFUSION, LatentMoments, Latents
from unveil.image.networks.autoencoder import Autoencoder, AutoencoderShape
from unveil.image.networks.taesd import TinyAutoencoder, TinyShape


def kl(scale: float) -> Latents:
    torch.manual_seed(0)
    return Latents(Autoencoder(AutoencoderShape(1, 8, (1, 2), 1, 4, groups=4)), scale).eval()


def test_codes_are_the_networks_times_the_scale_and_decoding_divides_by_it(generator):
    latents = kl(STABLE_DIFFUSION)
    x = torch.rand((2, 1, 8, 12), generator=generator) * 2.0 - 1.0
    with torch.no_grad():
        mean, log_variance = latents.network.encode(x)
        moments = latents.moments(x)
        torch.testing.assert_close(moments.mean, 0.18215 * mean)
        torch.testing.assert_close(moments.std, 0.18215 * log_variance.exp().sqrt())
        torch.testing.assert_close(latents.encode(x), moments.mean)
        made = latents.decode(latents.encode(x))
        torch.testing.assert_close(made, latents.network.decode(mean).clamp(-1.0, 1.0))
    assert latents.state_dict()["scale"] == torch.tensor(0.18215)
    assert latents.shape_of(1, 8, 12) == (4, 4, 6) == moments.mean.shape[1:]


def test_samples_have_the_mean_and_the_deviation_and_repeat_with_their_generator():
    moments = LatentMoments(torch.full((1, 1, 300, 300), 3.0), torch.full((1, 1, 300, 300), 0.5))
    drawn = [moments.sample(torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    assert abs(float(drawn[0].mean()) - 3.0) < 0.01 and abs(float(drawn[0].std()) - 0.5) < 0.01
    assert torch.equal(moments.sample(None), moments.mean)
    certain = LatentMoments(moments.mean, None)
    assert torch.equal(certain.sample(torch.Generator().manual_seed(1)), moments.mean)


def test_tiny_autoencoders_see_pixels_from_0_to_1_and_give_minus_1_to_1(generator):
    torch.manual_seed(0)
    latents = Latents(TinyAutoencoder(TinyShape(4, 8)), 2.0).eval()
    x = torch.rand((1, 3, 16, 16), generator=generator) * 2.0 - 1.0
    with torch.no_grad():
        code = latents.network.encode((x + 1.0) / 2.0)
        z = latents.encode(x, generator)
        torch.testing.assert_close(z, 2.0 * code)
        made = (2.0 * latents.network.decode(code) - 1.0).clamp(-1.0, 1.0)
        torch.testing.assert_close(latents.decode(z), made)
    assert (latents.factor, latents.channels, latents.colours) == (8, 4, 3)


@pytest.mark.usefixtures("unchecked")
def test_images_that_do_not_fit_are_refused_in_one_line():
    latents = kl(1.0)
    with pytest.raises(ValueError, match="images of 9 x 8 pixels: sides must be multiples of 2"):
        latents.shape_of(1, 8, 9)
    with pytest.raises(ValueError, match="the images have 3 channels, but the autoencoder is made for 1"):
        latents.shape_of(3, 8, 8)
