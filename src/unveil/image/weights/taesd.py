"""Read TAEF2, the tiny autoencoder of FLUX.2's latent space, from two .npz files with its original names."""

from pathlib import Path

import torch

from unveil.errors import UnveilError
from unveil.files.npz import npz_arrays
from unveil.files.places import found
from unveil.files.reading import reading
from unveil.image.latents.latent import Latents
from unveil.image.networks.taesd import TAEF2, TinyAutoencoder

ENCODER, DECODER = (Path("models") / f"taef2_{part}.npz" for part in ("encoder", "decoder"))
SCALE = 1.21
"""1 / standard deviation of the codes of emoji64: 0.826, of 248 random ones"""


def read_taef2(device: torch.device | str = "cpu") -> Latents:
    """TAEF2 from `models/taef2_encoder.npz` and `models/taef2_decoder.npz`, here, below $UNVEIL_DATA or in
    the cache.

    Raises:
        UnveilError: a file is missing or damaged, or holds other tensors.
    """
    network = TinyAutoencoder(TAEF2)
    for part, name in ((network.encoder, ENCODER), (network.decoder, DECODER)):
        file = found(name)
        if not file.is_file():
            raise UnveilError(
                f"TAEF2 needs {name}, which is neither here, nor below $UNVEIL_DATA, nor in the cache; set "
                "UNVEIL_DATA, or train an autoencoder with unveil train autoencoder"
            )
        arrays = npz_arrays(file, wanted=None)
        with reading(file, "not the tensors of TAEF2"):
            part.load_state_dict({key: torch.from_numpy(array).float() for key, array in arrays.items()})
    return Latents(network, SCALE).to(device).eval()
