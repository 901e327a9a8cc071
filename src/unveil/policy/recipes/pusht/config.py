"""Diffusion Policy on PushT: the configs, and policies from run folders. Presets `paper` are those of real-stanford/diffusion_policy."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Annotated, Literal

import tyro

from unveil.runs.flags import Run, RunFlags, changed
from unveil.runs.verb import Verb

URL = "https://diffusion-policy.cs.columbia.edu/data/training/pusht.zip"


@dataclass(frozen=True)
class TrainPushT:
    """Train a diffusion policy on human demonstrations of PushT.

    Example: unveil train pusht --preset tiny --out runs/pusht-tiny
    """

    preset: Literal["tiny", "default", "paper"] = "default"
    """tiny proves learning in minutes; default takes about an hour on a laptop; paper is as published; other flags change single fields"""
    data: str = "pusht"
    """what `unveil data pusht` wrote, or the path or https address of demonstrations in any format that it reads"""
    observation: Literal["keypoints", "state", "pixels"] = "keypoints"
    """nine keypoints of the block and the agent's place (20 numbers), both places and the angle (5), or a picture and the agent's place"""
    network: Literal["cnn", "transformer"] = "cnn"
    """the conditional U-Net, or the transformer"""
    condition: Literal["auto", "film", "tokens", "inpainting"] = "auto"
    """how it is told observations: by film (cnn), tokens (transformer), or as known rows of what it denoises (inpainting, cnn)"""
    n_obs: int = 2
    """observations that a decision sees"""
    horizon: int = 16
    """actions that are predicted"""
    n_action: int = 8
    """actions that are executed of them"""
    prefix: int = 0
    """largest number of actions that are known and clean, for acting while the next chunk is computed; 0: none, as published"""
    diffusion_steps: int = 100
    """T, of the squared-cosine schedule"""
    predicts: Literal["eps", "x0", "v", "flow"] = "v"
    """what the network says: noise (eps, as published), clean actions (x0), both (v: good in few steps), or flow matching's velocity"""
    widths: tuple[int, ...] = (64, 128, 224)
    """channels of the CNN's levels"""
    kernel: int = 5
    """of the CNN's convolutions"""
    step_width: int = 128
    """of the CNN's embedded time"""
    width: int = 192
    """of the transformer"""
    depth: int = 6
    """blocks of the transformer"""
    heads: int = 4
    """attention heads of the transformer"""
    dropout: float = 0.01
    """of the transformer's attention and blocks"""
    crop: int = 84
    """side of what is cut from pictures of 96, at random in training"""
    image_width: int = 16
    """channels of the image encoder's first level; 64 is the published ResNet-18"""
    image_keypoints: int = 32
    """places that the image encoder's spatial softmax looks for"""
    distill: str = ""
    """train a student of this run instead, for `--solver consistency`: its shape and network, from its weights on; of a run that says v or
    flow, for a student says v, and weights that say noise begin as another function"""
    distill_steps: int = 6
    """DDIM steps of the teacher's samples, whose ends the student learns; a multiple of the calls that it is to be asked for"""
    start_from: Path | None = None
    """run or checkpoint whose network, shape and weights a new run begins with, such as a converted one; by default they are random"""
    hold_out: float = 0.02
    """share of episodes that are not trained on, drawn as published"""
    episodes: int = 0
    """at most so many episodes are trained on, drawn as published; 0: all others"""
    split_seed: int = 42
    """of both draws"""
    run: Run = RunFlags(
        steps=10_000,
        batch_size=256,
        learning_rate=5e-4,
        warmup=500,
        weight_decay=1e-6,
        adam_betas=(0.95, 0.999),
        ema_decay=0.9999,
        keep=2,
        out=Path("runs/pusht"),
    )


@dataclass(frozen=True)
class EvalPushT:
    """Score a policy by the published protocol: the mean over episodes of the largest reward.

    Example: unveil eval pusht --checkpoint runs/pusht --episodes 50 --seed 100000 --json pusht.json --video pusht.gif
    """

    preset: Literal["default", "fast", "paper"] = "default"
    """default: ten deterministic steps; fast: five; paper: all steps of DDPM; other flags change single fields"""
    checkpoint: str = "runs/pusht"
    """a zoo name, a run or checkpoint folder, or others' policy: a .ckpt of real-stanford/diffusion_policy, a folder of LeRobot"""
    episodes: int = 50
    """number of episodes; episode i starts as the published environment does for seed + i"""
    seed: int = 100_000
    """of starts and noise; the published episodes are 100000 .. 100049"""
    solver: Literal["ddim", "euler", "ddpm", "dpmpp", "heun", "consistency"] | None = None
    """by default ddim, which on policies of flow matching is euler; consistency for distilled students, which know no other"""
    sampling_steps: int | None = None
    """denoising steps for a decision; by default 10, for students 2"""
    n_action: int | None = None
    """actions to execute of each chunk; by default as trained, or as many as the chunk holds with the delay"""
    delay: int = 0
    """control steps of 0.1 s between seeing and acting"""
    asynchronous: Literal["wait", "naive", "prefix", "soft", "hard"] = "wait"
    """meanwhile: hold the last target; go on with the last chunk; and tell the next of it, as trained (prefix), softly, or hard"""
    temperature: float = 1.0
    """factor on the initial noise"""
    max_steps: int = 300
    """of an episode"""
    decisions: int = 40
    """how many are timed, one environment at a time"""
    video: Path | None = None
    """write an animation of the first four episodes here, with the predicted actions: .gif, or .mp4 where imageio-ffmpeg is installed"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:0 or mps"""
    threads: int = 1
    """CPU threads"""
    json: str | None = None
    """write the result here; - is standard output"""


