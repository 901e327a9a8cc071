"""Settings that the trainings on a few pictures share: the base, and the pictures. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes

from unveil.checks import Bounds, check_fields
from unveil.image.data.reading import Background


@dataclass(frozen=True)
class TunedBase:
    """The model that is tuned; its weights stay as they are.

    Raises:
        ValueError: a value of another type or out of range, by name.
    """

    base: str = ""
    """text-to-image model to fine-tune: a run folder or checkpoint folder of `unveil train image
    --captions`, the name of a packaged model, a folder or file of Stable Diffusion, or org/name of the
    Hugging Face Hub. It is not copied: sampling reads it again"""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """precision of the base's U-Net and text encoder, for Stable Diffusion's files; bfloat16 takes half the
    memory. What is trained is float32"""
    min_snr: Annotated[float, Bounds(0)] | None = None
    """gamma of the min-SNR loss weights; 0 disables them; default: as in the training of the base"""
    label_drop: Annotated[float, Bounds(0, 1, below=True)] = 0.0
    """probability of dropping the caption during training"""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class FewPictures:
    """A few pictures to learn from.

    Raises:
        ValueError: a value of another type or out of range, by name.
    """

    data: str = ""
    """folder of images, or .npz or .npy file; looked for in the current folder, then in $UNVEIL_DATA"""
    size: Annotated[int, Bounds(0)] = 0
    """side of the images in pixels; 0: that of the images that the base makes"""
    fit: Literal["crop", "resize"] = "crop"
    """how images of other sizes become `size`: crop scales the shorter side and takes the middle square;
    resize ignores the aspect ratio"""
    background: Background = ""
    """colour behind transparent pixels; default: files with transparent pixels are refused"""
    skip_corrupt: bool = False
    """leave out files that cannot be read, and list them"""
    styles: tuple[str, ...] = ()
    """styles to train on, for a .npz file with a .json file beside it that names the style of each image;
    default: all but openmoji, whose licence (CC BY-SA) would extend to the weights"""
    flip: bool = False
    """mirror each image from left to right with probability 1/2"""

    def __post_init__(self) -> None:
        check_fields(self)


Tuned, TUNED = OmitArgPrefixes[TunedBase], TunedBase()
Pictures, PICTURES = OmitArgPrefixes[FewPictures], FewPictures()
