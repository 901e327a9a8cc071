"""The image model: a denoiser of pixels, conditional on the class if there are classes."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.image.concat import Beside, enlarged, masked, noised, one_hot
from unveil.image.latents.latent import Latents
from unveil.image.networks.unet2d import UNet2d
from unveil.image.prompts.text_conditioning import TextConditioning, with_text
from unveil.image.shape import TABLES, ImageShape
from unveil.image.shape_parts import image_network, image_schedule
from unveil.network.condition import Condition
from unveil.process.denoiser import GaussianDenoiser
from unveil.process.parameterization import EDM, eps, flow, v, x0

AT_ONCE = 2**18
"""Pixels of an image that the autoencoder encodes or decodes at once, 512 x 512: its activations take about
1 GiB, more than those of Stable Diffusion's U-Net."""


class ImageModel(nn.Module):
    """Denoiser of images (B, C, S, S): pixels in -1 .. 1, which represent 0 .. 255, or latent codes.

    Args:
        network: replaces the `UNet2d` or `DiT` that the shape describes; it has as many rows of labels.
        text: reads prompts, for a shape with `context`.
        latent: the latent space of the images; its weights are no part of the model's. None: pixels.
    Raises:
        ValueError: a latent space of another number of channels than the shape's.
    """

    def __init__(
        self,
        shape: ImageShape,
        network: nn.Module | None = None,
        text: TextConditioning | None = None,
        latent: Latents | None = None,
    ) -> None:
        super().__init__()
        self.shape = shape
        if latent is not None and latent.channels != shape.channels:
            raise ValueError(
                f"this model is of latents of {shape.channels} channels, but the autoencoder makes "
                f"{latent.channels}"
            )
        if network is None:
            network = image_network(shape)
        parameterization = {"eps": eps, "x0": x0, "v": v, "flow": flow, "edm": EDM(shape.sigma_data)}[
            shape.predicts
        ]
        schedule = image_schedule(shape)

        index = float(shape.schedule in TABLES)  # the network counts the entries of a table from 0

        def time_input(t: Tensor) -> Tensor:
            return (
                0.25 * schedule.sigma(t).log()
                if shape.schedule == "karras"
                else shape.time_scale * (shape.diffusion_steps * t - index)
            )

        self.denoiser = GaussianDenoiser(
            network, schedule, parameterization, time_input, shape.learned_variance
        )
        self.text = text
        self._apart = None if latent is None else (latent.requires_grad_(False).eval(),)  # no submodule

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "ImageModel":
        if self._apart is not None:  # moves to a device with the model
            self._apart[0]._apply(fn)
        return super()._apply(fn, recurse)

    @property
    def latent(self) -> Latents | None:
        """The latent space of the images; None if they are pixels."""
        return None if self._apart is None else self._apart[0]

    @property
    def picture(self) -> tuple[int, int, int]:
        """The shape (colours, height, width) of the pictures that the model makes, in pixels."""
        colours, factor = (
            (self.shape.channels, 1) if self.latent is None else (self.latent.colours, self.latent.factor)
        )
        return colours, factor * self.shape.size, factor * self.shape.size

    @property
    def unit(self) -> int:
        """Sides of pictures are multiples of this number of pixels."""
        return self.shape.stem * (1 if self.latent is None else self.latent.factor)

    @property
    def levels(self) -> int:
        """Number of noise levels of the map beside the image that the network reads as labels (Stable
        Diffusion's upscaler); 0: none."""
        network = self.denoiser.network
        return network.shape.labels if isinstance(network, UNet2d) and not self.shape.classes else 0

    def sides_of(self, size: tuple[int, int] | None) -> tuple[int, int, int]:
        """The shape (C, h, w) of a sample whose picture has a size (height, width) in pixels.

        Args:
            size: None: the size of the training.
        Raises:
            ValueError: sides that the network or the latent space cannot have.
        """
        if size is None:
            return self.shape.channels, self.shape.size, self.shape.size
        factor, unit = 1 if self.latent is None else self.latent.factor, self.unit
        if size[0] % unit or size[1] % unit or min(size) < unit:
            raise ValueError(
                f"`size` {size[1]} x {size[0]}: sides must be multiples of {unit} pixels for this model"
            )
        return self.shape.channels, size[0] // factor, size[1] // factor

    def clean(self, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """x_0 of pixels (B, C, H, W) in 0 .. 255: scaled to -1 .. 1, and encoded by the latent space.

        Args:
            generator: draws the codes; None takes their mean.
        """
        x = self.normalized(pixels)
        if self.latent is None:
            return x
        if generator is None:
            return self.encoded(x)
        with torch.no_grad():
            return self.latent.encode(x, generator)

    def encoded(self, x: Tensor) -> Tensor:
        """The mean codes of images x (B, C, H, W) in -1 .. 1, for a model of latents."""
        assert self.latent is not None
        return self._in_parts(self.latent.encode, x, x.shape[2] * x.shape[3])

    @torch.no_grad()
    def pixels(self, x_0: Tensor) -> Tensor:
        """Clean samples as pixels 0 .. 255, uint8 on the CPU; the inverse of `clean`.

        Raises:
            ValueError: numbers that are not finite.
        """
        x = x_0
        if self.latent is not None:
            x = self._in_parts(self.latent.decode, x_0, self.latent.factor**2 * x_0.shape[2] * x_0.shape[3])
        if not bool(x.isfinite().all()):
            raise ValueError(
                "the images are not finite numbers, because float16 overflows in this network; give `dtype` "
                "bfloat16 or float32"
                if next(self.parameters()).dtype == torch.float16
                else "the images are not finite numbers; the weights are damaged, or their training diverged"
            )
        return pixels_of(x)

    @torch.no_grad()
    def _in_parts(self, change: Callable[[Tensor], Tensor], x: Tensor, pixels: int) -> Tensor:
        """`change` of a batch, of as many images at once as memory is meant for.

        Args:
            pixels: of one image.
        """
        parts = x.split(max(1, AT_ONCE // pixels))
        return change(x) if len(parts) == 1 else torch.cat([change(part) for part in parts])

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters()).device

    def condition(
        self,
        labels: Tensor | None,
        count: int,
        low: Tensor | None = None,
        prompts: Sequence[str] | None = None,
        level: Tensor | None = None,
        embeddings: Tensor | None = None,
    ) -> Condition | None:
        """The condition of the network: classes (B,) or no class, low-resolution images, prompts, and image
        embeddings; None for an unconditional model.

        Args:
            low: (B, C, s, s) in -1 .. 1, of the shape `low`, which an upsampler sees enlarged.
            prompts: B texts; None: the empty prompt, which is the null condition of a model of text.
            level: (B,), noise levels of `low`; None: it has no noise.
            embeddings: (B, E), see `embedded`.
        Raises:
            ValueError: classes or prompts that the model was not trained with, or no class for a model that
                is only conditional; likewise for `low`.
        """
        if low is not None and len(low) != count:
            raise ValueError(f"{count} images need as many low-resolution images, got {len(low)}")
        worded = self.worded(self._class(labels, count), count, prompts)
        return self.beside(self.embedded(worded, count, embeddings), low, level)

    def worded(
        self, cond: Condition | None, count: int, prompts: Sequence[str] | None = None
    ) -> Condition | None:
        """The condition with the encoded prompts, or with those of the empty prompt.

        Raises:
            ValueError: prompts for a model without text, or another number than `count`.
        """
        if self.text is None:
            if prompts is not None:
                raise ValueError("this model was trained without `captions`; leave `prompt` out")
            return cond
        if prompts is not None and len(prompts) != count:
            raise ValueError(f"{count} images need as many prompts, got {len(prompts)}")
        return with_text(cond, self.text([""] * count if prompts is None else prompts, self.device))

    def embedded(
        self,
        cond: Condition | None,
        count: int,
        embeddings: Tensor | None = None,
        dropped: Tensor | None = None,
    ) -> Condition | None:
        """The condition with the embeddings of images (B, E), for a model with `embedding`.

        Args:
            embeddings: None: the learned one of no image, which is the null condition.
            dropped: (B,) bool, the rows that have that one, too; None: no row.
        Raises:
            ValueError: embeddings for a model without, or of another shape.
        """
        network = self.denoiser.network
        if not isinstance(network, UNet2d) or network.image is None:
            if embeddings is not None:
                raise ValueError("this model was trained without image embeddings (`image_embedding`)")
            return cond
        null = network.image.null.expand(count, -1)
        if embeddings is None:
            return replace(cond or Condition(), embedding=null)
        if embeddings.shape != null.shape:
            raise ValueError(
                f"image embeddings of shape {tuple(null.shape)} are needed, got {tuple(embeddings.shape)}; "
                "those of another CLIP have another width"
            )
        z = embeddings.to(null)
        if dropped is not None:
            z = torch.where(dropped.to(self.device)[:, None], null, z)
        return replace(cond or Condition(), embedding=z)

    @property
    def low(self) -> tuple[int, int, int]:
        """The shape (C, s, s) of the low-resolution images of an upsampler."""
        lowres = self.shape.beside == "lowres"  # else of the codes of a latent space
        channels, side, _ = self.picture if lowres else (self.shape.channels, self.shape.size, 0)
        return channels, side // self.shape.upsample, side // self.shape.upsample

    def beside(
        self, cond: Condition | None, low: Tensor | None, level: Tensor | None = None
    ) -> Condition | None:
        """The condition with low-resolution images (B, C, s, s), enlarged to S x S (bilinear), for an
        upsampler.

        Args:
            level: (B,), their noise levels, of a model that knows these; None: no noise.
        Raises:
            ValueError: an upsampler without them or with another shape, or another model with them.
        """
        if self.shape.upsample == 1:
            if low is not None:
                raise ValueError("this model is no upsampler (`upsample`)")
            return cond
        if low is None or low.shape[1:] != self.low:
            channels, side, _ = self.low
            got = "none" if low is None else tuple(low.shape[1:])
            raise ValueError(
                f"this model enlarges images of {channels} x {side} x {side} (`given`), got {got}"
            )
        concat = enlarged(low.to(self.device), self.shape.size)
        levels = torch.zeros(len(low), device="cpu") if level is None else level
        known = self.shape.noise_levels if self.shape.beside == "lowres" else 0
        if bool((levels > known).any()):
            raise ValueError(
                f"`noise_level` {int(levels.max())}: this model knows {f'0 .. {known}' if known else 'none'}"
            )
        concat_level = levels.to(self.device, torch.float32) if known else None
        return replace(cond or Condition(), concat=concat, concat_level=concat_level)

    def seeing(self, cond: Condition | None, beside: Beside) -> Condition | None:
        """The condition with what a batch of the training sees beside the images."""
        if self.shape.beside == "inpaint":
            assert beside.pictures is not None and beside.hole is not None
            channels = masked(self.normalized(beside.pictures), beside.hole, self.latent)
            return replace(cond or Condition(), concat=channels)
        if self.shape.beside == "map":
            assert beside.labels is not None
            return replace(cond or Condition(), concat=self.mapped(beside.labels))
        assert beside.pictures is not None and beside.level is not None and beside.noise is not None
        low = self.reduced(self.normalized(beside.pictures))
        assert low is not None
        return self.beside(cond, noised(low, beside.level, beside.noise), beside.level)

    def mapped(self, labels: Tensor) -> Tensor:
        """The channels of semantic maps (B, H, W) of the pictures' size, for a model of them."""
        return one_hot(
            labels.to(self.device), self.shape.concat, 1 if self.latent is None else self.latent.factor
        )

    def reduced(self, x_0: Tensor) -> Tensor | None:
        """Low-resolution images: means over squares of (B, C, S, S); None if the model is no upsampler."""
        return F.avg_pool2d(x_0, self.shape.upsample) if self.shape.upsample > 1 else None

    def _class(self, labels: Tensor | None, count: int) -> Condition | None:
        classes = self.shape.classes
        if not classes:
            if labels is not None:
                raise ValueError("this model was trained without `classes`; leave `label` out")
            return None
        if labels is None:
            if not self.shape.null:
                raise ValueError(
                    "this model knows images of a class only (it was trained with `label_drop` 0); give "
                    "`label`"
                )
            return Condition(label=torch.full((count,), classes, device=self.device))
        check_labels(labels, count, classes)
        return Condition(label=labels.to(self.device, torch.long))

    def normalized(self, pixels: Tensor) -> Tensor:
        """Pixels 0 .. 255 as -1 .. 1, on the model's device."""
        return pixels.to(self.device, torch.float32) / 127.5 - 1.0


def check_labels(labels: Tensor, count: int, classes: int) -> None:
    """Refuse invalid classes of `count` images; with `classes` 0 only the shape and the type are checked.

    Raises:
        ValueError: another shape, another type than integers, or a class out of range.
    """
    if tuple(labels.shape) != (count,):
        raise ValueError(
            f"{count} images need as many classes, of shape {(count,)}, got {tuple(labels.shape)}"
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"classes must be whole numbers, such as torch.int64, got {labels.dtype}")
    if classes and bool(((labels < 0) | (labels >= classes)).any()):
        raise ValueError(
            f"class {int(labels.max() if labels.max() >= classes else labels.min())}: there are 0 .. "
            f"{classes - 1}"
        )


def check_pixels(pixels: Tensor, wanted: tuple[int, int, int]) -> None:
    """Refuse invalid pixels of a model's images.

    Args:
        wanted: their shape (colours, height, width), as `ImageModel.picture`.
    Raises:
        ValueError: another shape, no image, or other numbers than whole ones in 0 .. 255.
    """
    if pixels.ndim != 4 or tuple(pixels.shape[1:]) != wanted or not len(pixels):
        raise ValueError(
            f"pixels must be of shape (B, {', '.join(map(str, wanted))}) with B at least 1, got "
            f"{tuple(pixels.shape)}"
        )
    if pixels.dtype == torch.uint8:
        return
    if pixels.dtype == torch.bool or not bool(
        ((pixels >= 0) & (pixels <= 255) & (pixels == pixels.round())).all()
    ):
        low, high = float(pixels.min()), float(pixels.max())
        raise ValueError(
            f"pixels must be whole numbers 0 .. 255, got {pixels.dtype} in {low:g} .. {high:g}; of x in -1 "
            ".. 1 they are pixels_of(x)"
        )


def pixels_of(x: Tensor) -> Tensor:
    """-1 .. 1 as the nearest of 0 .. 255, clipped, uint8 on the CPU."""
    return ((x + 1.0) * 127.5).round().clamp(0.0, 255.0).to("cpu", torch.uint8)
