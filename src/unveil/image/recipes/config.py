"""Images: the configs. They import nothing heavy; the wiring is in `image_train.py`, `image_run.py` and `image_eval.py`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from unveil.runs.flags import Run, RunFlags, changed, flat
from unveil.runs.verb import Verb


@dataclass(frozen=True)
class TrainImage:
    """Train a diffusion model of images.

    Example: unveil train image --data fashion-mnist --classes --out runs/fashion
    """

    preset: Literal["tiny", "default", "paper"] = "default"
    """tiny proves learning in minutes; default is of about 2.7 M parameters; paper is DDPM's on CIFAR-10, for a GPU"""
    method: Literal["", "ddpm", "iddpm", "v", "edm", "flow"] = ""
    """DDPM, Improved DDPM (cosine, learned variance), v on the cosine table, EDM, or flow matching; it sets the three fields below it. By
    default ddpm for grey pictures; colour pictures are predicted themselves: --schedule cosine --predicts x0 --min-snr 5"""
    schedule: Literal["", "linear", "cosine", "flow", "karras"] = ""
    """table of betas, or flow matching's or EDM's schedule; by default that of the method"""
    predicts: Literal["", "eps", "x0", "v", "flow", "edm"] = ""
    """what the network's output means; by default that of the method"""
    learned_variance: bool = False
    """learn the variance of each step, too"""
    diffusion_steps: int = 1000
    """of the table"""
    sigma_data: float = 0.5
    """of EDM: the standard deviation of the data in -1 .. 1"""
    loss: Literal["", "simple", "hybrid", "vlb"] = ""
    """squared error; with the bound's term for a learned variance; or the bound alone. By default hybrid if the variance is learned"""
    importance: bool | None = None
    """draw times more often where the loss is large (Improved DDPM); by default with --loss vlb"""
    min_snr: float | None = None
    """gamma of min-SNR weighting; 5 as published; 0: none; by default 5 where colour pictures are predicted, else 0"""
    data: str = "fashion-mnist"
    """a folder of images, a .npz or .npy, fashion-mnist, or cifar-10-binary.tar.gz; also below $UNVEIL_DATA"""
    classes: bool = False
    """tell the network the class: subfolder, prefix of the name, or label"""
    label_drop: float = 0.1
    """probability that a sample's class is not told, for classifier-free guidance"""
    upsample: int = 1
    """tell the network the picture at 1 / upsample of its size, to enlarge others; 1: no"""
    size: int = 0
    """side in pixels; 0: that of the files"""
    fit: Literal["exact", "crop", "resize"] = "exact"
    """how other sizes become --size: refuse, the middle square, or squeeze"""
    background: Literal["", "white", "black"] = ""
    """colour under transparent places; by default such files are refused"""
    skip_corrupt: bool = False
    """leave out files that cannot be read"""
    styles: tuple[str, ...] = ()
    """of a .npz with records: only these; by default all but openmoji, whose licence would bind the weights"""
    hold_out: float = 0.05
    """share that is not trained on, where the data have no test images of their own"""
    flip: bool = False
    """mirror half of the images"""
    width: int = 48
    """channels of the first level"""
    multiples: tuple[int, ...] = (1, 2, 2)
    """channels of each level, in widths"""
    blocks: int = 1
    """residual blocks of a level, one more on the way up"""
    attention: tuple[int, ...] = (7, 8)
    """sides, in places, of the levels with attention; the middle always has it"""
    head_width: int = 0
    """channels of an attention head; 0: one head"""
    groups: int = 16
    """of GroupNorm"""
    scale_shift: bool = True
    """the time scales and shifts (AdaGN) instead of being added"""
    big_gan: bool = False
    """change sides inside residual blocks (BigGAN)"""
    dropout: float = 0.0
    """in residual blocks"""
    stem: int = 0
    """patch size: stem x stem pixels are folded into channels, which is faster; 1: none; above 2 with --predicts x0 --min-snr 5. By default
    4 where colour pictures of 48 pixels or more are predicted, else 2, or what divides the side"""
    start_from: str | None = None
    """begin with the weights of this run, checkpoint or zoo name, converted ones too, whose shape and diffusion the new run takes over"""
    run: Run = RunFlags(steps=8_000, save_every=500, out=Path("runs/image"))


