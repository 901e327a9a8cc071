"""Diffusion policies of others in `weights/policies/`, and weights that are known by their names alone."""

import json
import lzma
import pickle
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
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
        return {
            key: torch.from_numpy(arrays[key]) if arrays[key].ndim else json.loads(str(arrays[key]))
            for key in arrays.files
        }


def filled(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """The original's tensors: weights of unit gain, gains and deviations about 1, everything else about 0,
    drawn by name."""
    found: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        u = np.random.RandomState(zlib.crc32(name.encode())).uniform(-1, 1, tuple(shape))
        about = {"weight": 1.0, "scale": 1.0, "std": 1.0, "max": 1.0, "min": -1.0}.get(
            name.rpartition(".")[2], 0.0
        )
        matrix = len(shape) > 1 and name.endswith("weight")
        found[name] = torch.from_numpy(
            (u * (3.0 / np.prod(shape[1:])) ** 0.5 if matrix else about + 0.4 * u).astype(np.float32)
        )
    return found


def drawn(*shapes: tuple[int, ...]) -> list[Tensor]:
    """The inputs of all golden numbers: uniform in [-1, 1], seed 1."""
    random = np.random.RandomState(1)
    return [torch.from_numpy(random.uniform(-1, 1, shape).astype(np.float32)) for shape in shapes]


SCHEDULER = {
    "num_train_timesteps": 100,
    "beta_schedule": "squaredcos_cap_v2",
    "clip_sample": True,
    "prediction_type": "epsilon",
}


def hybrid() -> tuple[dict, dict]:
    """The config, and the state dict of `DiffusionUnetHybridImagePolicy`, in which the encoder's parts stand
    twice."""
    tensors = filled(golden("hybrid")["shapes"])
    net = "obs_encoder.obs_nets.image"
    for name in tensors:
        if name.startswith(f"{net}.backbone."):
            tensors[name] = tensors[name.replace(".backbone.", ".nets.0.")].detach()
        if name.startswith(f"{net}.pool."):
            tensors[name] = tensors[name.replace(".pool.", ".nets.1.")].detach()
        if name.endswith(".temperature"):
            tensors[name] = torch.ones(1)
    meta = {"image": {"shape": [3, 96, 96], "type": "rgb"}, "agent_pos": {"shape": [2], "type": "low_dim"}}
    policy = {
        "_target_": "diffusion_policy.policy.diffusion_unet_hybrid_image_policy.DiffusionUnetHybridImagePolicy"
    }
    policy |= {
        "shape_meta": {"obs": meta, "action": {"shape": [2]}},
        "noise_scheduler": SCHEDULER,
        "crop_shape": [84, 84],
        "n_groups": 8,
    }
    policy |= {
        "horizon": 8,
        "n_action_steps": 4,
        "n_obs_steps": 2,
        "num_inference_steps": 100,
        "obs_as_global_cond": True,
    }
    return {"policy": policy, "horizon": 8}, tensors


def saved(path, cfg, tensors, **more):
    torch.save(
        {"cfg": cfg, "state_dicts": {"model": tensors}, "pickles": {"epoch": pickle.dumps(3)}} | more, path
    )
    return path


def multi_image() -> tuple[dict, dict]:
    """The same of `DiffusionUnetImagePolicy`, with the U-Net of the other, one observation and two
    cameras."""
    it, cfg = golden("multi_image"), hybrid()[0]
    unet = {name: shape for name, shape in golden("hybrid")["shapes"].items() if name.startswith("model.")}
    told = 1027
    unet = {
        name: [shape[0], 16 + told] if name.endswith("cond_encoder.1.weight") else shape
        for name, shape in unet.items()
    }
    cfg["policy"] |= {
        "_target_": "diffusion_policy.policy.diffusion_unet_image_policy.DiffusionUnetImagePolicy",
        "n_obs_steps": 1,
    }
    cfg["policy"] |= {"shape_meta": golden("multi_image")["meta"] | {"action": {"shape": [2]}}}
    encoder = {
        "_target_": "diffusion_policy.model.vision.multi_image_obs_encoder.MultiImageObsEncoder",
        "shape_meta": it["meta"],
    }
    encoder |= {
        "rgb_model": {
            "_target_": "diffusion_policy.model.vision.model_getter.get_resnet",
            "name": "resnet18",
            "weights": None,
        }
    }
    encoder |= {"resize_shape": None, "crop_shape": [57, 52], "random_crop": True, "use_group_norm": True}
    cfg["policy"]["obs_encoder"] = encoder | {"share_rgb_model": False, "imagenet_norm": True}
    return cfg, filled(it["shapes"] | unet)


def lerobot(folder: Path, name: str = "lerobot_state", **config: Any) -> Path:
    """A policy's folder of LeRobot's, with statistics inside the model."""
    it = golden(name)
    folder.mkdir(exist_ok=True, parents=True)
    save_file(filled(it["shapes"]), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(it["config"] | config))
    return folder


def keypoints(folder: Path) -> Path:
    """Like LeRobot's published policy of states: the agent's position, and 16 numbers of gym-pusht's
    block."""
    it = golden("lerobot_state")
    shapes = {
        name: [shape[0], shape[1] + 22] if name.endswith("cond_encoder.1.weight") else shape
        for name, shape in it["shapes"].items()
    }
    shapes = {name: [16] if "environment_state" in name else shape for name, shape in shapes.items()}
    it["config"]["input_features"]["observation.environment_state"]["shape"] = [16]
    folder.mkdir(exist_ok=True, parents=True)
    save_file(filled(shapes), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(it["config"]))
    return folder


def policy(kind: str, into: Path) -> Path:
    """Any of them: cnn, transformer, hybrid, multi_image, or a name of LeRobot's."""
    if kind in ("cnn", "transformer"):
        return unpacked(kind, into)
    if kind in ("hybrid", "multi_image"):
        return saved(into / f"{kind}.ckpt", *(hybrid() if kind == "hybrid" else multi_image()))
    return lerobot(into / kind, kind)
