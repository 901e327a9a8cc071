"""Inversion of images to the noise that generates them, and interpolation."""

from functools import partial

import torch
from torch import Tensor

from unveil.checks import whole
from unveil.image.model import ImageModel, check_labels, check_pixels
from unveil.image.settings import ImageSettings
from unveil.image.solvers import image_times
from unveil.sampling.gaussian import DDIM
from unveil.sampling.loop import sample


def inverted(
    model: ImageModel,
    pixels: Tensor,
    labels: Tensor | None,
    settings: ImageSettings,
    batch: int = 64,
    low: Tensor | None = None,
    embeddings: Tensor | None = None,
    *,
    scaled: bool = True,
) -> Tensor:
    """The noise (B, C, S, S) from which ddim with eta 0 generates these images, up to errors that fall with
    the number of steps.

    The same update with s > t, starting with the image as the state at the smallest time of the grid; one
    network call per step but the first. Song, Meng & Ermon 2021, section 5.4.

    Args:
        pixels: (B, C, H, W) in 0 .. 255, of the shape `model.picture`.
        batch: images per batch.
        low: (B, C, s, s) in -1 .. 1, the low-resolution images of an upsampler.
        embeddings: (B, E), the images' embeddings, for a decoder of unCLIP.
        scaled: the state at the last time t is divided by sigma(t), as `generate` expects its noise; False:
            the state itself.
    Raises:
        ValueError: another solver than ddim with eta 0, guidance, or tensors of another shape or type.
    """
    batch = whole("batch", batch)
    check_pixels(pixels, model.picture)
    if labels is not None:
        check_labels(labels, len(pixels), model.shape.classes)
    if settings.solver != "ddim" or settings.eta or settings.scale != 1.0:
        raise ValueError("inversion needs `solver=ddim` with `eta` 0 and `scale` 1")
    times = image_times(model, settings).flip(0)[1:]
    if len(times) < 2:
        raise ValueError(
            f"inversion goes from step to step and needs `steps` of at least 2, got {settings.steps}"
        )
    model.eval()
    states: list[Tensor] = []
    for i in range(0, len(pixels), batch):
        part, classes = pixels[i : i + batch], None if labels is None else labels[i : i + batch]
        small = None if low is None else low[i : i + batch]
        z = None if embeddings is None else embeddings[i : i + batch]
        cond = model.condition(classes, len(part), small, embeddings=z)
        denoise = partial(model.denoiser, cond=cond)
        states.append(sample(denoise, DDIM(model.denoiser.schedule), model.clean(part), times))
    return torch.cat(states) / (float(model.denoiser.schedule.sigma(times[-1])) if scaled else 1.0)


def slerp(a: Tensor, b: Tensor, share: float | Tensor) -> Tensor:
    """Spherical interpolation from a (share 0) to b (share 1), which keeps the norm of noise. Shoemake 1985;
    Song et al. 2021, D.3.

    Args:
        a, b: (B, *E).
        share: position between both, a number or (B,), in 0 .. 1.
    Raises:
        ValueError: other shapes, numbers that are not finite, rows of zeros, which have no direction, or
            opposite ends.
    """
    share = torch.as_tensor(share, dtype=a.dtype, device=a.device)
    if (
        a.shape != b.shape
        or a.ndim < 2
        or not a.is_floating_point()
        or share.ndim > 1
        or (share.ndim and len(share) != len(a))
    ):
        shapes = ", ".join(str(tuple(it.shape)) for it in (a, b, share))
        raise ValueError(
            "slerp: two batches of floating-point numbers (B, *E) and a share, a number or (B,), are "
            f"needed, got {shapes}"
        )
    if not all(bool(it.isfinite().all()) for it in (a, b, share)) or not bool(
        (a.flatten(1).any(1) & b.flatten(1).any(1)).all()
    ):
        raise ValueError(
            "slerp: both ends and the share must be finite, and no end all zeros, which has no direction"
        )
    x, y = a.flatten(1), b.flatten(1)
    cosine = ((x * y).sum(1) / (x.norm(dim=1) * y.norm(dim=1))).clamp(-1.0, 1.0)
    if bool((cosine < -1.0 + 1e-6).any()):
        raise ValueError("slerp: its ends are opposite, and between them there are many arcs; give others")
    angle = cosine.acos().clamp(min=1e-6)
    mixed = (((1.0 - share) * angle).sin() / angle.sin())[:, None] * x + (
        (share * angle).sin() / angle.sin()
    )[:, None] * y
    return mixed.view_as(a)
