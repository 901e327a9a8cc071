"""Locomotion with value guidance: the configs. Fields are named as in the original config/locomotion.py."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from unveil.planning.data.names import MINARI
from unveil.runs.flags import PUBLISHED, Run, RunFlags, changed
from unveil.runs.verb import Given, Verb


@dataclass(frozen=True)
class TrainLocomotion:
    """Train a diffusion model of trajectories on recorded behaviour.

    Example: unveil train locomotion --dataset hopper-medium-expert --logbase logs
    """

    preset: Literal["tiny", "default", "paper"] = "default"
    """tiny proves learning in minutes; default is what the zoo holds; paper is Diffuser as published; other flags change single fields"""
    dataset: str = "hopper-medium-expert"
    """a D4RL name, a Minari id, or the path of an HDF5 or npz file; without a version, the D4RL-style set of `unveil data locomotion`"""
    logbase: Path = Path("logs")
    """runs are written to <logbase>/<dataset>/<prefix>_H<horizon>_T<n-diffusion-steps>"""
    prefix: str = "diffusion/defaults"
    """see --logbase"""
    model: Literal["transformer", "unet"] = "transformer"
    """the network: unet is the published one"""
    horizon: int = 32
    """environment steps of the longest training window"""
    shortest: int = 4
    """a batch's windows have this length or a multiple of it up to --horizon, so that all can be planned with; 0: all have --horizon"""
    n_diffusion_steps: int = 20
    """T, of the cosine schedule"""
    predict_epsilon: bool = False
    """the network predicts the noise instead of the clean trajectory"""
    inverse: bool = False
    """plan observations only, and learn the action between two of them apart"""
    width: int = 128
    """width of the network"""
    multiples: tuple[int, ...] = (1, 2, 4, 8)
    """channels of the unet's levels, in widths"""
    attention: bool = False
    """linear attention in the unet"""
    depth: int = 4
    """blocks of the transformer"""
    heads: int = 4
    """attention heads of the transformer"""
    patch: int = 4
    """rows a token of the transformer"""
    normalizer: Literal["gaussian", "limits"] = "gaussian"
    """to mean 0 and deviation 1, or to [-1, 1] by the data's limits"""
    returns: bool | None = None
    """tell the network how good the return is that follows, to ask for it (Decision Diffuser); by default the transformer is told"""
    untold: float = 0.25
    """share of windows of which it is not told"""
    returns_discount: float = 0.997
    """of rewards, per environment step, for the returns that it is told"""
    termination_penalty: float = -100.0
    """added to the reward of a terminal transition, for the returns that it is told"""
    action_weight: float = 10.0
    """factor on the error of a plan's first action"""
    loss_discount: float = 1.0
    """factor on the error of each further row"""
    start_from: Path | None = None
    """run or checkpoint whose weights a new run begins with, such as a converted one; by default they are random"""
    hold_out: float = 0.05
    """share of episodes that are not trained on (`--scale auto` chooses on them)"""
    run: Run = RunFlags(steps=8_000, batch_size=256, save_every=2_000)


