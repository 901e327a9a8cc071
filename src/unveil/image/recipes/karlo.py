"""Use Karlo's folders of unCLIP: load, inspect, and sample by `--checkpoint FOLDER`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unveil.errors import UnveilError

if TYPE_CHECKING:
    from torch import nn

    from unveil.image.model import ImageModel
    from unveil.image.networks.unet2d import UNet2d
    from unveil.image.recipes.config import SampleImage
    from unveil.image.unclip.unclip import Unclip
    from unveil.runs.progress import Progress

USUAL: dict[str, object] = {  # as diffusers' pipeline
    "n": 1,
    "solver": "ddpm",
    "steps": 25,
    "scale": 8.0,
    "prior_scale": 4.0,
    "candidates": 1,
}


def load_karlo(path: Path, device: str = "auto") -> Unclip:
    """The models of a folder; no code in it is run.

    Raises:
        UnveilError: it cannot be read or used.
    """
    from unveil.image.data.tokenizer_files import read_clip_tokenizer
    from unveil.image.networks.projected_text import ProjectedText
    from unveil.image.prompts.text_conditioning import TextConditioning
    from unveil.image.unclip.prior_model import PriorModel
    from unveil.image.unclip.unclip import LastStep, Unclip
    from unveil.image.weights.karlo import read_karlo
    from unveil.runs.device import find_device

    it = read_karlo(path)
    tokenizer = read_clip_tokenizer(it.tokenizer if it.tokenizer.is_dir() else None, it.clip.shape.length)

    def reading(encoder: ProjectedText) -> TextConditioning:
        return TextConditioning(tokenizer, encoder, frozen=True, chunked=False)

    clip = ProjectedText(it.clip)
    prior = PriorModel(it.prior.shape, reading(clip), it.of_prior.steps, it.of_prior.clip, unit=False)
    prior.denoiser.network = it.prior
    prior.mean, prior.std = it.mean, it.std
    decoder = _image_model(it.decoder, it.size, it.of_decoder.steps, it.decoder, reading(it.text))
    upsampler = None
    if it.upsampler is not None:
        first, last = it.upsampler
        upsampler = _image_model(first, it.large, it.of_decoder.steps, LastStep(first, last), None)
    place = find_device(device)
    models = [model.to(place).eval() for model in (prior, decoder, upsampler) if model is not None]
    return Unclip(*models)  # pyright: ignore[reportArgumentType]


def _image_model(
    unet: UNet2d, size: int, steps: int, network: nn.Module, text: nn.Module | None
) -> ImageModel:
    from unveil.image.model import ImageModel
    from unveil.image.prompts.text_conditioning import TextConditioning
    from unveil.image.shape import ImageShape

    it = unet.shape
    shape = ImageShape(
        size=size,
        channels=it.channels,
        width=it.width,
        multiples=it.multiples,
        blocks=it.blocks,
        attention=(),
        groups=it.groups,
        stem=1,
        schedule="cosine",
        diffusion_steps=steps,
        predicts="eps",
        learned_variance=it.learned_variance,
        context=it.context,
        pooled=it.vector,
        concat=it.concat,
        embedding=it.embedding,
    )
    assert text is None or isinstance(text, TextConditioning)
    return ImageModel(shape, network, text)


def inspect_karlo(path: Path) -> str:
    """Describe a folder for people."""
    from unveil.image.weights.karlo import read_karlo

    it = read_karlo(path)

    def count(*parts: nn.Module) -> str:
        return f"{sum(p.numel() for part in parts for p in part.parameters()):,} parameters"

    prior = it.prior.shape
    large = f", enlarged to {it.large} x {it.large}" if it.upsampler is not None else ""
    variance = "learns its variance" if it.of_decoder.learned else "fixed variance"
    rows = [
        ("release", "unCLIP, Karlo's layout in diffusers"),
        ("prior", f"{count(it.prior)}, {prior.layers} layers of width {prior.width}, embeddings of "
         f"{prior.embedding}, clamped at {it.of_prior.clip:g}"),
        ("decoder", f"{count(it.decoder)}, {it.decoder.shape.embedding_tokens} tokens an image embedding, "
         f"{variance}"),
        ("text", f"{count(it.clip)}, CLIP, width {it.clip.shape.width}"),
        ("images", f"{it.size} x {it.size}{large}"),
        ("upsampler", count(*it.upsampler) + ", the second network for the last step" if it.upsampler else
         "none"),
        ("diffusion", f"{it.of_decoder.steps} steps, cosine; the prior predicts x0, the decoder eps"),
        ("usable", "yes: unveil.load(PATH).sample([...]), unveil sample image --checkpoint PATH --prompt"),
    ]  # fmt: skip
    return "\n".join([str(path), *(f"  {name:<13} {text}" for name, text in rows)])


def sample_karlo(config: SampleImage, progress: Progress) -> dict[str, object]:
    """`unveil sample image` of such a folder: images of prompts."""
    import time

    import torch

    from unveil.files.digest import digest
    from unveil.image.recipes.infotexts import infotexts
    from unveil.image.recipes.reproduce import check_folder, parameters
    from unveil.image.recipes.written import protocol, write_images
    from unveil.runs.device import enough_memory

    check_karlo(config)
    place, count = Path(config.checkpoint), config.n
    check_folder(config.out, ["grid.png", *(f"{k:04d}.png" for k in range(count))])
    if config.job.threads:
        torch.set_num_threads(config.job.threads)
    model = load_karlo(place, config.job.device)
    prompts = [config.prompt[i % len(config.prompt)] for i in range(count)]
    began = time.perf_counter()
    with enough_memory():
        made = model.sample(
            prompts, config.settings_of_prior, config.settings, config.job.seed, config.batch_size
        )
    pixels, seconds = made.pixels.numpy(), time.perf_counter() - began
    files = sorted(place.rglob("*.safetensors")) + sorted(place.rglob("*.bin"))
    text = parameters(config, model.decoder.device, "+".join(map(digest, files)))
    sides = (pixels.shape[2], pixels.shape[3])
    columns = len(config.prompt) if count > len(config.prompt) > 1 else 0
    write_images(
        config, pixels, columns, text, infotexts(config, config.settings, prompts, count, sides), None
    )
    grid = config.out / "grid.png"
    return {
        "checkpoint": config.checkpoint,
        "protocol": protocol(config),
        "metrics": {"images_per_second": count / seconds, "n": count},
        "reference": {},
        "files": str(config.out),
        "summary": f"{grid}: {count} images of {', '.join(map(repr, config.prompt))}",
    }


def check_karlo(config: SampleImage) -> None:
    """Refuse settings that these models cannot follow.

    Raises:
        ValueError: such a setting.
    """
    default = type(config)()
    if not config.prompt:
        raise ValueError("this model of unCLIP makes images of texts; give `prompt`")
    names = ("given", "task", "edit", "prior", "label", "lora", "embedding", "classifier", "clip_model")
    names += ("restore", "mask", "outpaint", "depth", "map", "size", "variation", "watch", "high")
    for name in names:
        if getattr(config, name) != getattr(default, name):
            raise ValueError(f"`{name}` is not for this model, whose prior and decoder read texts alone")


def refuse_conversion(path: Path) -> str:
    """Say that there is nothing to convert.

    Raises:
        UnveilError: always.
    """
    raise UnveilError(
        f"{path}: a folder of unCLIP is used as it is: unveil sample image --checkpoint {path} --prompt TEXT"
    )
