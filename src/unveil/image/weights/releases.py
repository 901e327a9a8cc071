"""Read `.pt` files of image models and classifiers, of OpenAI and of denoising-diffusion-pytorch."""

from pathlib import Path
from typing import cast

from torch import Tensor

from unveil.errors import UnveilError
from unveil.files.pickles import nothing
from unveil.files.torch_save import Form, read_torch
from unveil.image.weights import denoising_diffusion_pytorch as denoising_diffusion
from unveil.image.weights import openai as openai_diffusion
from unveil.image.weights import openai_classifier
from unveil.image.weights.description import (
    Classifier2dShape,
    ImageWeights,
    LinearUNet2dShape,
    UNet2dShape,
    placed,
    state_dict,
)


def _plain(tree: object) -> object:
    """The parts that are read: a state dict, or model, average and step of a milestone."""
    if isinstance(tree, dict) and isinstance(tree.get("model"), dict):
        return {name: tree[name] for name in ("model", "ema", "step") if name in tree}
    return tree


FORM = Form(nothing, nothing, _plain, largest=16 * 2**30, operations=2_000_000, deepest=16, zipped=False)


def read_images_file(file: Path, size: int = 0, flags: str = "") -> ImageWeights:
    """An image model of a `.pt` file. Openai's files hold the weights or their average (`ema_*.pt`), each by
    itself.

    Args:
        size: side in pixels, of a milestone, which does not say it, or of openai's, in place of the flag.
        flags: of openai's scripts, such as "image_size=64 num_heads=4"; not needed for the released files
            under their own names.
    Raises:
        UnveilError: missing, damaged, with anything in it that does not belong there, or a model that ours
            cannot be.
    """
    tree = read_torch(file, FORM)
    inside = cast(dict[str, object], tree).get("model", tree) if isinstance(tree, dict) else {}
    names = cast(dict[object, object], inside) if isinstance(inside, dict) else ()
    if any(".blocks.0.block." in str(name) for name in names):
        raise UnveilError(
            f"{file}: a checkpoint of jannerm/diffuser, no image model; alone it does not say what it is: "
            f"give its folder, with the *_config.pkl beside it ({file.parent})"
        )
    try:
        if isinstance(tree, dict) and "model" in tree:
            return _milestone(cast(dict[str, object], tree), size)
        tensors = state_dict("it", tree)
        if not openai_diffusion.is_unet(tensors):
            raise ValueError(
                "neither a state dict of openai's U-Nets nor a milestone of denoising-diffusion-pytorch"
            )
        return _openai(tensors, openai_diffusion.read_flags(flags, file.stem), size)
    except ValueError as error:
        raise UnveilError(f"{file}: an image model that cannot be used: {error}") from error


def _openai(tensors: dict[str, Tensor], flags: dict[str, str], size: int) -> ImageWeights:
    if openai_classifier.is_classifier(tensors):
        if size:
            flags["image_size"] = str(size)
        described = openai_classifier.describe(tensors, flags)
        assert isinstance(described.network, Classifier2dShape)
        inside, table = openai_classifier.pooled(tensors), openai_classifier.names(described.network)
    else:
        if size:
            flags["large_size" if openai_diffusion.is_upsampler(tensors) else "image_size"] = str(size)
        described = openai_diffusion.describe(tensors, flags)
        shape = described.network
        assert isinstance(shape, UNet2dShape)
        older = not openai_diffusion.yes(openai_diffusion.DEFAULTS | flags, "use_new_attention_order")
        inside = openai_diffusion.ordered(tensors, shape.heads, shape.head_width, older)
        table = openai_diffusion.names(shape)
    return ImageWeights(described, placed(inside, table, described.network), None, {})


def _milestone(tree: dict[str, object], size: int) -> ImageWeights:
    tensors = state_dict("its model", tree["model"])
    if not denoising_diffusion.is_milestone(tensors):
        raise ValueError("its model is no GaussianDiffusion of denoising-diffusion-pytorch")
    described = denoising_diffusion.describe(tensors, size)
    shape = described.network
    assert isinstance(shape, LinearUNet2dShape)

    def ours(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
        return placed(denoising_diffusion.network_tensors(theirs), denoising_diffusion.names(shape), shape)

    averaged = None
    if tree.get("ema"):
        every, start = state_dict("its ema", tree["ema"]), denoising_diffusion.AVERAGE
        averaged = ours({n.removeprefix(start): value for n, value in every.items() if n.startswith(start)})
    step = tree.get("step")
    notes = {"step": step} if type(step) is int and 0 <= step < 10**12 else {}
    return ImageWeights(described, ours(tensors), averaged, notes)


def is_image(path: Path) -> bool:
    """Whether a path is a `.pt` file or a folder of diffusers; the weights are not read."""
    from unveil.image.weights.diffusers import is_diffusers

    return (path.suffix in (".pt", ".pth") and path.is_file()) or (path.is_dir() and is_diffusers(path))


def read_images(path: Path, size: int = 0, flags: str = "") -> ImageWeights:
    """Read a file of `read_images_file` or a folder of diffusers.

    Raises:
        UnveilError: it cannot be read, or cannot be used.
    """
    from unveil.image.weights.diffusers import read_images_folder

    if not path.is_dir():
        return read_images_file(path, size, flags)
    if flags:
        raise UnveilError(f"{path}: a folder of diffusers says what it is; leave `flags` out")
    return read_images_folder(path, size)
