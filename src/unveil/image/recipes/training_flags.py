"""Settings that both image trainings share: the data and the network. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import OmitArgPrefixes

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
    """folder of images, .npz or .npy file, fashion-mnist, or cifar-10-binary.tar.gz; relative to this folder
    or to $UNVEIL_DATA"""
    reading: OmitArgPrefixes[Reading] = READING
    styles: tuple[str, ...] = ()
    """styles to train on, for a .npz file with records; by default all but openmoji, whose licence would bind
    the weights"""
    hold_out: Annotated[float, Bounds(0, 1, below=True)] = 0.05
    """fraction of the images to hold out, if the data have no test images of their own"""
    flip: bool = False
    """mirror half of the images from left to right"""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class UNetFlags:
    """Shape of the U-Net, or of the first half of it that a classifier is.

    Raises:
        ValueError: a value of another type or out of range, by name.
    """

    width: Positive = 48
    """channels of the first level"""
    multiples: tuple[Positive, ...] = (1, 2, 2)
    """channels of each level as multiples of --width"""
    blocks: Positive = 1
    """residual blocks per level; the U-Net's way up has one more"""
    attention: tuple[int, ...] = (7, 8)
    """feature map sides of the levels with attention; the middle always has it"""
    head_width: Annotated[int, Bounds(0)] = 0
    """channels per attention head; 0: a single head"""
    groups: Positive = 16
    """number of groups of GroupNorm"""
    scale_shift: bool = True
    """time embeddings scale and shift the features (AdaGN) instead of being added"""
    big_gan: bool = False
    """resample inside residual blocks (BigGAN) instead of by convolutions"""
    dropout: Annotated[float, Bounds(0, 1, below=True)] = 0.0
    """dropout probability in residual blocks"""
    stem: Annotated[int, Bounds(0)] = 0
    """patch size: stem x stem pixels are folded into channels, which is faster; 1 disables it; for more than
    2 use --predicts x0 --min-snr 5. By default 4 for colour images of 48 pixels or more, else 2, or what
    divides the side"""

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.multiples:
            raise ValueError("`multiples` must have at least one number")


Data, IMAGES = OmitArgPrefixes[TrainingImages], TrainingImages()
Network, NETWORK = OmitArgPrefixes[UNetFlags], UNetFlags()
