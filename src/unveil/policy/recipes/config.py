"""Policies of your own robot, from your own demonstrations: settings and presets."""

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

Settings = tyro.conf.OmitArgPrefixes[PolicySettings]  # as a field of a config, its flags without a prefix
World = Literal["", "pusht"]


@dataclass(frozen=True)
class TrainPolicy:
    """Train a diffusion policy on demonstrations of your own robot or environment.

    Example: unveil train policy --data demos.hdf5 --observe joints,wrist --resize 96 --crop 84
    """

    preset: Literal["tiny", "default", "paper"] = "default"
    """tiny: a small network, trained in minutes; default: about an hour on a laptop; paper: network and
    optimizer of Diffusion Policy; other flags change single settings"""
    world: World = ""
    """world with demonstrations, presets and a protocol of its own; pusht: the same as `unveil train pusht`,
    whose flags `--world pusht --help` shows; by default your own data"""
    data: str = ""
    """demonstrations: path or https address of a zarr replay buffer, a LeRobot folder, robomimic's or ALOHA's
    HDF5, or an .npz with action and episode_ends"""
    observe: str = ""
    """names of the observations to use, separated by commas, pictures too; by default all that are numbers"""
    resize: str = ""
    """height in pixels that pictures are resized to, the width in proportion, or HEIGHTxWIDTH; by default
    they keep their size"""
    crop: str = ""
    """height in pixels of crops of the resized pictures, the width in proportion, or HEIGHTxWIDTH: random in
    training, central when acting; by default no crops"""
    controlled: Annotated[str, tyro.conf.arg(name="actions")] = ""
    """names of the actions to predict, separated by commas, where the data name them (the beginning of a name
    is enough), or positions such as 0:7; by default all"""
    episodes: str = ""
    """episodes to use, by position, such as 0:50 or 0:50,60,70:; by default all"""
    filter: str = ""
    """named subset of the episodes to use: a mask of robomimic or a split of LeRobot; by default all"""
    model: Model = field(default_factory=ModelFlags)
    hold_out: Share = 0.05
    """fraction of the episodes that are left out of training, at random, for `unveil eval policy`"""
    split_seed: Annotated[int, Bounds(0)] = 42
    """seed of `hold_out`"""
    run: Run = RunFlags(
        steps=10_000,
        batch_size=256,
        learning_rate=5e-4,
        warmup=500,
        weight_decay=1e-6,
        adam_betas=(0.95, 0.999),
        ema_decay=0.9999,
        keep=2,
        out=Path("runs/policy"),
    )

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class EvalPolicy:
    """Evaluate a policy: its error on held-out demonstrations, or its success in an environment.

    Without an environment, the error of predicted actions is shown beside those of the nearest neighbour in
    the training data and of the mean action.

    Example: unveil eval policy --checkpoint runs/policy --env my_robot:make_env --episodes 50 --video arm.gif
    """

    preset: Literal["default", "fast", "paper"] = "default"
    """sampling: default: 10 DDIM steps; fast: 5 DDIM steps; paper: 100 DDPM steps; other flags change single
    settings"""
    world: World = ""
    """world with a protocol of its own; pusht: the same as `unveil eval pusht`; by default `env` or `data`"""
    checkpoint: str = "runs/policy"
    """name of a packaged model, run folder or checkpoint folder"""
    data: str = ""
    """demonstrations for the error of predicted actions, all of whose episodes are used; by default those
    that the training held out"""
    windows: Count = 500
    """largest number of windows of demonstrations, evenly spread, over which that error is computed"""
    candidates: Annotated[int, Bounds(2)] = 8
    """number of chunks drawn for each window, for the energy score"""
    env: str = ""
    """environment to act in: the id of a registered gymnasium environment, or module:function, where the
    function returns one; by default none"""
    env_args: str = ""
    """arguments of the environment as JSON, such as '{"obs_type": "state"}'"""
    mapping: str = ""
    """which observation of the environment a name of the policy means, such as state=agent_pos,front=pixels;
    `render` means the environment's picture; by default the same names"""
    episodes: Count = 20
    """number of episodes in the environment; episode i is reset with seed + i"""
    parallel: Count = 10
    """number of environments that act at the same time"""
    max_steps: Annotated[int, Bounds(0)] = 0
    """largest number of steps of an episode; 0: as the environment decides, or 1000"""
    settings: Settings = field(default_factory=PolicySettings)
    delay: Annotated[int, Bounds(0)] = 0
    """latency to simulate: control steps between an observation and the first action based on it"""
    asynchronous: Delayed = "wait"
    """behaviour during `delay`, as in `unveil eval pusht`"""
    video: Path | None = None
    """animation of the first four episodes: .gif, or .mp4 if imageio-ffmpeg is installed; by default none"""
    job: Job = JobFlags()

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class SamplePolicy:
    """Predict chunks of actions from one moment of a demonstration, and draw them beside the recorded ones.

    Example: unveil sample policy --checkpoint runs/policy --episode 3 --moment 40 --out chunks.png
    """

    world: World = ""
    """world with pictures of its own; pusht: the same as `unveil sample pusht`; by default your own data"""
    checkpoint: str = "runs/policy"
    """name of a packaged model, run folder or checkpoint folder"""
    data: str = ""
    """demonstrations; by default those of the training"""
    episode: Annotated[int, Bounds(0)] = 0
    """episode of the demonstrations, by position, among those that the training used or held out"""
    moment: Annotated[int, Bounds(0)] = 0
    """step of the episode from which actions are predicted"""
    candidates: Count = 16
    """number of chunks to draw"""
    settings: Settings = field(default_factory=PolicySettings)
    out: Path = Path("chunks.png")
    """picture to write, a .png"""
    job: Job = JobFlags()

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class InspectData:
    """Say what a file of demonstrations is, what a policy would learn from, and what is left out.

    Example: unveil data inspect demos.hdf5
    """

    path: tyro.conf.Positional[str] = ""
    """path or https address of demonstrations, in a format that `unveil train policy --data` reads"""
    job: Job = JobFlags()

    def __post_init__(self) -> None:
        check_fields(self)


