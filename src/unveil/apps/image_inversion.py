"""From images back to the noise that makes them, and between two of them."""

from functools import partial

import torch
from torch import Tensor

from unveil.apps.image_generation import ImageSettings, image_times
from unveil.apps.image_model import ImageModel
from unveil.sampling.gaussian import DDIM
from unveil.sampling.loop import sample


def inverted(model: ImageModel, pixels: Tensor, labels: Tensor | None, settings: ImageSettings, batch: int = 64) -> Tensor:
    """The noise (B, C, S, S) from which ddim with eta 0 makes these images, but for errors that fall with the steps.

    The same update with s > t, from the image as the state at the least time of the grid on; one call of the network for each step but
    the first. Song, Meng & Ermon 2021, section 5.4.

    Args:
        batch: images at a time.
    Raises:
        ValueError: another solver than ddim with eta 0, or a guided one.
    """
    if settings.solver != "ddim" or settings.eta or settings.scale != 1.0:
        raise ValueError("inversion is of --solver ddim with --eta 0 and --scale 1")
    times = image_times(model, settings).flip(0)[1:]
    model.eval()
    found: list[Tensor] = []
    for i in range(0, len(pixels), batch):
        part, told = pixels[i : i + batch], None if labels is None else labels[i : i + batch]
        denoise = partial(model.denoiser, cond=model.condition(told, len(part)))
        found.append(sample(denoise, DDIM(model.denoiser.schedule), model.normalized(part), times))
    return torch.cat(found) / float(model.denoiser.schedule.sigma(times[-1]))


def slerp(a: Tensor, b: Tensor, share: float | Tensor) -> Tensor:
    """From a (share 0) to b (share 1) along the arc between them, which keeps the norm of noise. Shoemake 1985; Song et al. 2021, D.3.

    Shapes: a and b (B, *E); share a number or (B,).
    """
    x, y = a.flatten(1), b.flatten(1)
    angle = ((x * y).sum(1) / (x.norm(dim=1) * y.norm(dim=1))).clamp(-1.0, 1.0).acos().clamp(min=1e-6)
    share = torch.as_tensor(share, dtype=x.dtype, device=x.device)
    mixed = (((1.0 - share) * angle).sin() / angle.sin())[:, None] * x + ((share * angle).sin() / angle.sin())[:, None] * y
    return mixed.view_as(a)
