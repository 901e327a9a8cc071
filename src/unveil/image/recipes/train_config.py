"""Config of `unveil train image`, its presets, and defaults that follow from the images; free of torch."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

from unveil.checks import Bounds, check_fields
from unveil.image.recipes.training_flags import (
    CAPTIONS,
    CONCAT,
    IMAGES,
    NETWORK,
    TRANSFORMER,
    Captions,
    Concat,
    Data,
    Network,
    Transformer,
    UNetFlags,
)
from unveil.runs.flags import Run, RunFlags, changed, flat


@dataclass(frozen=True)
class TrainImage:
    """Train a diffusion model of images.

    Example: unveil train image --data fashion-mnist --classes --out runs/fashion
    """

    preset: Literal["tiny", "default", "paper"] = "default"
    """set of defaults, which other flags change: tiny learns in minutes on a CPU; default has about 2.7 M
    parameters; paper is DDPM's model of CIFAR-10, for a GPU"""
    method: Literal["", "ddpm", "iddpm", "v", "edm", "flow"] = ""
    """DDPM, Improved DDPM (cosine schedule, learned variance), v-prediction on the cosine schedule, EDM, or
    flow matching: sets `schedule`, `predicts` and `learned_variance`. Default: chosen by the images, for grey
    ones ddpm, for colour ones `schedule=cosine` `predicts=x0` `min_snr=5` `batch_size=32`"""
    schedule: Literal["", "linear", "cosine", "flow", "karras"] = ""
    """noise schedule: a table of betas (linear, cosine), or the schedule of flow matching or EDM (karras);
    default: chosen by `method`"""
    predicts: Literal["", "eps", "x0", "v", "flow", "edm"] = ""
    """prediction target of the network: the noise (eps), the clean image (x0), v, the velocity of flow
    matching, or EDM's scaled output; default: chosen by `method`"""
    learned_variance: bool = False
    """learn the variance of each step too (Improved DDPM)"""
    diffusion_steps: Annotated[int, Bounds(1)] = 1000
    """number of steps T in the table of betas, for the schedules linear and cosine"""
    sigma_data: Annotated[float, Bounds(0, above=True)] = 0.5
    """standard deviation of the pixels, scaled to -1 .. 1; used only with `predicts=edm`, whose inputs and
    outputs it scales"""
    loss: Literal["", "simple", "hybrid", "vlb"] = ""
    """simple: squared error; hybrid: squared error and the variational bound, for a learned variance; vlb:
    the bound alone. Default: hybrid with `learned_variance`, else simple"""
    importance: bool | None = None
    """True or False: sample times in proportion to their past losses (Improved DDPM); default: only with
    `loss=vlb`"""
    min_snr: Annotated[float, Bounds(0)] | None = None
    """gamma of the min-SNR loss weights, 5 in the paper; 0 disables them; default: 5 for colour images, else
    0"""
    classes: bool = False
    """condition the network on the class: subfolder, prefix of the file name, or label"""
    text: Captions = CAPTIONS
    concat: Concat = CONCAT
    label_drop: Annotated[float, Bounds(0, 1, below=True)] = 0.1
    """probability of dropping the class and the caption during training, for classifier-free guidance;
    default: 0.1, 0.2 with `encoder=glide`, and 0.5 with `image_embedding`"""
    image_embedding: str = ""
    """train a decoder of unCLIP, conditioned on the embedding of the image, with or without `captions`: the
    CLIP, a run of `unveil train clip`, or of a prior or a decoder, which keep theirs; default: none"""
    embedding_drop: Annotated[float, Bounds(0, 1, below=True)] = 0.1
    """probability of dropping the image embedding during training, with `image_embedding`"""
    upsample: Annotated[int, Bounds(1)] = 1
    """factor of an upsampler, conditioned on the image shrunk by this factor, also with noise by
    `beside=lowres`; 1: train an ordinary model"""
    latent: str = ""
    """autoencoder in whose latent space the model is trained (latent diffusion): a run folder of `unveil
    train autoencoder` or of a model in a latent space, a packaged model such as emoji-text, or taef2;
    default: train on pixels"""
    images: Data = IMAGES
    network: Network = NETWORK
    transformer: Transformer = TRANSFORMER
    start_from: str | None = None
    """run folder, checkpoint folder (also a converted one) or name of a packaged model (see `unveil weights`)
    whose weights the training begins with; its network shape, noise schedule and prediction target are kept.
    Default: random weights"""
    run: Run = RunFlags(steps=8_000, save_every=500, out=Path("runs/image"))

    def __post_init__(self) -> None:
        check_fields(self)


# fields of TrainImage and its parts whose defaults depend on the images
FROM_IMAGES = ("method", "schedule", "predicts", "min_snr", "stem", "batch_size")
METHODS = {
    "ddpm": {"schedule": "linear", "predicts": "eps", "learned_variance": False},
    "iddpm": {"schedule": "cosine", "predicts": "eps", "learned_variance": True},
    "v": {"schedule": "cosine", "predicts": "v", "learned_variance": False},
    "edm": {"schedule": "karras", "predicts": "edm", "learned_variance": False},
    "flow": {"schedule": "flow", "predicts": "flow", "learned_variance": False},
}