TRAIN_PRESETS = {
    "default": TrainPolicy(),
    "tiny": changed(TrainPolicy(), preset="tiny", **TINY),
    "paper": changed(TrainPolicy(), preset="paper", steps=100_000, **PAPER),
}
EVAL_PRESETS = {
    "default": EvalPolicy(),
    "fast": EvalPolicy(preset="fast", settings=PolicySettings(sampling_steps=5)),
    "paper": EvalPolicy(preset="paper", settings=PolicySettings(solver="ddpm", sampling_steps=100)),
}
STEPS = {"--steps": "--sampling-steps"}


def for_network(config: TrainPolicy, network: str) -> TrainPolicy:
    """The config with AdamW's published betas of the transformer, where that is the network."""
    if network != "transformer":
        return config
    return changed(config, network="transformer", adam_betas=(0.9, 0.95))


TRAIN = Verb(
    TRAIN_PRESETS,
    "policy.recipes.train:train_policy",
    "a diffusion policy from your own demonstrations",
    "preset world data observe resize crop controlled episodes filter horizon n_action steps batch_size "
    "learning_rate out resume",
    fit=lambda config, given: for_network(config, given("network") or config.model.network),
    after="eval policy --checkpoint {run}",
)
INSPECT = Verb(
    {"default": InspectData()},
    "policy.recipes.inspect:inspect_data",
    "what a file of demonstrations is, and what would be used",
    "path json",
)
EVAL = Verb(
    EVAL_PRESETS,
    "policy.recipes.evaluate:evaluate_policy",
    "a policy's error on demonstrations, or its success in an environment",
    "preset world checkpoint data env env_args mapping episodes solver sampling_steps video seed json",
    aliases=STEPS,
)
SAMPLE = Verb(
    {"default": SamplePolicy()},
    "policy.recipes.sample:sample_policy",
    "a picture of chunks of actions beside the recorded ones",
    "world checkpoint data episode moment candidates out seed",
    aliases=STEPS,
)
