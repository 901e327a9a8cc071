"""Diffusion Policy on PushT: settings and presets; `paper` has those of real-stanford/diffusion_policy."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from unveil.checks import Bounds, check_fields
from unveil.policy.recipes.model_flags import PAPER, TINY, Count, Model, ModelFlags, Share
from unveil.policy.settings import Delayed, PolicySettings
from unveil.runs.flags import Job, JobFlags, Run, RunFlags, changed
from unveil.runs.verb import Verb

URL = "https://diffusion-policy.cs.columbia.edu/data/training/pusht.zip"
Settings = tyro.conf.OmitArgPrefixes[PolicySettings]  # as a field of a config, its flags without a prefix


@dataclass(frozen=True)
class TrainPushT:
    """Train a diffusion policy on human demonstrations of PushT.

    Example: unveil train pusht --preset tiny --out runs/pusht-tiny
    """

    preset: Literal["tiny", "default", "paper"] = "default"
    """tiny: a small network, trained in minutes; default: about an hour on a laptop; paper: network, steps
    and optimizer as published; other flags change single settings"""
    data: str = "pusht"
    """demonstrations: pusht for those that `unveil data pusht` wrote, or path or https address of a file in a
    format that `unveil data pusht --from` reads"""
    observation: Literal["keypoints", "state", "pixels"] = "keypoints"
    """observations; keypoints: nine points of the block and the agent's position (20 numbers); state: both
    positions and the block's angle (5 numbers); pixels: a picture and the agent's position"""
    model: Model = field(default_factory=ModelFlags)
    crop: Annotated[int, Bounds(33, 96)] = 84
    """side in pixels of the crops of 96 x 96 pictures, random in training and central when acting"""
    start_from: Path | None = None
    """run or checkpoint that the new run starts from, with its network, shape and weights; converted ones
    too; by default weights are random"""
    hold_out: Share = 0.02
    """fraction of episodes that are left out of training, chosen at random by the published code's rule"""
    episodes: Annotated[int, Bounds(0)] = 0
    """largest number of training episodes, chosen at random by the published code's rule; 0: all that are not
    held out"""
    split_seed: Annotated[int, Bounds(0)] = 42
    """seed of `hold_out` and `episodes`; 42 is published"""
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

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class EvalPushT:
    """Evaluate a policy by the published protocol: the mean over episodes of the largest reward.

    Episode i starts as the published environment does for seed + i; the published seeds are 100000 to 100049.

    Example: unveil eval pusht --checkpoint runs/pusht --episodes 50 --json pusht.json --video pusht.gif
    """

    preset: Literal["default", "fast", "paper"] = "default"
    """sampling: default: 10 DDIM steps; fast: 5 DDIM steps; paper: 100 DDPM steps; other flags change single
    settings"""
    checkpoint: str = "runs/pusht"
    """name of a packaged model (see `unveil weights`), run folder or checkpoint folder, or a policy of
    another program: a .ckpt of real-stanford/diffusion_policy or a LeRobot folder"""
    episodes: Count = 50
    """number of episodes"""
    settings: Settings = field(default_factory=PolicySettings)
    delay: Annotated[int, Bounds(0)] = 0
    """latency to simulate: control steps of 0.1 s between an observation and the first action based on it"""
    asynchronous: Delayed = "wait"
    """behaviour during `delay`: wait: hold the last target. All others continue the last chunk, and differ in
    the next chunk: naive: it ignores the last one; prefix: it is conditioned on it, for runs trained with
    --prefix; soft: it is guided towards it; hard: its first actions are fixed to it"""
    max_steps: Count = 300
    """largest number of control steps of an episode"""
    decisions: Count = 40
    """number of decisions, one at a time, over which latency is measured"""
    video: Path | None = None
    """animation of the first four episodes with the predicted actions: .gif, or .mp4 if imageio-ffmpeg is
    installed; by default none"""
    job: Job = JobFlags(seed=100_000, threads=1)

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class SamplePushT:
    """Predict chunks of actions from one start, and draw them.

    Example: unveil sample pusht --checkpoint runs/pusht --start 100003 --candidates 32 --out chunks.png
    """

    checkpoint: str = "runs/pusht"
    """name of a packaged model (see `unveil weights`), run folder or checkpoint folder, or a policy of
    another program: a .ckpt of real-stanford/diffusion_policy or a LeRobot folder"""
    start: Annotated[int, Bounds(0)] = 100_000
    """seed of the start, as in the published environment"""
    candidates: Count = 32
    """number of chunks to draw"""
    settings: Settings = field(default_factory=PolicySettings)
    out: Path = Path("chunks.png")
    """picture to write, a .png"""
    job: Job = JobFlags()

    def __post_init__(self) -> None:
        check_fields(self)


