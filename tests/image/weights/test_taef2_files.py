"""TAEF2 is read from files with the original names, and files that are not its are refused in one line."""

import numpy as np
import pytest
import torch

from unveil.errors import UnveilError
from unveil.image.networks.taesd import TAEF2, TinyAutoencoder
from unveil.image.weights.taesd import SCALE, read_taef2


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data folder with random weights of TAEF2's shape in half precision."""
    torch.manual_seed(0)
    network = TinyAutoencoder(TAEF2)
    (tmp_path / "models").mkdir()
    for part in ("encoder", "decoder"):
        arrays = {name: value.half().numpy() for name, value in getattr(network, part).state_dict().items()}
        np.savez(tmp_path / "models" / f"taef2_{part}.npz", **arrays)
    monkeypatch.setenv("UNVEIL_DATA", str(tmp_path))
    return tmp_path / "models"


def test_the_two_files_make_one_latent_space(folder, generator):
    latents = read_taef2()
    x = torch.rand((1, 3, 64, 64), generator=generator) * 2.0 - 1.0
    with torch.no_grad():
        z = latents.encode(x)
        made = latents.decode(z)
    assert z.shape == (1, 32, 8, 8) and made.shape == x.shape and not latents.training
    assert latents.scale == torch.tensor(SCALE) and latents.network.encoder[0].weight.dtype == torch.float32
    with np.load(folder / "taef2_decoder.npz") as stored:
        assert np.array_equal(stored["19.bias"], latents.network.decoder[19].bias.detach().half().numpy())


def test_missing_and_foreign_files_are_refused_in_one_line(folder):
    np.savez(folder / "taef2_decoder.npz", weight=np.zeros(3, np.float16))
    with pytest.raises(UnveilError, match=r"taef2_decoder\.npz: not the tensors of TAEF2"):
        read_taef2()
    (folder / "taef2_encoder.npz").unlink()
    with pytest.raises(UnveilError, match=r"TAEF2 needs models/taef2_encoder\.npz, which is neither here"):
        read_taef2()
