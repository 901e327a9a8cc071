"""The original's files and outputs in `weights/original/`, and writers of files like them."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unveil.planning.networks.temporal_unet import TemporalUNet, ValueNetwork
from unveil.planning.recipes.locomotion.models import load_model
from unveil.planning.trajectory_model import TrajectoryModel, ValueModel
from unveil.planning.weights.diffuser import SCHEDULE, Original, names
from unveil.process.schedule import cosine_betas

FOLDER = Path(__file__).parent / "weights" / "original"
DATASET = "hopper-medium-expert-v2"
PLAIN, ATTENTION = "diffusion/defaults_H8_T20", "diffusion/attention_H4_T20"
VALUE = "values/defaults_H8_T20_d0.997"


def unpacked(into: Path) -> Path:
    """The logbase with all three experiments."""
    with zipfile.ZipFile(FOLDER / "logs.zip") as archive:
        archive.extractall(into)
    return into


def load_original(folder: Path, ema: bool = True, dataset: str | None = None) -> TrajectoryModel | ValueModel:
    """The model of the one experiment in a folder."""
    return load_model(folder, "locomotion", "latest", torch.device("cpu"), not ema, dataset)[0]


def golden(name: str) -> dict[str, Tensor]:
    """What the original computed."""
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def rewrite(experiment: Path, change: Any) -> None:
    """Apply `change` to what the state file of an experiment holds."""
    (file,) = experiment.glob("state_*.pt")
    state = change(torch.load(file, weights_only=True))

    def apart(v):
        return (
            {k: t.clone() if isinstance(t, Tensor) else t for k, t in v.items()} if isinstance(v, dict) else v
        )

    torch.save(
        {key: apart(value) for key, value in state.items()} if isinstance(state, dict) else state, file
    )


class Runs:
    """A payload: whoever unpickles it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        import os

        return os.system, (f"touch {self.marker}",)


def config_like(name: str, arguments: Mapping[str, Any]) -> bytes:
    """A pickled Config: GLOBAL names where Python would have pickled classes."""
    body = pickle.dumps({"_device": "cuda", "_dict": dict(arguments)}, protocol=2)[2:-1]
    module, kind = name.rsplit(".", 1)
    named = f"cdiffuser.{module}\n{kind}\n".encode()
    return (
        b"\x80\x02cdiffuser.utils.config\nConfig\n)\x81" + body + b"X\x06\x00\x00\x00_class" + named + b"sb."
    )


def forge(experiment: Path, original: Original, seed: int = 0) -> Path:
    """An experiment of the original of any size, with random weights; a `GoalDataset` as the branch maze2d
    writes it."""
    torch.manual_seed(seed)
    steps, maze = original.diffusion_steps, original.loader == "GoalDataset"
    features, shape = original.actions + original.observations, (original.width, original.multiples)
    diffusion = original.kind == "diffusion"
    network = (
        TemporalUNet(features, *shape, attention=original.attention)
        if diffusion
        else ValueNetwork(features, *shape)
    )
    ours = {
        ("denoiser.network." if diffusion else "network.") + name: value
        for name, value in network.state_dict().items()
    }
    betas = cosine_betas(steps)
    tensors = {name: torch.zeros(steps) for name in SCHEDULE}
    tensors |= {"betas": betas.float(), "alphas_cumprod": (1.0 - betas).cumprod(0).float()}
    tensors |= {theirs: ours[mine] for theirs, mine in names(original, places=not maze).items()}
    experiment.mkdir(parents=True)
    torch.save(
        {"step": 3, "model": tensors, "ema": {name: t.clone() for name, t in tensors.items()}},
        experiment / "state_0.pt",
    )
    sizes = {
        "horizon": original.horizon,
        "observation_dim": original.observations,
        "action_dim": original.actions,
    }
    sizes |= {"n_timesteps": steps, "predict_epsilon": False, "clip_denoised": original.clip_denoised}
    drawn = {"env": original.dataset, "normalizer": original.normalizer, "horizon": original.horizon}
    drawn |= {} if original.discount is None else {"discount": original.discount}
    (experiment / "diffusion_config.pkl").write_bytes(
        config_like("models.diffusion.GaussianDiffusion", sizes)
    )
    (experiment / "dataset_config.pkl").write_bytes(
        config_like(f"datasets.sequence.{original.loader}", drawn)
    )
    return experiment
