"""The shape of an image model: sizes, network, schedule and prediction target, as in config.json."""

from dataclasses import dataclass
from typing import Annotated, Literal

from unveil.checks import Bounds, check_fields
from unveil.image.networks.unet2d import level_sides

TABLES = ("linear", "cosine", "betas")
Count = Annotated[int, Bounds(1, 99_999)]


@dataclass(frozen=True)
class ImageShape:
    """Shape of the network of an `ImageModel`, and its diffusion.

    Args:
        size: S, the side in pixels.
        channels: C, 1 or 3.
        classes: K; 0: unconditional.
        null: some labels were dropped in training, so that it is an unconditional model too; row K of the
            embedding.
        width, multiples, blocks, head_width, scale_shift, big_gan, dropout, stem, groups: as in
            `UNet2dShape`.
        attention: feature map sides of the levels with attention; the middle always has it.
        schedule: DDPM's table of T betas ("linear"), Improved DDPM's ("cosine"), another ("betas"), flow
            matching's, or EDM's ("karras").
        diffusion_steps: T; for flow matching only the scale of the network's time input.
        predicts: prediction target of the network.
        learned_variance: the network predicts the variance of each step too (Nichol & Dhariwal 2021).
        sigma_data: standard deviation of the data, for EDM.
        upsample: conditioned on the image at 1 / upsample of its size (Dhariwal & Nichol 2021, section 4.3);
            1 disables it.
        betas: the T betas of the schedule "betas".
        time_scale: factor of the time input, which is the index of a table's entry.
        context: width of the text tokens that the network attends to; 0: no text.
        pooled: width of the pooled text, which joins the time embedding; 0: none.
        embedding: width E of the image embeddings that condition it, of norm 1 (unCLIP); they give tokens of
            width `context`, with or without a text. 0: none.
        concat: channels of a map that the network sees beside the image: a mask and a masked image, depth ...
        beside: what these channels are, as in `unveil.image.concat`: those of inpainting, of a low-resolution
            image (at 1 / upsample of the picture's size) or of a semantic map of `concat` labels; "known"
            for those of GLIDE's inpainting, before those of the enlarged image if it is an upsampler; "" for
            maps of other programs.
        noise_levels: largest noise level of low-resolution images (`beside` lowres); 0: they have no noise.
        trunk: the U-Net, or the transformer `DiT`, whose patches have `stem` x `stem` pixels; of the fields
            from `multiples` to `big_gan` and of `dropout` it has none.
        depth: number of blocks of the transformer.
        heads: number of its attention heads.
        efficient: as in `UNet2dShape`.
    Raises:
        ValueError: a value of another type or out of range, or values that exclude each other.
    """

    size: Annotated[int, Bounds(1, 8192)]
    channels: Count
    classes: Annotated[int, Bounds(0, 100_000)] = 0
    null: bool = False
    width: Count = 48
    multiples: tuple[Annotated[int, Bounds(1, 64)], ...] = (1, 2, 2)
    blocks: Count = 1
    attention: tuple[int, ...] = (7, 8)
    head_width: Annotated[int, Bounds(0)] = 0
    groups: Count = 16
    scale_shift: bool = True
    big_gan: bool = False
    dropout: Annotated[float, Bounds(0, 1, below=True)] = 0.0
    stem: Count = 2
    schedule: Literal["linear", "cosine", "betas", "flow", "karras"] = "linear"
    diffusion_steps: Annotated[int, Bounds(1, 100_000)] = 1000
    predicts: Literal["eps", "x0", "v", "flow", "edm"] = "eps"
    learned_variance: bool = False
    sigma_data: Annotated[float, Bounds(0, above=True)] = 0.5
    upsample: Annotated[int, Bounds(1)] = 1
    betas: tuple[Annotated[float, Bounds(0, 1, above=True, below=True)], ...] = ()
    time_scale: Annotated[float, Bounds(0, above=True)] = 1.0
    context: Annotated[int, Bounds(0, 99_999)] = 0
    pooled: Annotated[int, Bounds(0, 99_999)] = 0
    concat: Annotated[int, Bounds(0, 99_999)] = 0
    beside: Literal["", "inpaint", "lowres", "map", "known"] = ""
    noise_levels: Annotated[int, Bounds(0, 1000)] = 0
    trunk: Literal["unet", "dit"] = "unet"
    depth: Annotated[int, Bounds(1, 1000)] = 8
    heads: Annotated[int, Bounds(1, 1000)] = 4
    efficient: bool = False
    embedding: Annotated[int, Bounds(0, 99_999)] = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if not 1 <= len(self.multiples) <= 8:
            raise ValueError(f"`multiples` must be 1 to 8 numbers, got {len(self.multiples)}")
        if self.schedule == "linear" and self.diffusion_steps <= 20:
            raise ValueError(f"a linear table needs `diffusion_steps` above 20, got {self.diffusion_steps}")
        if (self.schedule == "betas") != bool(self.betas) or len(self.betas) not in (0, self.diffusion_steps):
            raise ValueError(
                f"{len(self.betas)} betas, but the schedule is {self.schedule} of {self.diffusion_steps} "
                "steps"
            )
        if self.learned_variance and self.schedule not in TABLES:
            raise ValueError(
                f"a learned variance belongs to a table of steps, {' or '.join(TABLES)}, not to "
                f"{self.schedule}"
            )
        if self.schedule == "karras" and self.predicts != "edm":
            raise ValueError(
                f"the karras schedule needs predicts edm, which scales its inputs, got {self.predicts}"
            )
        if self.schedule == "flow" and self.predicts in ("eps", "edm"):
            raise ValueError(
                f"flow matching begins where alpha is 0, where {self.predicts} says nothing about the image; "
                "predict flow, v or x0"
            )
        if self.beside and not self.concat:
            raise ValueError(f"a model that sees {self.beside} beside the image needs its channels, `concat`")
        if self.beside == "lowres" and self.upsample == 1:
            raise ValueError(
                "`beside=lowres` needs `upsample` above 1, the factor of the low-resolution image"
            )
        if self.size % self.upsample and self.beside != "lowres":
            raise ValueError(f"`upsample` {self.upsample} does not divide a size of {self.size} pixels")
        if self.embedding and self.trunk == "dit":
            raise ValueError("`image_embedding` is for `trunk=unet`; the transformer reads none")
        if self.trunk == "dit":
            self._check_transformer()
            return
        if self.attention and not self.levels:
            raise ValueError(
                f"`attention` {' '.join(map(str, self.attention))}: no level has such a side; the levels "
                f"have {', '.join(map(str, self.sides))}: choose of these"
            )

    def _check_transformer(self) -> None:
        if self.width % 4 or self.width % self.heads:
            raise ValueError(f"`width` {self.width} must be a multiple of 4 and of `heads` {self.heads}")
        if self.size % self.stem:
            raise ValueError(f"`patch` {self.stem} does not divide a side of {self.size}")
        if self.dropout:
            raise ValueError("`dropout` is for `trunk=unet`; the transformer has none")

    @property
    def sides(self) -> tuple[int, ...]:
        """The side of the feature maps of each level."""
        return level_sides(self.size, self.stem, len(self.multiples), self.efficient)

    @property
    def levels(self) -> tuple[int, ...]:
        """The levels with attention."""
        return tuple(k for k, side in enumerate(self.sides) if side in self.attention)
