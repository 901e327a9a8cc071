"""Names of a base model's layers in LoRA files: kohya's, those of diffusers old and new, and PEFT's.

Every name is resolved to diffusers' path of the module in the U-Net, such as
`down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q`, or in the text encoder, such as
`text_model.encoder.layers.0.self_attn.q_proj`. In kohya's names dots became underscores, which is never
undone by a pattern: the paths of the base are flattened in the same way and compared.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from unveil.image.adapters import Part

Piece = Literal["down", "up", "alpha"]
TEXT_MODEL = "text_model."
KOHYA: dict[Part, str] = {"unet": "lora_unet_", "text_encoder": "lora_te_"}
_PIECES: tuple[tuple[str, Piece], ...] = (
    (".lora_down.weight", "down"),
    (".lora_up.weight", "up"),
    ("_lora.down.weight", "down"),
    ("_lora.up.weight", "up"),
    (".lora.down.weight", "down"),
    (".lora.up.weight", "up"),
    (".lora_linear_layer.down.weight", "down"),
    (".lora_linear_layer.up.weight", "up"),
    (".lora_A.weight", "down"),
    (".lora_B.weight", "up"),
    (".lora_A.default.weight", "down"),
    (".lora_B.default.weight", "up"),
    (".alpha", "alpha"),
)
_OTHER_KINDS = (
    (r"hada_", "a LoHa"),
    (r"lokr_", "a LoKr"),
    (r"dora_scale|lora_magnitude_vector", "a DoRA"),
    (r"lora_mid\.", "a LoCon in Tucker form (lora_mid)"),
    (r"oft_", "an OFT"),
    (r"(a1|a2|b1|b2)\.weight", "a GLoRA"),
    (r"on_input", "an IA3"),
    (r"diff(_b)?$", "full differences of weights (diff)"),
    (r"lora_embedding_", "an adapter of word embeddings"),
)
_OLD_TEXT = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}
_OTHER_BASES = (
    (r"lora_te[12]_|text_encoder_2\.|lora_unet_.*(label_emb|add_embedding)", "Stable Diffusion XL"),
    (
        r"(transformer|diffusion_model)\.|lora_transformer_|lora_unet_(double|single)_blocks",
        "a diffusion transformer, such as Flux or Stable Diffusion 3",
    ),
    (r"lora_prior_|prior\.", "a prior of unCLIP"),
)


@dataclass(frozen=True)
class BaseLayers:
    """The layers of a base model that LoRA files name.

    Args:
        unet: diffusers' module path in the U-Net to ours.
        text_encoder: transformers' module path in the text encoder, with `text_model.`, to ours.
        compvis: CompVis' module path in the U-Net to diffusers'; some files of kohya use these.
    """

    unet: Mapping[str, str]
    text_encoder: Mapping[str, str] = field(default_factory=dict)
    compvis: Mapping[str, str] = field(default_factory=dict)

    def ours(self, part: Part) -> Mapping[str, str]:
        """Paths of one part to our paths."""
        return self.unet if part == "unet" else self.text_encoder


def modules(parameters: Mapping[str, str]) -> dict[str, str]:
    """Their module paths to ours, of a table of parameters from our names to theirs."""
    return {
        theirs.removesuffix(".weight"): ours.removesuffix(".weight")
        for ours, theirs in parameters.items()
        if theirs.endswith(".weight")
    }


def flattened(paths: Iterable[str], prefix: str) -> dict[str, str]:
    """Kohya's names of module paths to the paths.

    Raises:
        ValueError: two paths have one name.
    """
    table: dict[str, str] = {}
    for path in paths:
        name = prefix + path.replace(".", "_")
        if table.setdefault(name, path) != path:
            raise ValueError(f"{path} and {table[name]} have one name in kohya's files: {name}")
    return table


def kohya_table(layers: BaseLayers) -> dict[str, tuple[Part, str]]:
    """Kohya's module names of a base to its parts and diffusers' paths; those of CompVis as well."""
    table: dict[str, tuple[Part, str]] = {}
    for name, path in flattened(layers.compvis, KOHYA["unet"]).items():
        table[name] = ("unet", layers.compvis[path])
    for part in ("unet", "text_encoder"):
        for name, path in flattened(layers.ours(part), KOHYA[part]).items():
            table[name] = (part, path)
    return table


def split_piece(name: str) -> tuple[str, Piece]:
    """The module and the piece of a tensor's name, which ends in one of the known forms.

    Raises:
        ValueError: another kind of adapter, which is named, or no tensor of LoRA.
    """
    for pattern, kind in _OTHER_KINDS:
        if re.search(rf"\.(?:{pattern})", name):
            raise ValueError(f"it is {kind}, which is not supported; plain LoRA and LoCon are")
    for suffix, piece in _PIECES:
        if name.endswith(suffix) and len(name) > len(suffix):
            old = suffix.startswith("_lora.")
            return _without_processor(name.removesuffix(suffix)) if old else name.removesuffix(suffix), piece
    raise ValueError(f"{name[:80]} is no tensor of a LoRA file")


def resolve(
    module: str, layers: BaseLayers, kohya: Mapping[str, tuple[Part, str]]
) -> tuple[Part, str] | None:
    """The part and diffusers' path of a module's name in a file; None if the base has no such layer.

    Args:
        kohya: `kohya_table` of the layers.
    """
    module = module.removeprefix("base_model.model.")
    if module in kohya:
        return kohya[module]
    if module.startswith("text_encoder."):
        return _text(module.removeprefix("text_encoder."), layers)
    path = module.removeprefix("unet.").removeprefix("base_model.model.")
    if path in layers.unet:
        return "unet", path
    return None if module.startswith("unet.") else _text(module, layers)


def other_base(module: str) -> str:
    """Which base a module's name belongs to, if it is a known other one; "" if unknown."""
    return next((base for pattern, base in _OTHER_BASES if re.match(pattern, module)), "")


def _text(path: str, layers: BaseLayers) -> tuple[Part, str] | None:
    path = TEXT_MODEL + path.removeprefix("base_model.model.").removeprefix(TEXT_MODEL)
    return ("text_encoder", path) if path in layers.text_encoder else None


def _without_processor(module: str) -> str:
    """The layer of an old name: `attn1.processor.to_out` is attn1.to_out.0, `self_attn.to_q` is q_proj."""
    path, _, layer = module.rpartition(".")
    if path.endswith(".self_attn"):
        return f"{path}.{_OLD_TEXT.get(layer, layer)}"
    return f"{path.removesuffix('.processor')}.{'to_out.0' if layer == 'to_out' else layer}"
