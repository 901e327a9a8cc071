"""Diffusion policies of others in `weights/policies/`, and weights that are known by their names alone."""

import json
import lzma
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).parent / "weights" / "policies"


def unpacked(name: str, into: Path) -> Path:
    """A checkpoint of real-stanford/diffusion_policy: cnn or transformer."""
    file = into / f"{name}.ckpt"
    file.write_bytes(lzma.decompress((FOLDER / f"{name}.ckpt.xz").read_bytes()))
    return file


def golden(name: str) -> dict[str, Any]:
    """What the original computed; its names and shapes, and its config, are JSON."""
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as arrays:
        return {key: torch.from_numpy(arrays[key]) if arrays[key].ndim else json.loads(str(arrays[key])) for key in arrays.files}


def filled(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """The original's tensors: weights of unit gain, gains and deviations about 1, everything else about 0, drawn by name."""
    found: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        u = np.random.RandomState(zlib.crc32(name.encode())).uniform(-1, 1, tuple(shape))
        about = {"weight": 1.0, "scale": 1.0, "std": 1.0, "max": 1.0, "min": -1.0}.get(name.rpartition(".")[2], 0.0)
        matrix = len(shape) > 1 and name.endswith("weight")
        found[name] = torch.from_numpy((u * (3.0 / np.prod(shape[1:])) ** 0.5 if matrix else about + 0.4 * u).astype(np.float32))
    return found


def drawn(*shapes: tuple[int, ...]) -> list[Tensor]:
    """The inputs of all golden numbers: uniform in [-1, 1], seed 1."""
    random = np.random.RandomState(1)
    return [torch.from_numpy(random.uniform(-1, 1, shape).astype(np.float32)) for shape in shapes]
