"""Codes on disk are those of the encoder, drawn anew each time, and belong to one set of weights and images."""

import numpy as np
import pytest
import torch

from unveil.errors import UnveilError
from unveil.image.latents.cached_latents import cached_latents, latent_key
from unveil.image.latents.latent import Latents
from unveil.image.networks.autoencoder import Autoencoder, AutoencoderShape
from unveil.image.networks.taesd import TinyAutoencoder, TinyShape


def kl(seed: int = 0) -> Latents:
    torch.manual_seed(seed)
    return Latents(Autoencoder(AutoencoderShape(3, 4, (1, 2), 1, 2, groups=2)), 1.5).eval()


def pictures(count: int = 5) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 3, 8, 8), dtype=np.uint8)


def test_codes_are_those_of_the_encoder_and_are_encoded_once(tmp_path, monkeypatch):
    latents, pixels, done = kl(), pictures(), []
    first = cached_latents(latents, pixels, tmp_path / "run", batch=2, on_done=lambda *n: done.append(n))
    assert done == [(2, 5), (4, 5), (5, 5)] and len(first) == 5
    with torch.no_grad():
        moments = latents.moments(torch.from_numpy(pixels) / 127.5 - 1.0)
    torch.testing.assert_close(first.mean, moments.mean.half(), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(first.std, moments.std.half(), rtol=1e-3, atol=1e-3)
    monkeypatch.setattr(Latents, "moments", None)  # nothing is encoded a second time
    again = cached_latents(latents, pixels, tmp_path / "run")
    assert torch.equal(again.mean, first.mean) and torch.equal(again.std, first.std)
    assert [file.name for file in (tmp_path / "run").iterdir()] == [
        f"latents-{latent_key(latents, pixels)}.safetensors"
    ]


def test_codes_are_drawn_anew_around_their_means(tmp_path, generator):
    cached = cached_latents(kl(), pictures(2), tmp_path)
    rows = torch.zeros(4000, dtype=torch.int64)
    drawn = cached.codes(rows, generator)
    torch.testing.assert_close(drawn.mean(0), cached.mean[0].float(), rtol=0.0, atol=0.1)
    torch.testing.assert_close(drawn.std(0), cached.std[0].float(), rtol=0.1, atol=0.0)
    assert torch.equal(cached.codes(rows[:1]), cached.mean[:1].float())


def test_mirror_images_follow_the_images_and_are_drawn_half_of_the_time(tmp_path, generator):
    latents, pixels = kl(), pictures(3)
    cached = cached_latents(latents, pixels, tmp_path, mirrored=True, batch=2)
    plain = cached_latents(latents, np.ascontiguousarray(pixels[..., ::-1]), tmp_path)
    assert len(cached) == 3 and len(cached.mean) == 6
    torch.testing.assert_close(cached.mean[3:], plain.mean, rtol=1e-3, atol=1e-3)
    still = cached_latents(Latents(latents.network, 1.5), pixels, tmp_path, mirrored=True)
    object.__setattr__(still, "std", None)
    codes, rows = still.draw(400, generator)
    assert set(rows.tolist()) == {0, 1, 2}
    turned = ~(codes == still.mean[rows].float()).flatten(1).all(1)
    assert torch.equal(codes[turned], still.mean[rows[turned] + 3].float())
    assert 0.4 < float(turned.float().mean()) < 0.6


def test_other_weights_scales_and_images_have_other_keys():
    pixels = pictures()
    changed = pixels.copy()
    changed[-1, -1, -1, -1] ^= 1
    twice = Latents(kl().network, 3.0)
    keys = {
        latent_key(kl(), pixels),
        latent_key(kl(1), pixels),
        latent_key(twice, pixels),
        latent_key(kl(), changed),
        latent_key(kl(), pixels[:4]),
        latent_key(kl(), pixels, mirrored=True),
    }
    assert len(keys) == 6 and latent_key(kl(), pixels.copy()) in keys


def test_damaged_files_are_encoded_again(tmp_path):
    latents, pixels = kl(), pictures()
    first = cached_latents(latents, pixels, tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert torch.equal(cached_latents(latents, pixels, tmp_path).mean, first.mean)
    assert file.read_bytes() == whole


@pytest.mark.filterwarnings("ignore:invalid value")
def test_an_autoencoder_without_randomness_has_no_deviation(tmp_path, generator):
    torch.manual_seed(0)
    tiny = Latents(TinyAutoencoder(TinyShape(4, 8)), 2.0).eval()
    cached = cached_latents(tiny, pictures(), tmp_path)
    assert cached.std is None
    codes, rows = cached.draw(7, generator)
    assert torch.equal(codes, cached.mean[rows].float()) and codes.shape == (7, 4, 1, 1)
    with torch.no_grad():
        tiny.network.encoder[0].bias.fill_(float("nan"))
    with pytest.raises(UnveilError, match=r"the codes of images 0 \.\. 4 are not finite"):
        cached_latents(tiny, pictures(), tmp_path)
    with pytest.raises(ValueError, match="sides must be multiples of 8"):
        cached_latents(tiny, pictures()[..., :6], tmp_path)
