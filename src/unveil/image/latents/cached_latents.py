"""Codes of a set of images, encoded once and kept on disk, so that latent diffusion trains without the
encoder."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from safetensors.torch import save_file
from torch import Tensor

from unveil.errors import UnveilError
from unveil.files.atomic import replacing
from unveil.files.safetensors import read_tensors
from unveil.image.data.images import block
from unveil.image.latents.latent import LatentMoments, Latents

Pixels4 = UInt8[np.ndarray, "N C H W"]
Done = Callable[[int, int], None]
"""(images encoded so far, their number), called now and then."""


@dataclass(frozen=True, eq=False)
class CachedLatents:
    """Mean and standard deviation of the codes of N images, in half precision on the CPU.

    Codes are drawn anew each time, as from the encoder itself (`LatentMoments`).

    Args:
        mean: (N, Z, h, w), in units of the latent space; with `mirrored` (2 N, Z, h, w), of all images and
            then of their mirror images, since the code of a mirror image is not the mirrored code.
        std: like `mean`; None for an autoencoder without randomness.
        mirrored: whether the second half is there.
    """

    mean: Tensor
    std: Tensor | None
    mirrored: bool = False

    def __len__(self) -> int:
        return len(self.mean) // (1 + self.mirrored)

    def codes(self, rows: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Codes (B, Z, h, w) of the images of some rows (B,), drawn with the generator; without one, their
        means. Row N + i is the mirror image of row i."""
        std = None if self.std is None else self.std[rows].float()
        return LatentMoments(self.mean[rows].float(), std).sample(generator)

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Codes of random images, half of them mirrored if mirror images are there, and the rows (count,) of
        the images, 0 .. N - 1, for their labels or captions."""
        images = torch.randint(len(self), (count,), generator=generator, device="cpu")
        rows = images
        if self.mirrored:
            rows = images + len(self) * torch.randint(2, (count,), generator=generator, device="cpu")
        return self.codes(rows, generator), images


def cached_latents(
    latents: Latents,
    pixels: Pixels4,
    folder: Path,
    mirrored: bool = False,
    batch: int = 32,
    on_done: Done | None = None,
) -> CachedLatents:
    """Encode images, or read the codes that an earlier call wrote for the same weights and images.

    The file is `latents-<key>.safetensors` in the folder; the key is a digest of the weights, the images and
    `mirrored`. It is written completely or not at all, and encoded again if it is damaged.

    Args:
        pixels: 0 .. 255.
        mirrored: encode the mirror images (left to right) too.
        batch: images per call of the encoder.
        on_done: reports progress while images are encoded.
    Raises:
        ValueError: images of another shape than the autoencoder's.
        UnveilError: codes that are not finite, or the file cannot be written.
    """
    shape = latents.shape_of(*pixels.shape[1:])
    count = len(pixels) * (1 + mirrored)
    file = folder / f"latents-{latent_key(latents, pixels, mirrored)}.safetensors"
    names = ("mean", "std") if latents.random else ("mean",)
    expected = {name: torch.empty((count, *shape), dtype=torch.float16, device="meta") for name in names}
    if file.is_file():
        try:
            found = read_tensors(file, expected)
            return CachedLatents(found["mean"], found.get("std"), mirrored)
        except UnveilError:  # damaged: it is replaced
            pass
    found = {name: torch.empty((count, *shape), dtype=torch.float16, device="cpu") for name in names}
    with torch.no_grad():
        for i in range(0, count, batch):
            rows = np.arange(i, min(i + batch, count))
            x = torch.from_numpy(pixels[rows % len(pixels)]).to(latents.device, torch.float32) / 127.5 - 1.0
            flips = torch.from_numpy(rows >= len(pixels)).to(x.device)[:, None, None, None]
            moments = latents.moments(torch.where(flips, x.flip(-1), x))
            for name in names:
                part = getattr(moments, name).half().cpu()
                if not bool(torch.isfinite(part).all()):
                    raise UnveilError(
                        f"the codes of images {i} .. {rows[-1]} are not finite in half precision; the "
                        "autoencoder does not fit these images, or its weights are damaged"
                    )
                found[name][rows] = part
            if on_done is not None:
                on_done(min(i + batch, count), count)
    with replacing(file) as partial:
        save_file(found, partial)
    return CachedLatents(found["mean"], found.get("std"), mirrored)


def latent_key(latents: Latents, pixels: Pixels4, mirrored: bool = False) -> str:
    """A digest, 16 hexadecimal digits, of what determines the codes: weights, scale, images, mirroring."""
    hashed = hashlib.sha256(repr((type(latents.network).__name__, latents.network.shape, mirrored)).encode())
    for name, value in sorted(latents.state_dict().items()):
        hashed.update(name.encode())
        hashed.update(value.detach().cpu().contiguous().numpy().tobytes())
    hashed.update(repr(pixels.shape).encode())
    for i in range(0, len(pixels), count := block(pixels)):
        hashed.update(pixels[i : i + count].tobytes())
    return hashed.hexdigest()[:16]
