"""The latent space of image models: an autoencoder, copied into the run folder so that the run is whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, cast

from unveil.errors import UnveilError

if TYPE_CHECKING:
    from unveil.image.data.images import ImageSet
    from unveil.image.latents.cached_latents import CachedLatents
    from unveil.image.latents.latent import Latents
    from unveil.runs.progress import Progress

FILE = "autoencoder.safetensors"


def write_latents(latents: Latents, run: Path, keep: bool = False) -> dict[str, object]:
    """Write autoencoder.safetensors into a run folder; returns what config.json says of it.

    Args:
        keep: leave a file that is there as it is.
    """
    from safetensors.torch import save_file

    from unveil.files.atomic import check_output, replacing
    from unveil.files.digest import digest
    from unveil.image.networks.autoencoder import Autoencoder

    file = run / FILE
    if not (keep and file.is_file()):
        check_output(file)
        run.mkdir(parents=True, exist_ok=True)
        with replacing(file) as partial:
            save_file({k: v.cpu().contiguous() for k, v in latents.state_dict().items()}, partial)
    kind = "kl" if isinstance(latents.network, Autoencoder) else "tiny"
    return {"kind": kind, **asdict(latents.network.shape), "sha256": digest(file)}


def latents_of_run(config: Mapping[str, object], folder: Path, device: str) -> Latents | None:
    """The latent space of a run; None for a model of pixels.

    Args:
        config: config.json of the run.
        folder: the run, or a checkpoint folder: autoencoder.safetensors lies in it or above it.
    Raises:
        UnveilError: the file is missing, damaged or another one.
    """
    import torch

    from unveil.files.safetensors import read_tensors
    from unveil.image.latents.latent import Latents
    from unveil.image.networks.autoencoder import Autoencoder, AutoencoderShape
    from unveil.image.networks.taesd import TinyAutoencoder, TinyShape
    from unveil.runs.device import find_device

    described = config.get("autoencoder")
    if not isinstance(described, Mapping):
        return None
    fields = {
        str(name): tuple(cast(list[object], value)) if isinstance(value, list) else value
        for name, value in cast(Mapping[str, object], described).items()
    }
    kind, sha256 = fields.pop("kind", None), str(fields.pop("sha256", ""))
    places = [place / FILE for place in (folder, folder.parent) if (place / FILE).is_file()]
    if not places:
        raise UnveilError(f"{folder}: no {FILE} in it or above it, which turns latents into images")
    try:
        with torch.random.fork_rng(devices=[]):  # initial weights, which are replaced
            if kind == "kl":
                network = Autoencoder(AutoencoderShape(**fields))  # pyright: ignore[reportArgumentType]
            else:
                network = TinyAutoencoder(TinyShape(**fields))  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError) as error:
        raise UnveilError(f"{folder}: its config describes no autoencoder ({error})") from error
    latents = Latents(network)
    latents.load_state_dict(read_tensors(places[0], latents.state_dict(), halves=True, sha256=sha256))
    return latents.to(find_device(device)).eval()


def codes_of(
    latents: Latents, images: ImageSet, run: Path, mirrored: bool, progress: Progress, batch: int = 32
) -> CachedLatents:
    """The codes of all images, encoded once, `batch` at a time, and kept in the run folder."""
    from unveil.image.latents.cached_latents import cached_latents

    def done(count: int, total: int) -> None:
        progress("encoding images", count, total, {})

    on_done: Callable[[int, int], None] = done
    return cached_latents(latents, images.pixels, run, mirrored, batch, on_done=on_done)
