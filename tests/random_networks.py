"""LoRA files and a learned word with random weights for the packaged shapes-text."""

from pathlib import Path

import torch

import unveil
from unveil.image.prompts.learned_words import table_of
from unveil.image.weights.lora import LoraWeights
from unveil.image.weights.lora_files import write_kohya
from unveil.image.weights.lora_layers import layers_of
from unveil.image.weights.textual_inversion import LearnedWord, write_word
from unveil.network.lora import LowRank


def write_networks(folder: Path, loras: tuple[str, ...] = ("ink", "chalk", "hidden")) -> Path:
    """Write NAME.safetensors of rank 2 for four layers, and ring.safetensors with the word <ring>."""
    model = unveil.load("shapes-text", "cpu")
    layers = layers_of(model.denoiser.network, model.text.network)
    weights = dict(model.denoiser.network.named_parameters())
    generator = torch.Generator().manual_seed(0)
    for name in loras:
        updates = {}
        for theirs, ours in layers.unet.items():
            weight = weights[f"{ours}.weight"]
            if weight.ndim == 2 and len(updates) < 4:
                down = torch.randn(2, weight.shape[1], generator=generator)
                updates[theirs] = LowRank(down, torch.randn(weight.shape[0], 2, generator=generator), 1.0)
        write_kohya(folder / f"{name}.safetensors", LoraWeights(updates))
    vectors = torch.randn(2, table_of(model.text).shape[1], generator=generator)
    write_word(folder / "ring.safetensors", LearnedWord("<ring>", vectors))
    return folder
