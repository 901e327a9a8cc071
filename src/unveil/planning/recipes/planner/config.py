"""Configs of planners of any environment: training and evaluation. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from unveil.checks import Bounds, check_fields
from unveil.planning.guided_planner_settings import Count, Finite
from unveil.planning.recipes.locomotion.config import Fraction
from unveil.runs.flags import Job, JobFlags, Run, RunFlags, changed
from unveil.runs.verb import Verb


@dataclass(frozen=True)
class TrainPlanner:
    """Train a planner on recorded behaviour of any environment: a diffusion model of trajectories, and beside
    it a value function that can choose among plans.

    Where the data have goals (`desired_goal`) or no rewards, plans lead to a goal, and there is no value
    function.

    Example: unveil train planner --data own.npz --env Pendulum-v1 --out runs/pendulum
    """

    preset: Literal["tiny", "default"] = "default"
    """tiny: a small network, trained in minutes; default: the settings of the packaged models; other flags
    change single settings"""
    data: str = ""
    """npz or HDF5 file (D4RL's layout), Minari folder (HDF5 or arrow) or Minari id, or D4RL name"""
    env: str | None = None
    """id of the gymnasium environment, or module:function that makes it: data are checked against its spaces
    before training, and its limits of actions are kept; by default the one that Minari recorded, for the
    next command only"""
    observe: tuple[str, ...] = ()
    """fields of dictionary observations that the planner reads, in this order; by default `observation` if
    there is one, otherwise all vectors of numbers"""
    goal: str = "auto"
    """numbers of an observation that a goal fixes, from 0, such as 0,1 or 0:2; none: plan for returns; auto:
    what the data's `desired_goal` is about, and all of an observation where there are no rewards"""
    value: bool = True
    """train a value function too, in the folder `value` of the run"""
    value_steps: Count = 4_000
    """number of optimizer steps of the value function"""
    horizon: Annotated[int, Bounds(0)] = 0
    """environment steps of the longest training window; 0: 32, or 128 for plans to goals"""
    shortest: Count = 4
    """environment steps of the shortest training window; windows have all multiples of it as length, up to
    `horizon`"""
    n_diffusion_steps: Count = 20
    """number T of diffusion steps of the cosine schedule"""
    inverse: bool = False
    """plan observations only; a second network learns the action between two observations"""
    width: Count = 128
    """width of the transformer"""
    depth: Count = 4
    """number of transformer blocks; the value function has at most 2"""
    heads: Count = 4
    """number of attention heads"""
    patch: Count = 4
    """environment steps per token of the transformer; more is faster and coarser"""
    normalizer: Literal["gaussian", "limits"] = "gaussian"
    """normalisation of the data: to mean 0 and standard deviation 1, or to [-1, 1] by the data's limits"""
    discount: Annotated[float, Bounds(0, 1, above=True, below=True)] | None = None
    """discount of rewards per environment step; by default 0.99, and 0.997 (Diffuser) for hopper, walker2d
    and halfcheetah"""
    termination_penalty: Finite | None = None
    """number added to the reward of a terminal transition, before returns are computed; by default 0, and
    -100 (Diffuser) for hopper, walker2d and halfcheetah"""
    hold_out: Fraction = 0.05
    """fraction of episodes that are left out of training; `unveil eval planner --scale auto` needs them"""
    run: Run = RunFlags(steps=8_000, batch_size=256, save_every=2_000)

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class EvalPlanner:
    """Act in any gymnasium environment: return and success, with 95 % intervals, beside the behaviour in the
    data, behaviour cloning and random actions.

    Example: unveil eval planner --checkpoint runs/pendulum --env Pendulum-v1 --episodes 30 --video run.gif
    """

    checkpoint: str = "hopper-medium"
    """run folder of `unveil train planner`, or any planner that `unveil.load` reads: a packaged model, a run
    of `unveil train locomotion` or `maze`"""
    env: str | None = None
    """id of a gymnasium environment, or module:function that makes one; by default the one of the training,
    or the named body of the data, such as Hopper-v5"""
    data: str | None = None
    """data whose behaviour is compared and cloned; by default those of the training"""
    episodes: Count = 30
    """number of episodes, each in an environment of its own"""
    max_steps: Annotated[int, Bounds(0)] = 0
    """largest number of steps of an episode; 0: as the environment says, or 1,000"""
    success: str = ""
    """entry of `info` that reports success; by default success or is_success"""
    cloning_steps: Annotated[int, Bounds(0)] = 3_000
    """optimizer steps of behaviour cloning, which takes seconds; 0: no cloning"""
    random: bool = True
    """score random actions too"""
    video: Path | None = None
    """file for a video of the first episode: .gif, or .mp4 if ffmpeg is installed"""
    candidates: Count | None = None
    """number of plans per decision; this and the following settings: by default as `unveil.load` sets them"""
    sampling_steps: Count | None = None
    """denoising steps per plan"""
    temperature: Annotated[float, Bounds(0, below=True)] | None = None
    """factor on the noise; 0 is the most typical plan"""
    plan_horizon: Count | None = None
    """environment steps of a plan; plans to goals choose it themselves"""
    guidance: Literal["none", "ascend", "mean", "tilted"] | None = None
    """quantity to which the gradient of the value is added"""
    scale: str | None = None
    """guidance scale, or auto"""
    select: Literal["critic", "value", "none"] | None = None
    """score by which the best of the plans is chosen"""
    ask: Annotated[float, Bounds(0, 1)] | None = None
    """rank of the return that plans are conditioned on, from 0 (worst of the data) to 1 (best)"""
    ask_scale: Finite | None = None
    """classifier-free guidance scale for `ask`"""
    act_steps: Count | None = None
    """for plans to goals: actions of a plan that are done before the next plan"""
    pace: Literal["hurried", "brisk", "usual"] | None = None
    """for plans to goals: length of a plan, the quantile 0.1, 0.25 or 0.5 of the steps that the data need"""
    job: Job = JobFlags(threads=1)

    def __post_init__(self) -> None:
        check_fields(self)


SETTINGS = (
    "candidates",
    "sampling_steps",
    "temperature",
    "plan_horizon",
    "guidance",
    "scale",
    "select",
    "ask",
    "ask_scale",
    "act_steps",
    "pace",
)
"""Fields of `EvalPlanner` that are settings of a planner."""

TRAIN_PRESETS = {
    "default": TrainPlanner(),
    "tiny": changed(
        TrainPlanner(),
        preset="tiny",
        width=64,
        depth=2,
        value_steps=500,
        run=RunFlags(steps=1_000, batch_size=256, save_every=500),
    ),
}
TRAIN = Verb(
    TRAIN_PRESETS,
    "planning.recipes.planner.train:train_planner",
    "a planner of any environment, and its value function",
    "preset data env observe goal value horizon steps batch_size learning_rate out resume",
    after="planning.recipes.planner.train:after_planner",
)
EVAL = Verb(
    {"default": EvalPlanner()},
    "planning.recipes.planner.evaluate:evaluate_planner",
    "return and success in any gymnasium environment",
    "checkpoint env data episodes success video candidates ask guidance scale seed json",
)
