"""Tiny models with the names of glide-text2im, with vocabularies of single letters; golden numbers in
`weights/images/glide.npz`."""

import json
from pathlib import Path

import numpy as np
import torch

from foreign_images import golden
from foreign_policies import filled

PROMPTS = ["fh", "dlcibe"]  # ids 5, 7, and 3, 11, 2, 8, 1, 4
IDS = torch.tensor([[5, 7, 19, 19, 19, 19], [3, 11, 2, 8, 1, 4]])
VALID = torch.tensor([[True] * 2 + [False] * 4, [True] * 6])
TIMES = (torch.tensor([3, 600]) + 1).double() / 1000


def uniform(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.RandomState(seed).uniform(-1, 1, shape).astype(np.float32))


X, IMAGE, LOW, FIRST = (
    2 * uniform(1, 2, 3, 16, 16),
    uniform(2, 2, 3, 16, 16),
    uniform(4, 2, 3, 4, 4),
    uniform(5, 2, 3, 16, 16),
)
KNOWN = uniform(3, 2, 1, 16, 16) > 0
LOW_PIXELS = ((LOW + 1) * 127.5).round() / 127.5 - 1


def write_vocabularies(folder: Path) -> None:
    """GPT-2's of 19 letters and the padding 19; CLIP's with 17 as start, 18 as end, 0 as padding."""
    letters = {chr(97 + k): k for k in range(19)}
    (folder / "encoder.json").write_text(json.dumps(letters | {"<|endoftext|>": 19}))
    (folder / "vocab.bpe").write_text("#version: 0.2\n")
    ends = {"h": 7, "i": 8, "e": 4}
    clip = {chr(97 + k): k for k in range(1, 17) if chr(97 + k) not in ends}
    clip |= {f"{letter}</w>": k for letter, k in ends.items()}
    clip |= {"!": 0, "<|startoftext|>": 17, "<|endoftext|>": 18}
    (folder / "vocab.json").write_text(json.dumps(clip))
    (folder / "merges.txt").write_text("#version: 0.2\n")


def write_glide(name: str, folder: Path, suffix: str = ".pt") -> Path:
    """A file as OpenAI's, with the vocabularies beside it."""
    write_vocabularies(folder)
    tensors = filled(golden("glide")[f"{name}.shapes"])
    file = folder / f"{name}{suffix}"
    if suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(tensors, file)
    else:
        torch.save(tensors, file)
    return file


def write_clip(folder: Path) -> Path:
    """Both towers of the noised CLIP; returns that of images."""
    write_glide("clip_text_enc", folder)
    return write_glide("clip_image_enc", folder)