@dataclass(frozen=True)
class SamplePushT:
    """Predict chunks of actions from one start and draw them.

    Example: unveil sample pusht --checkpoint runs/pusht --start 100003 --candidates 32 --out chunks.png
    """

    checkpoint: str = "runs/pusht"
    """a zoo name, a run or checkpoint folder, or others' policy: a .ckpt of real-stanford/diffusion_policy, a folder of LeRobot"""
    start: int = 100_000
    """seed of the published environment's start"""
    candidates: int = 32
    """chunks to draw"""
    solver: Literal["ddim", "euler", "ddpm", "dpmpp", "heun", "consistency"] | None = None
    """as of `unveil eval pusht`"""
    sampling_steps: int | None = None
    """denoising steps, as there"""
    out: Path = Path("chunks.png")
    """picture: .png"""
    seed: int = 0
    """of the noise"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:0 or mps"""
    json: str | None = None
    """write the chunks here; - is standard output"""


TRAIN_PRESETS = {
    "default": TrainPushT(),
    "tiny": changed(
        TrainPushT(),
        preset="tiny",
        widths=(32, 64, 128),
        step_width=64,
        width=96,
        depth=3,
        steps=1_500,
        warmup=100,
        batch_size=128,
        learning_rate=1e-3,
        save_every=500,
    ),
    "paper": changed(
        TrainPushT(),
        preset="paper",
        predicts="eps",
        widths=(256, 512, 1024),
        image_width=64,
        step_width=256,
        width=256,
        depth=8,
        episodes=90,
        steps=205_000,  # 5000 epochs of 41 batches of 256: 90 episodes have about 10,600 windows
        learning_rate=1e-4,
        final_fraction=0.0,  # the released trainer's rate falls to 0, and it does not clip
        clip=inf,
        bfloat16=False,
    ),
}
EVAL_PRESETS = {
    "default": EvalPushT(),
    "fast": EvalPushT(preset="fast", sampling_steps=5),
    "paper": EvalPushT(preset="paper", solver="ddpm", sampling_steps=100),
}


def for_network(config: TrainPushT, network: str) -> TrainPushT:
    """What the network means for the optimizer: AdamW's betas, and on the preset `paper` the published settings of the transformer."""
    if network != "transformer":
        return config
    config = changed(config, network="transformer", adam_betas=(0.9, 0.95))
    return (
        changed(config, weight_decay=0.1, warmup=1000, steps=328_000) if config.preset == "paper" else config
    )


@dataclass(frozen=True)
class DataPushT:
    """Convert demonstrations of PushT and check them.

    Example: unveil data pusht --from pusht_cchi_v7_replay.zarr
    """

    source: Annotated[str, tyro.conf.arg(name="from")] = URL  # `from` itself is a word of Python's
    """zarr replay buffer (folder or .zip), LeRobot folder, robomimic's .hdf5, or .npz with action and episode_ends: path or address"""
    out: Path | None = None
    """.npz with a card beside it; by default in the cache, $UNVEIL_HOME/pusht/demonstrations.npz"""
    pictures: bool = True
    """keep pictures, as bytes, for `unveil train pusht --observation pixels`; videos of LeRobot need a decoder"""
    seed: int = 0
    """unused here; every verb takes it"""
    device: str = "auto"
    """unused here; every verb takes it"""
    json: str | None = None
    """write the card and the numbers here; - is standard output"""


@dataclass(frozen=True)
class DemoPushT:
    """Push the T onto its mark with a trained policy: an animation with the predicted chunks, and a score.

    Example: unveil demo pusht --out demo
    """

    checkpoint: str = "pusht-keypoints"
    """a zoo name, a run folder or a checkpoint folder"""
    episodes: int = 10
    """episodes of the score; the first four are shown"""
    out: Path = Path("demo")
    """folder for pusht.gif"""
    seed: int = 100_000
    """of starts and noise; 100000 and on are the published episodes"""
    max_steps: int = 300
    """of an episode"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:0 or mps"""


DATA = Verb(
    {"default": DataPushT()},
    "policy.recipes.pusht.data:make_pusht_data",
    "demonstrations of PushT, ready to train on",
    ("source", "out"),
)
TRAIN = Verb(
    TRAIN_PRESETS,
    "policy.recipes.pusht.train:train_pusht",
    "a diffusion policy from demonstrations",
    (
        "preset",
        "data",
        "observation",
        "network",
        "horizon",
        "n_action",
        "steps",
        "batch_size",
        "learning_rate",
        "out",
        "resume",
    ),
    fit=lambda config, given: for_network(config, given("network") or config.network),
    after="eval pusht --checkpoint {run} --episodes 50 --seed 100000",
)
EVAL = Verb(
    EVAL_PRESETS,
    "policy.recipes.pusht.evaluate:evaluate_pusht",
    "the published score of PushT",
    ("preset", "checkpoint", "episodes", "solver", "sampling_steps", "video", "seed", "json"),
)
SAMPLE = Verb(
    {"default": SamplePushT()},
    "policy.recipes.pusht.sample:sample_pusht",
    "chunks of actions from one start, drawn",
    ("checkpoint", "start", "candidates", "solver", "sampling_steps", "out", "seed"),
)
DEMO = Verb(
    {"default": DemoPushT()},
    "policy.recipes.pusht.demo:run_demo_pusht",
    "a policy pushing a block",
    ("checkpoint", "out"),
)