@dataclass(frozen=True)
class SampleImage:
    """Make images: a grid, each by itself, and if asked how they came to be. Their PNG files hold the parameters that made them.

    Example: unveil sample image --checkpoint runs/image -n 64 --class 3 --scale 2 --out samples
    """

    checkpoint: str = "runs/image"
    """a run folder, a checkpoint folder or a zoo name"""
    n: int = 64
    """images"""
    label: tuple[int | str, ...] = ()
    """--class: which class, by number from 0 or by name; several take turns; -1: none. By default all classes in turn"""
    solver: Literal["ddim", "ddpm", "dpmpp", "heun"] = "dpmpp"
    """ddpm is ancestral and wants many steps, dpmpp and heun are of second order"""
    steps: int = 20
    """of the solver; heun calls the network twice in each"""
    spacing: Literal["even", "quadratic"] = "even"
    """of the times of ddim and ddpm on a table"""
    respacing: str = ""
    """of these instead of --steps: counts of equal sections of the table, clean to noisy, such as 25,25,50; or ddim25"""
    eta: float = 0.0
    """of ddim: 0 adds no noise on the way, 1 as much as ddpm"""
    variance: Literal["", "small", "large", "learned"] = ""
    """of ddpm; by default learned if it is, else small"""
    scale: float = 1.0
    """of classifier-free guidance; 1: none, 0: the class is ignored"""
    interval: tuple[float, float] = (0.0, 1.0)
    """t within which guidance acts"""
    rescale: float = 0.0
    """of guidance, against over-exposure, in 0 .. 1"""
    negative: int | str = -1
    """class that guidance leads away from, instead of from no class, by number or by name; -1: no class"""
    classifier: str = ""
    """a run of unveil train classifier that leads towards the classes; the model itself need not know them"""
    classifier_scale: float = 1.0
    """of the classifier's guidance"""
    classifier_form: Literal["belief", "mean"] = "belief"
    """move the belief, with any solver, or the mean of ddpm's steps (both of Dhariwal & Nichol 2021)"""
    clip: bool = True
    """keep the belief within the range of pixels"""
    threshold: float = 0.0
    """quantile of dynamic thresholding instead of clipping, such as 0.995"""
    temperature: float = 1.0
    """of ddpm's noise"""
    given: tuple[str, ...] = ()
    """--from: pictures, or folders of them, to begin from, in turn: for --task, --restore and upsamplers"""
    task: Literal["", "img2img", "inpaint", "reconstruct", "interpolate"] = ""
    """of --from: noise to --strength and back; make up what --mask hides (RePaint); to noise and back (ddim); between two (ddim)"""
    restore: Literal["", "denoise", "inpaint", "deblur", "superres"] = ""
    """of --from, damaged so: sample what fits the measurement"""
    strength: float = 0.6
    """of img2img: t that pictures are noised to; 1 forgets them"""
    mask: str = ""
    """of inpaint: a picture whose bright half is made up"""
    jumps: int = 1
    """of --task inpaint: how often each stretch of --jump-length steps is walked; 10 as RePaint"""
    jump_length: int = 10
    """steps that a jump goes back"""
    noise: float = 5.0
    """of --restore: standard deviation of the noise in the pictures, in levels of 0 .. 255"""
    blur: float = 1.0
    """of --restore deblur: standard deviation of the blur in pixels"""
    factor: int = 2
    """of --restore superres: how many times larger"""
    degrade: bool = False
    """the pictures of --from are whole: damage (or shrink) them first, and measure how well they are restored"""
    fit: Literal["exact", "crop", "resize"] = "exact"
    """how pictures of other sizes become the model's: refuse, the middle square, or squeeze"""
    background: Literal["", "white", "black"] = ""
    """colour under transparent places"""
    batch_size: int = 64
    """images at a time; less needs less memory"""
    out: Path = Path("samples")
    """folder: grid.png, 0000.png and so on, and denoising.gif with --watch"""
    from_png: Path | None = None
    """repeat what made this PNG, bit for bit on the same machine; only --out, --device, --threads, --watch and --json are heeded"""
    watch: bool = False
    """write an animation of the belief about the first batch"""
    seed: int = 0
    """of the noise"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:0 or mps"""
    threads: int = 0
    """CPU threads; 0 lets torch decide"""
    json: str | None = None
    """write the numbers here; - is standard output"""


