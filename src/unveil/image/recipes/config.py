"""Configs of the image recipes; free of torch. The wiring of each verb is in the module of its name."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes, arg

from unveil.checks import Bounds, check_fields
from unveil.image.cascade_settings import Cascade
from unveil.image.data.reading import Background, Fit
from unveil.image.high_resolution import HighResolution
from unveil.image.recipes.train_config import TRAIN_PRESETS, for_embedding, for_encoder, for_method, for_trunk
from unveil.image.recipes.train_config import TrainImage as TrainImage
from unveil.image.recipes.train_config import resolved as resolved
from unveil.image.settings import ImageSettings
from unveil.image.unclip.prior_settings import PriorSettings
from unveil.runs.flags import Job, JobFlags
from unveil.runs.verb import Verb

Settings = OmitArgPrefixes[ImageSettings]
Prior, PRIOR = OmitArgPrefixes[PriorSettings], PriorSettings()
High = OmitArgPrefixes[HighResolution]
Upsampled = OmitArgPrefixes[Cascade]
SAMPLING, HIGH, CASCADE = ImageSettings(), HighResolution(), Cascade()


@dataclass(frozen=True)
class SampleImage:
    """Sample images: a PNG file of each, a grid of all, and with --watch an animation. The PNG files hold the
    settings that made them.

    Example: unveil sample image --checkpoint runs/image -n 64 --class 3 --scale 2 --out samples
    """

    checkpoint: str = "runs/image"
    """run folder, checkpoint folder, or name of a packaged model such as fashion-mnist (see `unveil
    weights`); a folder or file of Stable Diffusion; or org/name of the Hugging Face Hub"""
    n: Annotated[int, Bounds(1)] = 64
    """number of images; with `prompt` and Stable Diffusion the default is 1"""
    label: Annotated[tuple[int | str, ...], arg(name="class")] = ()
    """classes of the images in turn, by number from 0 or by name; -1: unconditional; default: all classes in
    turn"""
    prompt: tuple[str, ...] = ()
    """texts that describe the images, used in turn, for models that were trained on captions; default: no
    text"""
    lora: tuple[str, ...] = ()
    """LoRA files for the model, of kohya, diffusers or PEFT, each FILE or FILE:0.8; and folders in which
    <lora:name:0.8> of a prompt finds its file"""
    embedding: tuple[str, ...] = ()
    """files of learned words (textual inversion) for the model, of diffusers, AUTOMATIC1111 or kohya, which
    prompts may then contain"""
    settings: Settings = SAMPLING
    high: High = HIGH
    cascade: Upsampled = CASCADE
    classifier: str = ""
    """run folder of `unveil train classifier`, whose gradient guides towards the classes; the model itself
    may be unconditional; default: no classifier"""
    clip_model: str = ""  # `clip` is a setting
    """run folder of `unveil train clip --noised` (or of GLIDE's, converted), whose gradient guides towards
    `prompt`; the model itself need not read prompts; default: no CLIP"""
    prior: str = ""
    """run folder of `unveil train prior`, which draws an image embedding for each `prompt`, for decoders of
    unCLIP (trained with `image_embedding`); or text: the prompt's own embedding takes its place. Default: the
    decoder's embedding of no image"""
    settings_of_prior: Prior = PRIOR
    given: Annotated[tuple[str, ...], arg(name="from")] = ()  # `from` is a keyword of Python
    """image files, or folders of them, used in turn: input of `task`, `restore`, `outpaint` and upsamplers
    (there also --upscale)"""
    task: Literal["", "img2img", "inpaint", "reconstruct", "interpolate", "variations"] = ""
    """what to do with the images of `given`. img2img: noise them to `strength` and denoise them; inpaint:
    generate the part that `mask` covers (RePaint); reconstruct: invert them to noise and sample from it
    (`solver=ddim`); interpolate: sample between the noises of two images (`solver=ddim`), with a decoder of
    unCLIP also between their embeddings; variations: sample anew, by a decoder of unCLIP, from the embedding
    of the image and the noise that it is inverted to (`eta` 1)"""
    edit: tuple[str, ...] = ()
    """two texts, such as "a red circle" "a blue circle": a decoder of unCLIP changes the images of `given` by
    their difference"""
    edit_share: Annotated[float, Bounds(0, 1)] = 0.4
    """largest change by `edit`, as a share of the angle between the image and the difference of the texts; n
    images go there from no change"""
    restore: Literal["", "denoise", "inpaint", "deblur", "superres"] = ""
    """kind of degradation of the images of `given`, which are restored: sampling is guided towards images
    whose degradation equals them. denoise: noise; inpaint: the part that `mask` covers is missing; deblur:
    Gaussian blur; superres: low resolution"""
    mask: str = ""
    """image file for inpainting: where it is brighter than half, the image is generated"""
    low: tuple[str, ...] = ()
    """small image files, used in turn, that GLIDE's upsampler for inpainting enlarges, beside `given` and
    `mask` of its own size"""
    outpaint: tuple[Annotated[int, Bounds(0, 8192)], ...] = ()
    """pixels to add on the left, at the top, on the right and at the bottom of the images of `given`, which
    keep their size (with `fit`: the model's) and their pixels; what is added is generated, as by
    `task=inpaint`"""
    depth: tuple[str, ...] = ()
    """depth maps as grey image files, used in turn, brighter where nearer, for Stable Diffusion's models that
    see depth, with or without `task=img2img`"""
    map: tuple[str, ...] = ()
    """semantic maps, used in turn, for models that were trained with `concat=map`: image files whose grey
    levels, or numbers of colours in a palette, are the labels"""
    noise_level: Annotated[int, Bounds(0, 1000)] = 20
    """noise added to images before they are enlarged, as an entry of a table of 1000, by Stable Diffusion's
    x4 upscaler and upsamplers that were trained with `concat=lowres`; larger values hide flaws of the small
    images and invent more detail"""
    noise: Annotated[float, Bounds(0, inf, above=True, below=True)] = 5.0
    """standard deviation of the noise in the images, in levels of 0 .. 255, with `restore`"""
    blur: Annotated[float, Bounds(0, inf, above=True, below=True)] = 1.0
    """standard deviation of the Gaussian blur, in pixels, with `restore=deblur`"""
    factor: Annotated[int, Bounds(1)] = 2
    """factor by which the images are enlarged, with `restore=superres`"""
    degrade: bool = False
    """degrade the images of `given` first (for an upsampler, shrink them), and print the PSNR of the results
    beside that of simple filters; use it with intact images, to measure the restoration"""
    fit: Fit = "exact"
    """how images of `given` become the model's size: exact refuses other sizes; crop scales the shorter side
    and takes the middle square; resize ignores the aspect ratio"""
    background: Background = ""
    """colour behind transparent pixels of the images of `given`; default: such images are refused"""
    size: tuple[Annotated[int, Bounds(1, 8192)], ...] = ()
    """width and height of the images in pixels, for models that can make other sizes than those of their
    training; images of `given` must have it. Default: the size of the training"""
    variation: Annotated[float, Bounds(0, 1)] = 0.0
    """variations of the image of `seed`: the noise of each image lies between that of `seed` (0) and that of
    `variation_seed` (1), and small numbers change the image a little"""
    variation_seed: Annotated[int, Bounds(0, 2**63 - 1)] = 1
    """seed of the first variation with `variation` above 0, plus 1 for each further image"""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """precision of the U-Net and the text encoder of Stable Diffusion's files; bfloat16 and float16 take half
    the memory"""
    batch_size: Annotated[int, Bounds(1)] = 64
    """images per batch; lower it if memory runs out"""
    out: Path = Path("samples")
    """output folder for grid.png, 0000.png and so on, and with `watch` denoising.gif; pictures of an
    earlier run there are removed"""
    from_png: Path | None = None
    """PNG file that unveil sampled: all images of its command are made again, bit for bit on the same
    machine; of the other flags only `out`, `device`, `threads`, `watch` and `json` are used"""
    watch: bool = False
    """write denoising.gif, an animation of the predicted clean images during sampling"""
    job: Job = JobFlags()

    def __post_init__(self) -> None:
        check_fields(self)
        if len(self.size) not in (0, 2):
            raise ValueError(f"`size` is a width and a height, got {len(self.size)} numbers")
        if len(self.outpaint) not in (0, 4):
            raise ValueError(
                f"`outpaint` is four numbers of pixels: left, top, right, bottom; got {len(self.outpaint)}"
            )
        if self.outpaint and (self.task not in ("", "inpaint") or self.restore or self.mask or self.size):
            raise ValueError(
                "`outpaint` generates around images of `given`; leave out `task`, `restore`, `mask`, `size`"
            )
        if len(self.edit) not in (0, 2):
            raise ValueError(f"`edit` is two texts, before and after; got {len(self.edit)}")
        if self.high.hires > 1.0 and (self.given or self.task or self.restore or self.depth):
            raise ValueError("`hires` is for images from noise; leave out `given`, `task` and `depth`")
        changed = ("degrade", self.degrade), ("restore", self.restore), ("outpaint", self.outpaint)
        changed = *changed, ("hires", self.high.hires > 1.0), ("size", self.size)
        if self.cascade.upsampler and (wrong := [name for name, given in changed if given]):
            raise ValueError(f"`upsampler` enlarges images of the model's size; leave `{wrong[0]}` out")
        if self.variation and (self.task in ("reconstruct", "interpolate", "variations") or self.edit):
            what = "edit" if self.edit else f"task={self.task}"
            raise ValueError(f"`variation` changes noise, and `{what}` has its own; leave it out")


@dataclass(frozen=True)
class EvalImage:
    """Score images against the data: distances, precision and recall of named features, memorisation, bits
    per dimension.

    Example: unveil eval image --checkpoint runs/image --n 2000 --json image.json
    """

    checkpoint: str = "runs/image"
    """run folder, checkpoint folder, or name of a packaged model such as fashion-mnist (see `unveil
    weights`)"""
    data: str | None = None
    """images to compare with, as `unveil train image --data` takes them; default: the model's own data"""
    n: Annotated[int, Bounds(4)] = 2000
    """number of images to sample, and of training images to compare them with; the data must have twice as
    many"""
    extractor: Literal["auto", "squeezenet", "judge", "pixels"] = "auto"
    """features to compare: those of SqueezeNet (whose weights are not part of unveil; they are read from
    $UNVEIL_DATA/models/squeezenet1_0_imagenet.npz), those of `judge`, or pixels; auto takes SqueezeNet if its
    weights are there, else pixels"""
    judge: str = ""
    """run folder of `unveil train classifier --clean`, which measures the class accuracy: the fraction of
    images of the requested class; default: a linear classifier of the features"""
    bits: Annotated[int, Bounds(-1)] = -1
    """number of held-out images for bits per dimension, with one network call per step of the model's table
    of betas; 0: none; -1: 32 if the model has such a table and images were held out, else none"""
    bits_variance: Literal["small", "large"] = "large"
    """variance of the steps in the bits per dimension, if the model did not learn it"""
    settings: Settings = SAMPLING
    classifier: str = ""
    """run folder of `unveil train classifier`, whose gradient guides the samples; default: no classifier"""
    batch_size: Annotated[int, Bounds(1)] = 100
    """images per batch; lower it if memory runs out"""
    job: Job = JobFlags()

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class DemoImage:
    """Sample images from a packaged model: a picture with a column per class, and an animation of the
    sampling.

    Example: unveil demo image --out demo
    """

    checkpoint: str | None = None
    """run folder, checkpoint folder, or name of a packaged model (see
    `unveil weights`); default: fashion-mnist, which is packaged"""
    rows: Annotated[int, Bounds(1)] = 6
    """images per class"""
    scale: float = 2.0
    """scale of classifier-free guidance, if the model was trained with classes; 1 disables it"""
    steps: int = 20
    """number of steps of DPM-Solver++"""
    out: Path = Path("demo")
    """output folder for images.png and images.gif"""
    seed: int = 0
    """seed of the noise"""
    device: str = "auto"
    """device: auto, cpu, cuda, cuda:0 or mps; auto takes the fastest that is available"""

    def __post_init__(self) -> None:
        check_fields(self)


TRAIN = Verb(
    TRAIN_PRESETS,
    "image.recipes.train:train_image",
    "a diffusion model of images",
    "preset data classes size fit method width flip steps batch_size learning_rate out resume",
    fit=lambda config, given: for_embedding(
        for_encoder(
            for_trunk(for_method(config, given("method") or config.method), given("trunk") or ""),
            given("encoder") or "",
        ),
        given("image_embedding") or "",
    ),
    after="image.recipes.next_step:after_training",
    aliases={"--samples": "--sample-every 0", "--no-samples": "--sample-every -1"},
)
EVAL = Verb(
    {"default": EvalImage()},
    "image.recipes.evaluate:evaluate_image",
    "distances to the data, memorisation, bits per dimension",
    "checkpoint data n extractor judge bits solver steps json",
)
SAMPLE = Verb(
    {"default": SampleImage()},
    "image.recipes.sample:sample_image",
    "images from noise, from classes or from other images",
    "checkpoint n label prompt negative solver steps scale size given task restore from_png out watch seed",
    settle="image.recipes.sample:with_usual",
    aliases={
        "-n": "--n",
        "--label": "--class",  # this one and the next are older
        "--given": "--from",
        "--upscale": "--from",
        "--variations": "--task variations --from",
        "--interpolate": "--task interpolate --from",
    },
)
DEMO = Verb(
    {"default": DemoImage()}, "image.recipes.demo:run_demo_image", "images by class", "checkpoint out"
)