def for_method(config: TrainImage, method: str) -> TrainImage:
    """The config with the fields that a method stands for, before other flags change it; "" leaves the choice
    to `resolved`.

    Raises:
        ValueError: no such method.
    """
    if not method:
        return config
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; methods: {', '.join(METHODS)}")
    return changed(config, method=method, **METHODS[method])


# width, depth and heads of the transformer of each preset: about as many parameters as its U-Net
TRANSFORMERS = {"default": (128, 8, 4), "tiny": (64, 6, 4), "paper": (384, 12, 6)}


def for_trunk(config: TrainImage, trunk: str) -> TrainImage:
    """The config with the size that a preset has with another network, before other flags change it."""
    if trunk != "dit":
        return config
    width, depth, heads = TRANSFORMERS[config.preset]
    return changed(config, trunk=trunk, width=width, depth=depth, heads=heads, dropout=0.0)


GLIDE_DROP = 0.2  # of captions. Nichol et al. 2021, section 4


def for_encoder(config: TrainImage, encoder: str) -> TrainImage:
    """The config with the share of dropped captions of a text encoder, before other flags change it."""
    return changed(config, label_drop=GLIDE_DROP) if encoder == "glide" else config


EMBEDDED_DROP = 0.5  # of captions. Ramesh et al. 2022, section 2.1


def for_embedding(config: TrainImage, clip: str) -> TrainImage:
    """The config with the share of dropped captions of a decoder, before other flags change it."""
    return changed(config, label_drop=EMBEDDED_DROP) if clip else config


def check_trunk(config: TrainImage) -> None:
    """Refuse flags of the network that is not trained.

    Raises:
        ValueError: the first of them.
    """
    dit = config.transformer.trunk == "dit"
    if dit and config.image_embedding:
        raise ValueError("`image_embedding` is for `trunk=unet`; leave it out")
    if dit and config.text.encoder == "glide":
        raise ValueError("`encoder=glide` is for `trunk=unet`; take `encoder=words`")
    usual = flat(for_trunk(TRAIN_PRESETS[config.preset], config.transformer.trunk))
    own = [*(field.name for field in fields(UNetFlags) if field.name not in ("width", "stem"))]
    for name in own if dit else ("depth", "heads", "patch"):
        if flat(config)[name] != usual[name]:
            raise ValueError(
                f"`{name}` is for `trunk={'unet' if dit else 'dit'}`; leave it out, or change `trunk`"
            )


def is_set(config: TrainImage, name: str) -> bool:
    """Whether a flag or a preset sets a field of `FROM_IMAGES`."""
    return flat(config)[name] != flat(TrainImage())[name]


def resolved(config: TrainImage, channels: int, size: int) -> TrainImage:
    """The config with the defaults that depend on the images; fields that the user set stay.

    Colour images, if no flag chooses a diffusion, are trained with x_0-prediction and min-SNR weights on the
    cosine schedule, from 48 pixels on with patches of 4 x 4: after five minutes on one core 200 photographs
    of 64 x 64 have become colours and shapes, where eps-prediction gives speckle (docs/log.md). Latents are
    trained by v-prediction without patches, and all others by DDPM with patches of 2 x 2. A transformer has
    the smallest patches of which at most 16 x 16 cover the image.

    Args:
        channels: 1 or 3.
        size: side in pixels.
    """
    chosen = (config.method, config.schedule, config.predicts, config.learned_variance, config.loss)
    free = not any(chosen) and not config.importance
    colours = channels > 1 and free and not config.latent
    usual = config.method or ("v" if config.latent and free else "ddpm")
    method = METHODS[usual]
    defaults: dict[str, object] = {
        "method": "" if colours else usual,
        "schedule": "cosine" if colours else config.schedule or method["schedule"],
        "predicts": "x0" if colours else config.predicts or method["predicts"],
        "batch_size": config.run.batch_size or (32 if channels > 1 and (colours or config.latent) else 128),
    }
    if config.min_snr is None:
        defaults["min_snr"] = 5.0 if colours else 0.0
    if config.transformer.trunk == "dit":
        sides = (p for p in (1, 2, 4, 8, 16, 32) if size % p == 0 and size <= 16 * p)
        defaults["stem"] = config.transformer.patch or config.network.stem or next(sides, 1)
    elif not config.network.stem:
        patches = (1,) if config.latent else (4, 2, 1) if colours and size >= 48 else (2, 1)
        defaults["stem"] = next(side for side in patches if size % side == 0)
    return changed(config, **defaults)


TRAIN_PRESETS = {
    "default": TrainImage(),
    "tiny": changed(
        TrainImage(),
        preset="tiny",
        width=32,
        multiples=(1, 2),
        groups=8,
        steps=1_500,
        batch_size=64,
        learning_rate=2e-3,
        warmup=100,
        save_every=500,
    ),
    "paper": changed(
        TrainImage(),
        preset="paper",
        method="ddpm",
        schedule="linear",
        predicts="eps",
        min_snr=0.0,
        data="cifar-10-binary.tar.gz",
        flip=True,
        width=128,
        multiples=(1, 2, 2, 2),
        blocks=2,
        attention=(16,),
        groups=32,
        scale_shift=False,
        dropout=0.1,
        stem=1,
        steps=800_000,
        batch_size=128,
        learning_rate=2e-4,
        warmup=5_000,
        final_fraction=1.0,
        ema_decay=0.9999,
        save_every=10_000,
    ),
}