@dataclass(frozen=True)
class EvalImage:
    """Score a model's images beside the data: distances, precision and recall over a named extractor, memorisation, bits a dimension.

    Example: unveil eval image --checkpoint runs/image --n 2000 --json image.json
    """

    checkpoint: str = "runs/image"
    """a run folder, a checkpoint folder or a zoo name"""
    data: str | None = None
    """what to compare with, as in training; by default the model's own data"""
    n: int = 2000
    """images to make, and to compare with"""
    extractor: Literal["auto", "squeezenet", "judge", "pixels"] = "auto"
    """features that are compared: SqueezeNet's of $UNVEIL_DATA/models, --judge's, or the pixels; auto takes SqueezeNet if it is there"""
    judge: str = ""
    """a run of unveil train classifier --clean that tells which images are of the class that was asked; by default a linear classifier
    of the extractor's features"""
    bits: int = -1
    """held-out images to bound in bits a dimension, which calls the network once for each step of the table; 0: none; by default 32, where
    the model has a table and images were held out"""
    bits_variance: Literal["small", "large"] = "large"
    """of a model that did not learn it"""
    solver: Literal["ddim", "ddpm", "dpmpp", "heun"] = "dpmpp"
    """as of unveil sample image"""
    steps: int = 20
    """of the solver"""
    spacing: Literal["even", "quadratic"] = "even"
    """of the times of ddim and ddpm on a table"""
    respacing: str = ""
    """of these instead of --steps: counts of equal sections of the table, clean to noisy, such as 25,25,50; or ddim25"""
    eta: float = 0.0
    """of ddim"""
    variance: Literal["", "small", "large", "learned"] = ""
    """of ddpm"""
    scale: float = 1.0
    """of classifier-free guidance"""
    interval: tuple[float, float] = (0.0, 1.0)
    """t within which guidance acts"""
    rescale: float = 0.0
    """of guidance, against over-exposure, in 0 .. 1"""
    negative: int = -1
    """class that guidance leads away from, instead of from no class"""
    classifier: str = ""
    """a run of unveil train classifier that leads towards the classes"""
    classifier_scale: float = 1.0
    """of its guidance"""
    classifier_form: Literal["belief", "mean"] = "belief"
    """as of unveil sample image"""
    clip: bool = True
    """keep the belief within the range of pixels"""
    threshold: float = 0.0
    """quantile of dynamic thresholding instead of clipping, such as 0.995"""
    temperature: float = 1.0
    """of ddpm's noise"""
    batch_size: int = 100
    """images at a time; less needs less memory"""
    seed: int = 0
    """of the noise"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:0 or mps"""
    threads: int = 0
    """CPU threads; 0 lets torch decide"""
    json: str | None = None
    """write the result here; - is standard output"""


UNSAID = (
    "method",
    "schedule",
    "predicts",
    "min_snr",
    "stem",
    "batch_size",
)  # what follows from the pictures by default


METHODS = {
    "ddpm": {"schedule": "linear", "predicts": "eps", "learned_variance": False},
    "iddpm": {"schedule": "cosine", "predicts": "eps", "learned_variance": True},
    "v": {"schedule": "cosine", "predicts": "v", "learned_variance": False},
    "edm": {"schedule": "karras", "predicts": "edm", "learned_variance": False},
    "flow": {"schedule": "flow", "predicts": "flow", "learned_variance": False},
}


