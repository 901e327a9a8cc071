"""The images of a training as the embeddings of a CLIP, for priors and decoders of unCLIP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unveil.errors import UnveilError

if TYPE_CHECKING:
    from torch import Tensor

    from unveil.image.clip_model import ClipModel
    from unveil.image.data.images import ImageSet
    from unveil.image.recipes.load import Opened
    from unveil.image.recipes.train_config import TrainImage
    from unveil.runs.progress import Progress


def start_embeddings(
    config: TrainImage, images: ImageSet, start: Opened | None, progress: Progress
) -> tuple[Tensor | None, dict[str, object]]:
    """The embeddings of the images that a decoder is trained on, as `embeddings_of`, and the fields of
    config.json that follow from its CLIP, whose files are written into the run folder; None for other models.

    Args:
        start: the model whose weights the training begins with.
    Raises:
        UnveilError: no such CLIP, images that it cannot read, or a model to start from that was trained with
            another CLIP or with none.
    """
    from unveil.image.recipes.stored_clip import begun_clip, clip_digest, read_clip, write_clip
    from unveil.image.recipes.training_flags import CaptionFlags

    before = None if start is None else start.config.get("clip_digest")
    if not config.image_embedding:
        if before is not None:
            raise UnveilError(f"{config.start_from} reads image embeddings; give `image_embedding`")
        return None, {}
    run = config.run.folder
    stored = begun_clip(config.image_embedding, run, config.run.resume)
    clip = read_clip(stored, config.run.device)
    described = clip_digest(clip)
    if start is not None and before != described:
        what = "no image embeddings" if before is None else "the embeddings of another CLIP"
        raise UnveilError(f"{config.start_from} was trained with {what}; give the weights of another model")
    check_images(images, clip)
    embeddings = embeddings_of(clip, images, config.images.flip, progress)
    write_clip(stored, run, keep=config.run.resume)
    fields: dict[str, object] = {"embedding": clip.width, "clip_digest": described}
    if not config.text.captions:  # the width of its tokens
        fields["context"] = CaptionFlags.text_width
    return embeddings, fields


def check_images(images: ImageSet, clip: ClipModel) -> None:
    """Refuse images that a CLIP cannot read.

    Raises:
        UnveilError: their size or their number of channels.
    """
    from unveil.image.unclip.image_embeddings import check_embeddable

    try:
        check_embeddable(clip, images.pixels.shape[1:])
    except ValueError as error:
        raise UnveilError(f"{error}; give `size={clip.shape.size}` and `fit=resize`") from error


def embeddings_of(
    clip: ClipModel, images: ImageSet, mirrored: bool, progress: Progress, batch: int = 256
) -> Tensor:
    """The embeddings (N, E) of all images, and with `mirrored` those of their mirror images behind."""
    import torch

    from unveil.image.data.images import RandomImages
    from unveil.image.unclip.image_embeddings import image_embeddings

    def done(count: int, total: int) -> None:
        progress("embedding images", count, total, {})

    pixels = RandomImages(images).pixels
    parts = [image_embeddings(clip, pixels, batch, done)]
    if mirrored:
        parts.append(image_embeddings(clip, pixels.flip(-1), batch, done))
    return torch.cat(parts)
