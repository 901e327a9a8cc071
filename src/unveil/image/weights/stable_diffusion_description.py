"""What a model of Stable Diffusion's family is, whatever files it is in."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from unveil.image.networks.autoencoder import AutoencoderShape
from unveil.image.networks.clip import ClipTextShape
from unveil.image.networks.unet2d import UNet2dShape
from unveil.image.weights.stable_diffusion_files import Named, Source
from unveil.process.schedule import scaled_linear_betas

Predicts = Literal["eps", "x0", "v"]
Use = Literal["text to image", "inpainting", "depth to image", "x4 upscaler", "editing", "image variations"]
USES: dict[int, Use] = {  # by the channels that are concatenated with the latent
    0: "text to image",
    1: "depth to image",
    3: "x4 upscaler",
    4: "editing",
    5: "inpainting",
}
STEPS, BETAS, UPSCALER_BETAS = 1000, (0.00085, 0.012), (0.0001, 0.02)
"""The table of betas: linear in their square roots."""
BASE_STEPS = 875_000
"""Training steps of Stable Diffusion 2.0-base and 2.1-base, which predict eps, in files that say them."""


@dataclass(frozen=True)
class StableDiffusion:
    """A model of Stable Diffusion's family.

    Args:
        version: 1 or 2; 2 has linear projections in its transformers, and OpenCLIP's text encoder.
        use: what its U-Net sees besides the latent: nothing, a mask and a masked picture, depth, a small
            picture, a picture to edit, or the embedding of a picture.
        unet, autoencoder, text: shapes of the networks.
        predicts: what the output of the U-Net means.
        reason: why, for people.
        betas: of the table of T steps.
        scale: of the codes, see `Latents`.
        size: side in pixels of the images that it was trained with.
    """

    version: int
    use: Use
    unet: UNet2dShape
    autoencoder: AutoencoderShape
    text: ClipTextShape
    predicts: Predicts
    reason: str
    betas: tuple[float, ...]
    scale: float
    size: int


class TextSource(NamedTuple):
    """The tensors of a text encoder, by the names of transformers or of OpenCLIP without prefix."""

    stored: Mapping[str, Named]
    open_clip: bool


@dataclass(frozen=True, eq=False)
class FoundStableDiffusion:
    """Files of a model, whose numbers are not read yet.

    Args:
        layout: how the files are laid out, for people.
        unet, autoencoder: the source of each parameter, by our names.
        weights: which of the raw and averaged weights there are, and which are taken, for people.
        tokenizer: its folder; None: the files have none.
        scheduler: config of diffusers' scheduler; empty in a single file.
        left_out: components that are not read.
    """

    place: Path
    layout: str
    described: StableDiffusion
    unet: Mapping[str, Source]
    autoencoder: Mapping[str, Source]
    text: TextSource
    weights: str
    tokenizer: Path | None
    scheduler: Mapping[str, object]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class FoundAutoencoder:
    """Files of an autoencoder alone; fields as in `FoundStableDiffusion` and `StableDiffusion`."""

    place: Path
    layout: str
    shape: AutoencoderShape
    scale: float
    autoencoder: Mapping[str, Source]


def use_of(unet: UNet2dShape) -> Use:
    """What a U-Net is made for.

    Raises:
        ValueError: it has inputs that no known one has.
    """
    if unet.vector:
        return "image variations"
    if unet.concat not in USES:
        raise ValueError(
            f"its U-Net has {unet.channels + unet.concat} input channels; known are "
            f"{', '.join(str(unet.channels + n) for n in USES)}"
        )
    return USES[unet.concat]


def check_parts(unet: UNet2dShape, autoencoder: AutoencoderShape, text: ClipTextShape) -> None:
    """Refuse components of different models.

    Raises:
        ValueError: the text encoder or the autoencoder is not that of the U-Net.
    """
    if text.width != unet.context:
        raise ValueError(
            f"its U-Net reads text of width {unet.context}{_of_version(unet.context)}, its text encoder "
            f"makes {text.width}{_of_version(text.width)}: components of different models; take both from one"
        )
    if autoencoder.latent != unet.channels:
        raise ValueError(
            f"its U-Net makes latents of {unet.channels} channels, its autoencoder has {autoencoder.latent}: "
            "components of different models; take both from one"
        )


def _of_version(width: int) -> str:
    known = {768: " (Stable Diffusion 1)", 1024: " (Stable Diffusion 2)"}
    return known.get(width, "")


def betas_of(use: Use) -> tuple[float, ...]:
    """The table of a model that does not say it."""
    return tuple(scaled_linear_betas(STEPS, *(UPSCALER_BETAS if use == "x4 upscaler" else BETAS)).tolist())


def predicted(
    version: int,
    use: Use,
    given: Predicts | None,
    metadata: Mapping[str, str],
    yaml: str,
    scalars: Mapping[str, int],
) -> tuple[Predicts, str]:
    """What the U-Net of a single file predicts, and why: no tensor says it.

    Args:
        given: what the user says; None: nothing.
        metadata: of a safetensors file; ModelSpec has a `modelspec.prediction_type`.
        yaml: text of the config beside the file, or "".
        scalars: of a checkpoint.
    """
    if given is not None:
        return given, "given"
    stated = metadata.get("modelspec.prediction_type", "")
    if stated in ("epsilon", "v"):
        return ("v" if stated == "v" else "eps"), "the file's modelspec.prediction_type"
    if yaml:
        lines = [line.split("#")[0].replace('"', "").replace("'", "").split() for line in yaml.splitlines()]
        says_v = ["parameterization:", "v"] in lines
        return ("v" if says_v else "eps"), "the .yaml beside the file"
    if version == 1:
        return "eps", "version 1"
    if use in ("inpainting", "depth to image"):
        return "eps", f"version 2 for {use}"
    if use != "text to image":
        return "v", f"version 2, {use}"
    if scalars.get("global_step") == BASE_STEPS:
        return "eps", f"version 2 of {BASE_STEPS:,} steps, the 512-base model"
    return "v", "a guess: version 2 for 768 pixels predicts v, its 512-base eps, and no tensor says which"


def described_lines(found: FoundStableDiffusion) -> list[tuple[str, str]]:
    """Rows of a name and a text for `unveil weights inspect`."""
    it, parts = found.described, (found.unet, found.autoencoder)
    counts = [sum(_numel(source.shape) for source in part.values()) for part in parts]
    text = sum(_numel(it.stored.shape) for it in found.text.stored.values())
    kinds = sorted({source.stored.kind for part in parts for source in part.values()})
    heads = f"heads of {it.unet.head_width}" if it.unet.head_width else f"{it.unet.heads} heads"
    return [
        ("release", f"Stable Diffusion {it.version}.x, {it.use}"),
        ("files", f"{found.layout}, {', '.join(kinds)}"),
        ("U-Net", f"{counts[0]:,} parameters, {it.unet.channels + it.unet.concat} input channels, {heads}"),
        ("autoencoder", f"{counts[1]:,} parameters, factor {it.autoencoder.factor}, scale {it.scale:g}"),
        ("text", f"{text:,} parameters, {'CLIP' if it.text.quick else 'OpenCLIP'}, width {it.text.width}"),
        ("images", f"{it.size} x {it.size}"),
        ("diffusion", f"{len(it.betas)} steps, predicts {it.predicts} ({it.reason})"),
        ("weights", found.weights),
        ("tokenizer", str(found.tokenizer) if found.tokenizer else "none in the files; CLIP's is needed"),
        *([("not read", ", ".join(found.left_out))] if found.left_out else []),
    ]


def _numel(shape: tuple[int, ...]) -> int:
    count = 1
    for side in shape:
        count *= side
    return count