def for_method(config: TrainImage, method: str) -> TrainImage:
    """The config with what a method means, before other flags change it; "" leaves it to the pictures.

    Raises:
        ValueError: no such method.
    """
    if not method:
        return config
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; methods: {', '.join(METHODS)}")
    return replace(config, method=method, **METHODS[method])  # pyright: ignore[reportArgumentType]


def said(config: TrainImage, name: str) -> bool:
    """Whether a field of `UNSAID` was given."""
    value = flat(config)[name]
    return value not in ("", None) and (name not in ("stem", "batch_size") or value != 0)


def resolved(config: TrainImage, channels: int, size: int) -> TrainImage:
    """The config with what follows from the pictures; what was said stays.

    Colour pictures, of which nothing is said about the diffusion, are predicted themselves, by min-SNR weights on the cosine table, and
    from 48 pixels on in patches of 4 x 4: after five minutes on one core 200 photographs of 64 x 64 have become colours and shapes, where
    predicted noise is speckle (docs/log.md). All else is by DDPM on patches of 2 x 2.

    Args:
        channels: 1 or 3.
        size: side in pixels.
    """
    asked = (
        config.method
        or config.schedule
        or config.predicts
        or config.learned_variance
        or config.loss
        or config.importance
    )
    colours = channels > 1 and not asked
    method = METHODS[config.method or "ddpm"]
    given: dict[str, object] = {
        "method": "" if colours else config.method or "ddpm",
        "schedule": "cosine" if colours else config.schedule or method["schedule"],
        "predicts": "x0" if colours else config.predicts or method["predicts"],
        "batch_size": config.run.batch_size or (32 if colours else 128),
    }
    if config.min_snr is None:
        given["min_snr"] = 5.0 if colours else 0.0
    if not config.stem:
        given["stem"] = next(
            side for side in ((4, 2, 1) if colours and size >= 48 else (2, 1)) if size % side == 0
        )
    return changed(config, **given)


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


@dataclass(frozen=True)
class DemoImage:
    """Make images with a packaged model: a picture with a column for each class, and an animation of how they come out of noise.

    Example: unveil demo image --out demo
    """

    checkpoint: str | None = None
    """a zoo name, a run folder or a checkpoint folder; by default a packaged model of images"""
    rows: int = 6
    """images of each class"""
    scale: float = 2.0
    """of classifier-free guidance, where the model was trained for it"""
    steps: int = 20
    """of DPM-Solver++"""
    out: Path = Path("demo")
    """folder for images.png and images.gif"""
    seed: int = 0
    """of the noise"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:0 or mps"""


TRAIN = Verb(
    TRAIN_PRESETS,
    "image.recipes.train:train_image",
    "a diffusion model of images",
    (
        "preset",
        "data",
        "classes",
        "size",
        "fit",
        "method",
        "width",
        "flip",
        "steps",
        "batch_size",
        "learning_rate",
        "out",
        "resume",
    ),
    fit=lambda config, given: for_method(config, given("method") or config.method),
    after="image.recipes.next_step:after_training",
    aliases={"--samples": "--sample-every 0", "--no-samples": "--sample-every -1"},
)
EVAL = Verb(
    {"default": EvalImage()},
    "image.recipes.evaluate:evaluate_image",
    "distances to the data, memorisation, bits per dimension",
    ("checkpoint", "data", "n", "extractor", "judge", "bits", "solver", "steps", "json"),
)
SAMPLE = Verb(
    {"default": SampleImage()},
    "image.recipes.sample:sample_image",
    "images from noise, from classes or from other images",
    (
        "checkpoint",
        "n",
        "label",
        "solver",
        "steps",
        "scale",
        "given",
        "task",
        "restore",
        "from_png",
        "out",
        "watch",
        "seed",
    ),
    aliases={"-n": "--n", "--class": "--label", "--from": "--given"},
)
DEMO = Verb(
    {"default": DemoImage()}, "image.recipes.demo:run_demo_image", "images by class", ("checkpoint", "out")
)
