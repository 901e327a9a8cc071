"""Image models of others as files, with weights that are known by their names alone; golden numbers in
`weights/images/`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from foreign_policies import filled

FOLDER = Path(__file__).parent / "weights" / "images"
DIFFUSERS = ("ddpm", "conditional", "plain")
OPENAI = {
    "improved": "--image_size 8 --num_heads 4 --diffusion_steps 4000 --noise_schedule linear --rescale_timesteps True",
    "adm": "image_size=8 num_head_channels=16 use_new_attention_order=True noise_schedule=cosine learn_sigma=True class_cond=1",
}
MILESTONES = ("milestone", "milestone_full")
EVERY = (*DIFFUSERS, *OPENAI, *MILESTONES)
LABELS = {"conditional": torch.tensor([4, 1]), "adm": torch.tensor([6, 2])}
TIMES = {
    "improved": [13, 2000],
    "milestone": [3, 60],
    "milestone_full": [3, 30],
}  # entries of the table, counted from 0


def golden(name: str) -> dict[str, Any]:
    """What the original computed; its names and shapes, and its configs, are JSON."""
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as arrays:
        return {
            key: torch.from_numpy(arrays[key]) if arrays[key].ndim else json.loads(str(arrays[key]))
            for key in arrays.files
        }


def drawn(name: str) -> Tensor:
    """The input of all golden numbers: uniform in [-2, 2], seed 1."""
    channels = 1 if name in ("conditional", "adm", "milestone_full") else 3
    return 2 * torch.from_numpy(
        np.random.RandomState(1).uniform(-1, 1, (2, channels, 8, 8)).astype(np.float32)
    )


def times(name: str) -> list[int]:
    return TIMES.get(name, [3, 600])


def pipeline(name: str, folder: Path, **changes: Any) -> Path:
    """A folder as `DDPMPipeline.save_pretrained` writes it."""
    it = golden(name)
    (folder / "unet").mkdir(parents=True)
    (folder / "scheduler").mkdir()
    (folder / "model_index.json").write_text(
        json.dumps({"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"]})
    )
    (folder / "unet" / "config.json").write_text(json.dumps(it["config"] | changes))
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(it["scheduler"]))
    save_file(filled(it["shapes"]), folder / "unet" / "diffusion_pytorch_model.safetensors")
    return folder


def milestone(name: str, seed: float = 0.0) -> dict[str, Any]:
    """What `Trainer.save` hands to `torch.save`: model, average (its weights 1.1 times as large), optimizer,
    step."""
    it = golden(name)
    table = {key: torch.full((len(it["betas"]),), seed) for key in it["buffers"]} | {
        k: it[k] for k in ("betas", "loss_weight")
    }
    network = {f"model.{key}": value for key, value in filled(it["shapes"]).items()}
    average = {
        key: value * (1.1 if key.startswith("model.") else 1.0) for key, value in (table | network).items()
    }
    ema: dict[str, Tensor] = {"initted": torch.tensor(True), "step": torch.tensor(7)}
    ema |= {f"online_model.{k}": v.detach() for k, v in (table | network).items()} | {
        f"ema_model.{k}": v for k, v in average.items()
    }
    groups = [{"lr": 8e-5, "betas": (0.9, 0.99), "fused": None, "params": [0]}]
    opt = {"state": {0: {"step": torch.tensor(7.0), "exp_avg": torch.zeros(3)}}, "param_groups": groups}
    return {"step": 7, "model": table | network, "opt": opt, "ema": ema, "scaler": None, "version": "2.3.4"}


def written(name: str, folder: Path) -> tuple[Path, dict[str, Any]]:
    """One of the models, and what has to be said besides."""
    folder.mkdir(exist_ok=True)
    if name in DIFFUSERS:
        return pipeline(name, folder / name), {}
    file = folder / f"{name}.pt"
    torch.save(milestone(name) if name in MILESTONES else filled(golden(name)["shapes"]), file)
    return file, {"size": 8} if name in MILESTONES else {"flags": OPENAI[name]}


def trained(folder: Path) -> Path:
    """What diffusers' train_unconditional.py leaves while it runs: the averaged weights 1.1 times the others,
    the scheduler beside them."""
    pipeline("plain", folder / "pipeline")
    for step in (500, 1500):
        for part, factor in (("unet", 1.0), ("unet_ema", 1.1)):
            place = folder / "out" / f"checkpoint-{step}" / part
            place.mkdir(parents=True)
            (place / "config.json").write_bytes((folder / "pipeline" / "unet" / "config.json").read_bytes())
            weights = {name: factor * value for name, value in filled(golden("plain")["shapes"]).items()}
            save_file(weights, place / "diffusion_pytorch_model.safetensors")
    (folder / "pipeline" / "scheduler").rename(folder / "out" / "scheduler")
    return folder / "out"