@dataclass(frozen=True)
class TrainValue:
    """Train a value of noisy trajectories: the discounted return that follows a window.

    Example: unveil train value --dataset hopper-medium-expert --logbase logs
    """

    preset: Literal["tiny", "default", "paper"] = "default"
    """as of `unveil train locomotion`"""
    dataset: str = "hopper-medium-expert"
    """as of `unveil train locomotion`"""
    logbase: Path = Path("logs")
    """runs are written to <logbase>/<dataset>/<prefix>_H<horizon>_T<n-diffusion-steps>_d<discount>"""
    prefix: str = "values/defaults"
    """see --logbase"""
    model: Literal["transformer", "unet"] = "transformer"
    """the network: unet is the published one, the lower half of a U-Net"""
    horizon: int = 32
    """environment steps of the longest training window; the network takes any"""
    shortest: int = 4
    """as of `unveil train locomotion`"""
    n_diffusion_steps: int = 20
    """T, of the cosine schedule: that of the diffusion it guides"""
    inverse: bool = False
    """for plans of observations only"""
    width: int = 128
    """width of the network"""
    multiples: tuple[int, ...] = (1, 2, 4, 8)
    """channels of the unet's levels, in widths"""
    depth: int = 2
    """blocks of the transformer"""
    heads: int = 4
    """attention heads of the transformer"""
    patch: int = 4
    """rows a token of the transformer"""
    normalizer: Literal["gaussian", "limits"] = "gaussian"
    """that of the diffusion it guides"""
    discount: float = 0.997
    """of rewards, per environment step"""
    termination_penalty: float = -100.0
    """added to the reward of a terminal transition"""
    clean: float = 0.5
    """share of windows without noise: the critic that chooses among finished plans"""
    normed: bool = True
    """learn returns in units of their deviation; the value is in the data's units either way"""
    start_from: Path | None = None
    """run or checkpoint whose weights a new run begins with, such as a converted one; by default they are random"""
    hold_out: float = 0.05
    """share of episodes that are not trained on"""
    run: Run = RunFlags(steps=4_000, batch_size=256, learning_rate=5e-4)


@dataclass(frozen=True)
class EvalLocomotion:
    """Plan and act: returns and D4RL's normalised score over episodes that are stepped together.

    Example: unveil eval locomotion --dataset hopper-medium-expert --logbase logs --episodes 30 --seed 0 --json hopper.json
    """

    preset: Literal["default", "ask", "paper"] = "default"
    """ask takes the mean plan of the best return, in one call and without a value; default selects among few-step plans by a value; paper
    ascends the value as the released code does. Unless it is named the run decides: told returns: ask, or default where guidance or
    selection is asked for; the original's network: paper; else default. Other flags change single fields"""
    dataset: str = "hopper-medium-expert"
    """as of `unveil train locomotion`"""
    logbase: Path = Path("logs")
    """where runs of either program are"""
    checkpoint: str | None = None
    """a zoo name such as hopper-medium, a diffusion run, or a folder of a diffusion and a value, of either program; instead of the load
    paths, but --value-loadpath may add a value to it"""
    diffusion_loadpath: str = "f:diffusion/defaults_H{horizon}_T{n_diffusion_steps}"
    """run of the diffusion below <logbase>/<dataset>; after f: the names in braces are fields of this config"""
    value_loadpath: str = "f:values/defaults_H{horizon}_T{n_diffusion_steps}_d{discount}"
    """run of the value"""
    diffusion_epoch: str = "latest"
    """a step, or latest"""
    value_epoch: str = "latest"
    """a step, or latest"""
    raw: bool = False
    """take the weights themselves, not their average (EMA)"""
    horizon: int = 32
    """of training, for the load paths"""
    n_diffusion_steps: int = 20
    """of training, for the load paths"""
    discount: float = 0.997
    """of training, for the load paths"""
    plan_horizon: int | Literal["auto"] | None = "auto"
    """rows of a plan; auto: 16, or as trained if those are fewer; None: as trained"""
    batch_size: int = 16
    """candidates for one decision"""
    guidance: Literal["none", "ascend", "mean", "tilted"] = "none"
    """how the value moves samples: the state (released code), each step's mean (paper), the belief, or not at all"""
    scale: str = "0.1"
    """of the guidance, in its own units; auto chooses on held-out data"""
    n_guide_steps: int = 2
    """ascent steps a denoising step"""
    t_stopgrad: int = 2
    """no ascent at step numbers below"""
    scale_grad_by_std: bool = True
    """multiply the gradient by the step's variance"""
    select: Literal["critic", "value", "none"] = "critic"
    """rank candidates by the value of clean plans, of the least noisy ones (published), or take the first"""
    sharpness: float | None = None
    """act by the mean of all candidates weighted by softmax(sharpness * standardised score) instead of by the best"""
    anchored: bool = False
    """with --sharpness: the model's own mean in the place of the candidates' plain one, which spares their noise"""
    ask: float | None = None
    """plans whose return lies above this share of the data's, 0 to 1; by default 1, the best, of networks that are told returns"""
    ask_scale: float = 1.0
    """of classifier-free guidance towards them: 0 asks for nothing, 1 asks, more insists; preset ask has 2"""
    sampling_steps: int = 3
    """denoising steps for a decision"""
    solver: Literal["ddim", "ancestral", "dpmpp"] = "ddim"
    """without guidance or with tilted; the others are ancestral"""
    warm_steps: int | None = None
    """denoising steps of later decisions, which start from the last plan noised again; by default they start from noise"""
    temperature: float = 0.5
    """factor on noise"""
    clip_denoised: bool = True
    """clamp beliefs to the smallest and largest values in the data"""
    max_episode_length: int = 1000
    """environment steps"""
    version: Literal["v4", "v5"] = "v5"
    """of gymnasium's body"""
    episodes: int = 30
    """number of episodes"""
    seed: int = 0
    """of starts and noise"""
    fast: Literal["off", "float32", "bfloat16"] = "off"
    """the unet and its value laid out for planning: the same to 1e-5 in float32, near in bfloat16; other networks stay as they are"""
    compile: Literal["off", "auto"] = "off"
    """with --fast, torch.compile where it measures faster; takes minutes at first"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:0 or mps"""
    threads: int = 1
    """CPU threads"""
    json: str | None = None
    """write the result here; - is standard output; by default <logbase>/<dataset>/plans/..."""


