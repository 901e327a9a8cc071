"""The card of packaged autoencoders, with scores beside their references."""

from __future__ import annotations

from pathlib import Path

from unveil.files.json_objects import JsonObject
from unveil.image.recipes.card import scores, trained_with
from unveil.runs.card import flags_of


def autoencoder_card(name: str, checkpoint: Path, described: JsonObject, results: tuple[Path, ...]) -> str:
    """The card of an autoencoder, with its scores beside their references."""
    from unveil.image.recipes.autoencoder.config import TRAIN_PRESETS
    from unveil.image.recipes.autoencoder.load import shape_of

    flags = flags_of(described | {"size": described["asked_size"]}, TRAIN_PRESETS)
    data, size = Path(described["data"]).name, described["size"]
    side = size // shape_of(described).factor
    lines = [
        f"# {name}",
        "",
        f"An autoencoder of {size} x {size} images with {described['channels']} channels, whose codes are "
        f"{side} x {side} x {described['latent']}: convolutions of width {described['width']}.",
        "",
        *trained_with("autoencoder", checkpoint, described, flags, ", without the discriminator"),
        *scores("autoencoder", name, data, results),
    ]
    return "\n".join(lines) + "\n"
