"""The U-Net of image diffusion: DDPM's, with the options of Improved DDPM and ADM.

Ho et al. 2020, appendix B; Nichol & Dhariwal 2021; Dhariwal & Nichol 2021, section 3. At DDPM's CIFAR-10 size
it has the 35,746,307 parameters of `google/ddpm-cifar10-32`.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.image.networks.blocks2d import (
    Attention2d,
    Double2d,
    Halve2d,
    ResidualConv2d,
    embedded,
    time_embedding,
    zero,
)
from unveil.image.networks.image_embedding import ImageEmbedding
from unveil.image.networks.inputs2d import (
    class_labels,
    concatenated,
    image_embedding,
    noise_levels,
    pooled_vector,
    text_tokens,
)
from unveil.image.networks.transformer2d import SpatialTransformer2d
from unveil.network.condition import Condition
from unveil.network.layers import by_eights, mlp

Generator = torch.Generator | None


@dataclass(frozen=True)
class UNet2dShape:
    """Shape of a `UNet2d`. From `heads` on the fields are those in which U-Nets of other releases differ from
    DDPM's.

    Args:
        channels: C.
        width, multiples: level k has `width * multiples[k]` channels.
        blocks: residual blocks per level on the way down; the way up has one more.
        attention: levels, 0 the finest, whose blocks are each followed by attention.
        head_width: channels per attention head; 0: `heads` decides.
        labels: rows of the label embedding, which is added to the time embedding; 0 disables it.
        scale_shift: the embedding scales and shifts the output of the second norm (AdaGN) instead of being
            added before it.
        big_gan: sides change inside a residual block of their own (BigGAN) instead of by a convolution.
        dropout: probability before the second convolution of a block, in training only, drawn from the
            attribute `generator`.
        learned_variance: the second half of the output channels is the variance's, see `GaussianDenoiser`.
        stem: patch size; stem x stem pixels are folded into channels, so sides are multiples of it.
        groups: of GroupNorm; divides every number of channels.
        norm_epsilon: of the norms; 1e-6 in DDPM, 1e-5 in ADM.
        concat: channels of `cond.concat`, concatenated with x (the upsampled low-resolution image, the mask
            and the known latent of inpainting); 0 disables it.
        heads: number of attention heads if `head_width` is 0.
        time_width: size of the sinusoidal time features; the embedding has four times as many; 0: `width`.
        cosine_first: the cosines come before the sines.
        inclusive: the longest wavelength is 2 pi 10,000 itself, see `sinusoids`.
        pad_after: the convolution that halves sides is padded on the right and below only, not on all sides.
        middle_attention, middle_norm: the middle has attention, and that a norm.
        context: width D of the text tokens, `cond.tokens`, which all attention reads; 0: no text.
        cross: how it reads them. "joint": one attention whose keys and values are text and pixels (GLIDE);
            "transformer": Stable Diffusion's blocks of self-attention, cross-attention and feed-forward
            layer.
        vector: width of `cond.vector`, which a small network maps and adds to the time embedding; 0: none.
        transformer_layers: blocks in each of the transformers.
        linear_projection: the transformers' first and last layers are linear (Stable Diffusion 2) instead of
            1 x 1 convolutions (Stable Diffusion 1).
        text_only: levels whose transformers attend to the text twice, and not to pixels (Stable Diffusion's
            x4 upscaler).
        level: `cond.concat_level`, the noise level of `cond.concat`, has an embedding as that of the time,
            which is added to it.
        efficient: Imagen's Efficient U-Net (Saharia et al. 2022, appendix B.1). Sides are halved before the
            first level and doubled after the last, so that no block has the sides of the image; level k has
            2^k times as many blocks; and skip connections are multiplied by 1 / sqrt(2).
        token_norm: each joint attention norms the text tokens itself, which GLIDE's do not.
        linear_vector: `cond.vector` is mapped by a linear layer (GLIDE) instead of a network of two.
        embedding: E of the image embedding `cond.embedding`, which is added to the time embedding and, with
            `context`, gives tokens before those of the text (unCLIP); text is then optional. 0: none.
        embedding_tokens: their number.
        unit_embedding: image embeddings have norm 1, and are scaled to numbers of variance 1.
    """

    channels: int
    width: int = 128
    multiples: tuple[int, ...] = (1, 2, 2, 2)
    blocks: int = 2
    attention: tuple[int, ...] = (1,)
    head_width: int = 0
    labels: int = 0
    scale_shift: bool = False
    big_gan: bool = False
    dropout: float = 0.0
    learned_variance: bool = False
    stem: int = 1
    groups: int = 32
    norm_epsilon: float = 1e-6
    concat: int = 0
    heads: int = 1
    time_width: int = 0
    cosine_first: bool = False
    inclusive: bool = True
    pad_after: bool = False
    middle_attention: bool = True
    middle_norm: bool = True
    context: int = 0
    cross: Literal["joint", "transformer"] = "joint"
    vector: int = 0
    transformer_layers: int = 1
    linear_projection: bool = False
    text_only: tuple[int, ...] = ()
    level: bool = False
    efficient: bool = False
    token_norm: bool = True
    linear_vector: bool = False
    embedding: int = 0
    embedding_tokens: int = 4
    unit_embedding: bool = True


class UNet2d(nn.Module):
    """(x (B, C, H, W), time (B,), condition) -> (B, C, H, W), or (B, 2 C, H, W) with `learned_variance`.

    Of the condition it reads what its shape names: `label` (B,) if `labels`, `vector` (B, `vector`), `tokens`
    (B, N, `context`) with `token_valid` (B, N), `concat` (B, `concat`, H, W), `concat_level` (B,) if `level`,
    and `embedding` (B, `embedding`).

    Level k has `width * multiples[k]` channels and `blocks` residual blocks down, one more up; between levels
    sides are halved, odd ones to the larger half. The middle is residual block, attention, residual block.
    The last layer of each block, and the output, start at zero.

    Raises:
        ValueError: numbers that do not fit, an x of another shape, a part of the condition that is missing,
            of another shape or out of range, or dropout without generator.
    """

    def __init__(self, shape: UNet2dShape) -> None:
        super().__init__()
        self.shape = shape
        width, groups, epsilon = shape.width, shape.groups, shape.norm_epsilon
        sizes = [width * m for m in shape.multiples]
        for size in sizes:
            if size % groups or size % (shape.head_width or shape.heads):
                many = f"heads of {shape.head_width} channels" if shape.head_width else f"{shape.heads} heads"
                raise ValueError(f"UNet2d: {size} channels are not a multiple of {groups} groups and {many}")
        if not set(shape.attention) <= set(range(len(sizes))):
            raise ValueError(
                f"UNet2d: attention at levels {shape.attention}, but there are levels 0 .. {len(sizes) - 1}"
            )
        if shape.cross == "transformer" and not shape.context:
            raise ValueError("UNet2d: `cross` transformer attends to text; give its width as `context`")
        self.generator: Generator = None
        self.time_width = shape.time_width or width
        channels, embedding = shape.channels, 4 * self.time_width
        self.time = time_embedding(self.time_width)
        self.label = nn.Embedding(shape.labels, embedding) if shape.labels else None
        self.enter = nn.Conv2d((channels + shape.concat) * shape.stem**2, sizes[0], 3, padding=1)

        def residual(inputs: int, outputs: int, change: str = "") -> ResidualConv2d:
            scale_shift, dropout = shape.scale_shift, shape.dropout
            return ResidualConv2d(
                inputs, outputs, embedding, groups, dropout, epsilon, scale_shift=scale_shift, change=change
            )

        def attend(size: int, present: bool, normed: bool = True, text_only: bool = False) -> nn.Module:
            if not present:
                return nn.Identity()
            head_width, context = shape.head_width or size // shape.heads, shape.context
            if shape.cross == "joint":
                norms = groups if normed else 0
                return Attention2d(size, head_width, norms, epsilon, context, shape.token_norm)
            layers, linear = shape.transformer_layers, shape.linear_projection
            return SpatialTransformer2d(size, head_width, context, groups, layers, linear, text_only)

        def attend_at(level: int) -> nn.Module:
            return attend(sizes[level], level in shape.attention, text_only=level in shape.text_only)

        def step(block: nn.Module, after: nn.Module | None = None) -> nn.ModuleList:
            return nn.ModuleList([block, nn.Identity() if after is None else after])

        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        kept, now = [sizes[0]], sizes[0]  # channels of the skip connections
        counts = [shape.blocks * 2**k if shape.efficient else shape.blocks for k in range(len(sizes))]
        for level, size in enumerate(sizes):
            for _ in range(counts[level]):
                self.down.append(step(residual(now, size), attend_at(level)))
                kept.append(size)
                now = size
            if level + 1 < len(sizes):
                halve = residual(size, size, "halve") if shape.big_gan else Halve2d(size, shape.pad_after)
                self.down.append(step(halve))
                kept.append(size)
        first, attention = residual(now, now), attend(now, shape.middle_attention, shape.middle_norm)
        self.middle = nn.ModuleList([first, attention, residual(now, now)])
        for level, size in reversed(list(enumerate(sizes))):
            for _ in range(counts[level] + 1):
                self.up.append(step(residual(now + kept.pop(), size), attend_at(level)))
                now = size
            if level:
                self.up.append(step(residual(size, size, "double") if shape.big_gan else Double2d(size)))
        self.norm = nn.GroupNorm(groups, now, eps=epsilon)
        outputs = channels * (1 + shape.learned_variance) * shape.stem**2
        self.leave = nn.Conv2d(now, outputs, 3, padding=1)
        zero(self.leave)
        # after the others, so that their random numbers are those of a network without it
        self.vector = _vector_network(shape, embedding)
        self.level = time_embedding(self.time_width) if shape.level else None
        self.first = Halve2d(sizes[0]) if shape.efficient else None
        self.last = Double2d(now) if shape.efficient else None
        self.image = _embedding_network(shape, embedding) if shape.embedding else None

    def forward(self, x: Tensor, time: Tensor, cond: Condition | None = None) -> Tensor:
        channels, stem = self.shape.channels, self.shape.stem
        if x.ndim != 4 or x.shape[1] != channels or x.shape[2] % stem or x.shape[3] % stem:
            raise ValueError(
                f"UNet2d: x must be (B, {channels}, H, W) with sides that {stem} divides, got "
                f"{tuple(x.shape)}"
            )
        generator = self._generator()
        embedding = self._embedded(self.time, time)
        if self.level is not None:
            level = noise_levels("UNet2d", x.shape[0], cond).to(time)
            embedding = embedding + self._embedded(self.level, level)
        if self.label is not None:
            embedding = embedding + self.label(class_labels("UNet2d", x.shape[0], self.shape.labels, cond))
        if self.vector is not None:
            vector = pooled_vector("UNet2d", x.shape[0], self.shape.vector, cond)
            embedding = embedding + by_eights(self.vector, vector)
        if self.image is None:
            tokens, valid = text_tokens("UNet2d", x.shape[0], self.shape.context, cond)
        else:
            shift, tokens, valid = self._image(self.image, x.shape[0], cond)
            embedding = embedding + shift
        seen = concatenated("UNet2d", x, self.shape.concat, cond)
        if (weights := self.enter.weight.dtype) != x.dtype:  # a network in half precision
            seen, tokens = seen.to(weights), None if tokens is None else tokens.to(weights)
        h = self.enter(F.pixel_unshuffle(seen, stem) if stem > 1 else seen)
        whole = h.shape[-2:]
        if self.first is not None:
            h = self.first(h, embedding)
        kept = [h]
        for block, attend in self.down:  # pyright: ignore[reportGeneralTypeIssues]
            h = _attended(attend, block(h, embedding, generator), tokens, valid)
            kept.append(h)
        first, attend, last = self.middle
        h = _attended(attend, first(h, embedding, generator), tokens, valid)
        h = last(h, embedding, generator)
        for block, attend in self.up:  # pyright: ignore[reportGeneralTypeIssues]
            if isinstance(block, Double2d) or block.change == "double":
                h = block(h, embedding, generator, kept[-1].shape[-2:])
            else:
                skip = kept.pop() if self.first is None else 0.5**0.5 * kept.pop()
                h = block(torch.cat([h, skip], dim=1), embedding, generator)
                h = _attended(attend, h, tokens, valid)
        if self.last is not None:
            h = self.last(h, embedding, generator, whole)
        h = self.leave(F.silu(self.norm(h))).to(x.dtype)  # the dtype of x, not autocast's
        return F.pixel_shuffle(h, stem) if stem > 1 else h

    def _embedded(self, network: nn.Module, time: Tensor) -> Tensor:
        return embedded(network, time, self.time_width, self.shape.cosine_first, self.shape.inclusive)

    def _image(
        self, network: ImageEmbedding, batch: int, cond: Condition | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """What the image embedding adds to the time embedding, and its tokens before those of the text."""
        weight = network.null
        z = image_embedding("UNet2d", batch, self.shape.embedding, cond).to(weight)
        shift, first = network(z)
        if first is None or cond is None or cond.tokens is None:
            return shift, first, None
        tokens, valid = text_tokens("UNet2d", batch, self.shape.context, cond)
        assert tokens is not None
        if valid is not None:
            valid = F.pad(valid, (network.count, 0), value=True)
        return shift, torch.cat([first, tokens.to(first)], dim=1), valid

    def _generator(self) -> Generator:
        if not self.training or not self.shape.dropout:
            return None
        if self.generator is None:
            raise ValueError("UNet2d: training with dropout needs the attribute generator")
        return self.generator


def _vector_network(shape: UNet2dShape, embedding: int) -> nn.Module | None:
    if not shape.vector:
        return None
    if shape.linear_vector:
        return nn.Linear(shape.vector, embedding)
    return mlp(shape.vector, embedding, embedding)


def _embedding_network(shape: UNet2dShape, embedding: int) -> ImageEmbedding:
    scale = shape.embedding**0.5 if shape.unit_embedding else 1.0
    return ImageEmbedding(shape.embedding, embedding, shape.context, shape.embedding_tokens, scale)


def _attended(attend: nn.Module, h: Tensor, tokens: Tensor | None, valid: Tensor | None) -> Tensor:
    return h if isinstance(attend, nn.Identity) else attend(h, tokens, valid)


def sides_of(size: int, stem: int, levels: int) -> tuple[int, ...]:
    """The side of each level's feature maps for images of size x size pixels.

    Raises:
        ValueError: the stem does not divide the size, or a level is too small to be halved.
    """
    if size % stem:
        raise ValueError(f"`stem` {stem} does not divide a size of {size} pixels")
    sides = [size // stem]
    for _ in range(levels - 1):
        if sides[-1] < 2:
            raise ValueError(
                f"{size} pixels with `stem` {stem} cannot be halved {levels - 1} times; take fewer "
                "`multiples`"
            )
        sides.append((sides[-1] + 1) // 2)
    return tuple(sides)


def level_sides(size: int, stem: int, levels: int, efficient: bool = False) -> tuple[int, ...]:
    """`sides_of`; of an efficient network those after the first halving.

    Raises:
        ValueError: as `sides_of`.
    """
    return sides_of(size, stem, levels + efficient)[int(efficient) :]