PAPER = replace(PUBLISHED, batch_size=32, accumulate=2, learning_rate=2e-4, ema_decay=0.9995)
TRAIN_PRESETS = {
    "default": TrainLocomotion(),
    "tiny": changed(TrainLocomotion(), preset="tiny", width=64, depth=2, steps=1_000, save_every=500),
    "paper": TrainLocomotion(
        preset="paper",
        model="unet",
        width=32,
        shortest=0,
        hold_out=0.0,
        run=replace(PAPER, steps=1_000_000, save_every=2_000),
    ),
}
VALUE_PRESETS = {
    "default": TrainValue(),
    "tiny": changed(TrainValue(), preset="tiny", width=64, steps=500, save_every=500),
    "paper": TrainValue(
        preset="paper",
        model="unet",
        width=32,
        shortest=0,
        clean=0.0,
        normed=False,
        hold_out=0.0,
        run=replace(PAPER, steps=200_000, save_every=1_000),
    ),
}
EVAL_PRESETS = {
    "default": EvalLocomotion(),
    "ask": EvalLocomotion(
        preset="ask",
        ask=1.0,
        ask_scale=2.0,
        plan_horizon=4,
        batch_size=1,
        select="none",
        sampling_steps=1,
        temperature=0.0,
    ),
    "paper": EvalLocomotion(
        preset="paper",
        guidance="ascend",
        select="value",
        batch_size=64,
        sampling_steps=20,
        solver="ancestral",
        temperature=1.0,
        clip_denoised=False,
        plan_horizon=None,
    ),
}


def check_logbase(logbase: Path) -> None:
    """Refuse an empty --logbase, which Python reads as the folder here.

    Raises:
        ValueError: it is empty; a run here is asked for by its absolute path.
    """
    if str(logbase) == ".":
        raise ValueError(
            '--logbase is empty, or the folder here; give the folder of all runs, such as logs ("$PWD" for this one)'
        )


def folder_name(dataset: str) -> str:
    """The data set's folder below --logbase: a file's name without its ending, a D4RL name as it is, a Minari id with - for /."""
    return dataset.replace("/", "-") if MINARI.fullmatch(dataset) else Path(dataset).stem