TRAIN_PRESETS = {
    "default": TrainPushT(),
    "tiny": changed(TrainPushT(), preset="tiny", **TINY),
    "paper": changed(
        TrainPushT(),
        preset="paper",
        episodes=90,
        steps=205_000,  # 5000 epochs of 41 batches of 256: 90 episodes have about 10,600 windows
        **PAPER,
    ),
}
EVAL_PRESETS = {
    "default": EvalPushT(),
    "fast": EvalPushT(preset="fast", settings=PolicySettings(sampling_steps=5)),
    "paper": EvalPushT(preset="paper", settings=PolicySettings(solver="ddpm", sampling_steps=100)),
}


def for_network(config: TrainPushT, network: str) -> TrainPushT:
    """The config with the optimizer's settings for a network: betas, and in `paper` the published ones."""
    if network != "transformer":
        return config
    config = changed(config, network="transformer", adam_betas=(0.9, 0.95))
    return (
        changed(config, weight_decay=0.1, warmup=1000, steps=328_000) if config.preset == "paper" else config
    )


@dataclass(frozen=True)
class DataPushT:
    """Convert demonstrations of PushT, and check them; those of other tasks cannot be converted.

    Without --from, the 206 published demonstrations are downloaded. The conversion draws no random numbers
    and computes on the CPU, whatever the seed and the device are.

    Example: unveil data pusht --from pusht_cchi_v7_replay.zarr
    """

    source: Annotated[str, tyro.conf.arg(name="from")] = URL  # `from` itself is a keyword of Python
    """path or https address of a zarr replay buffer (folder or .zip), a LeRobot folder, robomimic's .hdf5,
    or an .npz with action and episode_ends"""
    out: Path | None = None
    """.npz file to write, with a card beside it; by default $UNVEIL_HOME/pusht/demonstrations.npz in the
    cache"""
    pictures: bool = True
    """convert pictures too, for `unveil train pusht --observation pixels`; videos of LeRobot need a
    decoder"""
    job: Job = JobFlags()


@dataclass(frozen=True)
class DemoPushT:
    """Push the T onto its target with a trained policy: an animation with predicted chunks, and a score.

    Example: unveil demo pusht --out demo
    """

    checkpoint: str = "pusht-keypoints"
    """name of a packaged model (see `unveil weights`), run folder or checkpoint folder"""
    episodes: Count = 10
    """number of episodes that are scored; the animation shows the first four"""
    out: Path = Path("demo")
    """folder for pusht.gif"""
    seed: Annotated[int, Bounds(0)] = 100_000
    """seed of starts and noise; the published episodes are 100000 to 100049"""
    max_steps: Count = 300
    """largest number of control steps of an episode"""
    device: str = "auto"
    """device of the network: auto, cpu, cuda, cuda:0 or mps; auto takes the fastest that is available"""

    def __post_init__(self) -> None:
        check_fields(self)


STEPS = {"--steps": "--sampling-steps"}

DATA = Verb(
    {"default": DataPushT()},
    "policy.recipes.pusht.data:make_pusht_data",
    "demonstrations of PushT, ready to train on",
    "source out",
)
TRAIN = Verb(
    TRAIN_PRESETS,
    "policy.recipes.pusht.train:train_pusht",
    "a diffusion policy from demonstrations",
    "preset data observation network horizon n_action steps batch_size learning_rate out resume",
    fit=lambda config, given: for_network(config, given("network") or config.model.network),
    after="eval pusht --checkpoint {run} --episodes 50 --seed 100000",
)
EVAL = Verb(
    EVAL_PRESETS,
    "policy.recipes.pusht.evaluate:evaluate_pusht",
    "a policy's published score on PushT",
    "preset checkpoint episodes solver sampling_steps video seed json",
    aliases=STEPS,
)
SAMPLE = Verb(
    {"default": SamplePushT()},
    "policy.recipes.pusht.sample:sample_pusht",
    "a picture of chunks of actions from one start",
    "checkpoint start candidates solver sampling_steps out seed",
    aliases=STEPS,
)
DEMO = Verb(
    {"default": DemoPushT()},
    "policy.recipes.pusht.demo:run_demo_pusht",
    "a policy pushing a block",
    "checkpoint out",
)
