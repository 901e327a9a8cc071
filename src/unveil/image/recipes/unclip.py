"""Image embeddings of `unveil sample image`: drawn by a prior for prompts, or taken from images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from unveil.errors import UnveilError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from unveil.image.clip_model import ClipModel
    from unveil.image.model import ImageModel
    from unveil.image.recipes.config import SampleImage
    from unveil.image.recipes.given_pictures import Prepared
    from unveil.image.recipes.load import Opened
    from unveil.image.settings import ImageSettings

TEXT = "text"  # in place of a prior: the text's own embedding
OF_IMAGES = ("variations", "interpolate", "reconstruct")  # tasks that a decoder does by embeddings


def of_images(config: SampleImage) -> bool:
    """Whether a decoder of unCLIP needs the embeddings of images of `given`."""
    return config.task in OF_IMAGES or bool(config.edit)


def check_embedded(config: SampleImage, opened: Opened) -> None:
    """Refuse settings of embeddings that have no effect, or that the model cannot follow.

    Raises:
        ValueError: such a setting, and what it needs.
    """
    decodes, default = bool(opened.config.get("embedding")), type(config)()
    if not decodes:
        if config.prior:
            raise ValueError(
                "`prior` draws image embeddings, and this model reads none; give a decoder, trained with "
                "`image_embedding`"
            )
        if config.task == "variations" or config.edit:
            what = "`edit`" if config.edit else "`task=variations`"
            raise ValueError(
                f"{what} is for decoders of unCLIP (`image_embedding`), and this model reads no image "
                "embedding; give `task=img2img` with `strength`, or `variation` for variations of a seed"
            )
    if config.prior and (of_images(config) or not config.prompt):
        needs = "`prompt`; images of `given` have embeddings of their own"
        raise ValueError(f"`prior` draws image embeddings for {needs}")
    if config.settings_of_prior != default.settings_of_prior and config.prior in ("", TEXT):
        raise ValueError("`prior_steps`, `prior_scale` and `candidates` need `prior`, a run folder")
    if config.edit_share != default.edit_share and not config.edit:
        raise ValueError("`edit_share` needs `edit`, and would have no effect here")
    if decodes and config.prompt and not (config.prior or opened.config.get("captions")):
        raise ValueError("this decoder reads no prompts: give `prior`, which draws embeddings for them")
    if config.task == "variations" and not (config.settings.solver == "ddim" and config.settings.eta):
        raise ValueError(
            "`task=variations` differ by the noise of each step; give `solver=ddim` and `eta` above 0"
        )


def prior_folders(config: SampleImage) -> list[Path]:
    """The checkpoint folder of the prior, if one is given.

    Raises:
        UnveilError: there is no such checkpoint.
    """
    from unveil.runs.checkpoints import find_checkpoint

    return [find_checkpoint(config.prior)] if config.prior not in ("", TEXT) else []


def drawn_embeddings(
    config: SampleImage, opened: Opened, folders: Sequence[Path], texts: Sequence[str]
) -> Tensor | None:
    """An image embedding for each text, (n, E): of the prior, or the text's own; None without `prior`.

    Args:
        folders: as `prior_folders` returns them.
        texts: one for each image.
    Raises:
        UnveilError: a prior of another CLIP than the decoder's.
    """
    import torch

    from unveil.image.recipes.prior.load import load_prior, read_prior_config
    from unveil.image.recipes.stored_clip import check_same_clip, clip_of_run

    if not config.prior:
        return None
    device, batch = config.job.device, config.batch_size
    if not folders:
        return clip_of_run(opened.config, opened.folder, device).read(texts, batch)
    described = read_prior_config(folders[0])
    check_same_clip(described, opened.config, config.prior)
    prior = load_prior(folders[0], device, described)
    return torch.cat(
        [
            prior.sample(texts[i : i + batch], config.settings_of_prior, config.job.seed + i)
            for i in range(0, len(texts), batch)
        ]
    )


def clip_for(config: SampleImage, opened: Opened) -> ClipModel | None:
    """The CLIP of a decoder whose task needs the embeddings of images; None for others."""
    from unveil.image.recipes.stored_clip import clip_of_run

    if not (opened.config.get("embedding") and of_images(config)):
        return None
    return clip_of_run(opened.config, opened.folder, config.job.device)


def from_embeddings(
    config: SampleImage,
    model: ImageModel,
    clip: ClipModel,
    labels: Tensor | None,
    settings: ImageSettings,
    inputs: np.ndarray,
) -> Prepared:
    """Inputs of `generate` from the embeddings of images and the noise that these are inverted to.

    variations: embedding and noise of an image, decoded with noise in each step. interpolate: both between
    those of two images. edit: the embedding is turned towards the difference of two texts'. Ramesh et al.
    2022, section 3.

    Args:
        inputs: (N, C, S, S) uint8, the images of --from.
    Raises:
        UnveilError: images that the CLIP cannot read.
    """
    import torch

    from unveil.image.generation import Given
    from unveil.image.inversion import inverted, slerp
    from unveil.image.recipes.given_pictures import Prepared
    from unveil.image.solvers import image_times
    from unveil.image.unclip.image_embeddings import edited, image_embeddings

    count, pixels = config.n, torch.from_numpy(inputs)
    if config.task == "interpolate" and len(inputs) != 2:
        raise ValueError(f"`task=interpolate` needs two images in `given`, got {len(inputs)}")
    try:
        z = image_embeddings(clip, pixels, config.batch_size)
    except ValueError as error:
        raise UnveilError(f"{config.given[0]}: {error}") from error
    turns = torch.arange(count, device="cpu") % len(inputs)
    classes = None if labels is None else labels[torch.arange(len(inputs), device="cpu") % len(labels)]
    away = replace(settings, solver="ddim", eta=0.0, scale=1.0, rescale=0.0, negative=-1)
    noise = inverted(model, pixels, classes, away, config.batch_size, embeddings=z).cpu()
    calls = len(image_times(model, away)) - 2
    share = torch.linspace(0.0, 1.0, count, device="cpu") if count > 1 else None
    if config.task == "interpolate":
        share = torch.tensor([0.5], device="cpu") if share is None else share
        (one, two), (first, last) = z.split(1), noise.split(1)
        between = slerp(one.expand(count, -1), two.expand(count, -1), share)
        noises = slerp(first.expand(count, -1, -1, -1), last.expand(count, -1, -1, -1), share)
        return Prepared(Given(embeddings=between), noises, calls=calls)
    if config.edit:
        share = torch.ones(1, device="cpu") if share is None else share
        changed = edited(clip, z[turns], config.edit[0], config.edit[1], config.edit_share * share)
        return Prepared(Given(embeddings=changed), noise[turns], calls=calls)
    truth = pixels[turns].numpy() if config.task == "reconstruct" else None
    return Prepared(Given(embeddings=z[turns]), noise[turns], truth, {}, len(inputs), calls)