def for_dataset(config: Any, dataset: str) -> Any:
    """The released overrides for single data sets, on the preset `paper`."""
    changes: dict[str, Any] = {}
    if config.preset == "paper" and "halfcheetah" in dataset:
        changes = {"horizon": 4, "multiples": (1, 4, 8), "attention": True, "scale": "0.001", "t_stopgrad": 4}
    elif config.preset == "paper" and "hopper-medium-expert" in dataset:
        changes = {"scale": "0.0001", "t_stopgrad": 4}
    return replace(config, **{name: value for name, value in changes.items() if hasattr(config, name)})


@dataclass(frozen=True)
class DataLocomotion:
    """Generate D4RL-style locomotion data: policies of known strength, rolled out with their noise in whole episodes.

    Example: unveil data locomotion --body hopper --mix medium-replay --policies mujoco_policies --steps 200000 --seed 0
    """

    body: str = "hopper"
    """hopper, walker2d or halfcheetah"""
    mix: Literal["medium", "medium-replay", "medium-expert", "expert"] = "medium"
    """whose behaviour: a medium policy's, also all its predecessors', also an expert's, or only an expert's"""
    policies: Path | None = None
    """folder with trpo_<Body>.npz and tqc_<Body>.npz; by default mujoco_policies below $UNVEIL_DATA or the cache"""
    steps: int = 200_000
    """transitions, at least; each policy of the mix gives an equal share in whole episodes"""
    seed: int = 0
    """the same seed gives the same file"""
    version: Literal["v5", "v4"] = "v5"
    """of gymnasium's worlds; v4 rewards the last, unhealthy step as D4RL's did"""
    out: Path | None = None
    """HDF5 file in D4RL's layout, with a card beside it; by default in the cache, $UNVEIL_HOME/locomotion/<body>-<mix>.hdf5"""
    device: str = "auto"
    """unused here; every verb takes it"""
    json: str | None = None
    """write the card and the numbers here; - is standard output"""


DIFFUSER = {
    "--n-train-steps": "--steps",
    "--gradient-accumulate-every": "--accumulate",
    "--save-freq": "--save-every",
    "--dim": "--width",
    "--dim-mults": "--multiples",
}
"""Diffuser's names of flags."""


def fit(config: Any, given: Given) -> Any:
    """The config with the released overrides for the data set that is named."""
    return for_dataset(config, given("dataset") or config.dataset)


DATA = Verb(
    {"default": DataLocomotion()},
    "planning.recipes.locomotion.data:make_locomotion_data",
    "D4RL-style data of Hopper, Walker2d and HalfCheetah",
    ("body", "mix", "policies", "steps", "seed", "out"),
)
TRAIN = Verb(
    TRAIN_PRESETS,
    "planning.recipes.locomotion.train:train_locomotion",
    "a diffusion model of trajectories",
    (
        "preset",
        "dataset",
        "logbase",
        "model",
        "horizon",
        "returns",
        "steps",
        "batch_size",
        "learning_rate",
        "resume",
    ),
    fit=fit,
    after="planning.recipes.locomotion.next_step:after_diffusion",
    aliases=DIFFUSER,
)
VALUE = Verb(
    VALUE_PRESETS,
    "planning.recipes.locomotion.train:train_value",
    "the value that guides it",
    (
        "preset",
        "dataset",
        "logbase",
        "model",
        "horizon",
        "discount",
        "steps",
        "batch_size",
        "learning_rate",
        "resume",
    ),
    fit=fit,
    after="planning.recipes.locomotion.next_step:after_value",
    aliases=DIFFUSER,
)
EVAL = Verb(
    EVAL_PRESETS,
    "planning.recipes.locomotion.evaluate:evaluate_locomotion",
    "returns and D4RL's normalised score",
    (
        "preset",
        "dataset",
        "logbase",
        "checkpoint",
        "batch_size",
        "guidance",
        "scale",
        "select",
        "ask",
        "sampling_steps",
        "episodes",
        "json",
    ),
    fit=fit,
    settle="planning.recipes.locomotion.preset:with_preset",
)
