"""Configs of the locomotion recipe: training, evaluation and data. Fields are named as in Diffuser's
config/locomotion.py. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from tyro.conf import OmitArgPrefixes, arg

from unveil.checks import Bounds, check_fields
from unveil.planning.data.names import MINARI
from unveil.planning.guided_planner_settings import Count, Finite, GuidedSettings
from unveil.planning.recipes.locomotion.data_config import DataLocomotion
from unveil.planning.recipes.locomotion.load_paths import LoadPaths
from unveil.runs.flags import PUBLISHED, Job, JobFlags, Run, RunFlags, changed, flat, names_of
from unveil.runs.verb import Given, Verb

Fraction = Annotated[float, Bounds(0, 1, below=True)]
Discount = Annotated[float, Bounds(0, 1, above=True)]


@dataclass(frozen=True)
class SharedFlags:
    """Data, windows and network of a diffusion model, and of the value function that guides it.

    Both must have the same data, horizon, diffusion steps, normaliser and held-out episodes.
    """

    preset: Literal["tiny", "default", "paper"] = "default"
    """tiny: a small network, trained in minutes; default: the settings of the packaged models; paper:
    Diffuser as published (1 million steps, of a value 200,000); other flags change single settings"""
    dataset: str = "hopper-medium-expert"
    """D4RL name, Minari id, or path of an HDF5 or npz file; a D4RL name without version is the D4RL-style set
    of `unveil data locomotion`"""
    logbase: Path = Path("logs")
    """folder of all runs; this run's folder is <logbase>/<dataset>/<prefix>_H<horizon>_T<n-diffusion-steps>,
    followed by _d<discount> for a value, unless `out` names another"""
    model: Literal["transformer", "unet"] = "transformer"
    """network; unet is the published one, of which a value function uses the first half"""
    horizon: Count = 32
    """environment steps of the longest training window"""
    shortest: Annotated[int, Bounds(0)] = 4
    """environment steps of the shortest training window; windows have all multiples of it as length, up to
    `horizon`, so that plans of all these lengths work; 0: all windows have the length `horizon`"""
    n_diffusion_steps: Count = 20
    """number T of diffusion steps of the cosine schedule"""
    inverse: bool = False
    """plan observations only; a second network learns the action between two observations"""
    width: Count = 128
    """width of the network"""
    multiples: tuple[Count, ...] = (1, 2, 4, 8)
    """channels of the unet's levels, as multiples of `width`"""
    depth: Count = 4
    """number of transformer blocks"""
    heads: Count = 4
    """number of attention heads of the transformer"""
    patch: Count = 4
    """environment steps per token of the transformer; more is faster and coarser"""
    normalizer: Literal["gaussian", "limits"] = "gaussian"
    """normalisation of the data: to mean 0 and standard deviation 1, or to [-1, 1] by the data's limits"""
    termination_penalty: Finite = -100.0
    """number added to the reward of a terminal transition, before returns are computed"""
    start_from: Path | None = None
    """run or checkpoint whose weights training starts from, such as a converted one; by default weights are
    random"""
    hold_out: Fraction = 0.05
    """fraction of episodes that are left out of training; `unveil eval locomotion --scale auto` needs them"""

    def __post_init__(self) -> None:
        check_fields(self)


Shared = OmitArgPrefixes[SharedFlags]


@dataclass(frozen=True)
class TrainLocomotion:
    """Train a diffusion model of trajectories on recorded behaviour.

    Example: unveil train locomotion --dataset hopper-medium-expert --logbase logs
    """

    shared: Shared = SharedFlags()
    prefix: str = "diffusion/defaults"
    """beginning of the run folder's name, see `logbase`"""
    predict_epsilon: bool = False
    """predict the noise instead of the clean trajectory"""
    attention: bool = False
    """use linear attention in the unet"""
    returns: bool | None = None
    """condition the network on the return that follows, so that plans can be conditioned on high returns
    (Decision Diffuser); by default True for the transformer, False for the unet"""
    untold: Fraction = 0.25
    """probability of dropping the return condition during training (for classifier-free guidance)"""
    returns_discount: Discount = 0.997
    """discount of rewards per environment step, for the returns that the network is conditioned on"""
    action_weight: Finite = 10.0
    """loss weight of the first action of a plan"""
    loss_discount: Finite = 1.0
    """factor on the loss weight from each environment step of a window to the next; 1: all weigh the same"""
    run: Run = RunFlags(steps=8_000, batch_size=256, save_every=2_000)

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class TrainValue:
    """Train a value function that guides the locomotion model: the return that follows a noisy trajectory.

    It is needed only for guidance and for choosing among plans. `unveil eval locomotion --preset ask`, which
    the default network uses, works without it.

    Example: unveil train value --dataset hopper-medium-expert --logbase logs
    """

    shared: Shared = SharedFlags(depth=2)
    prefix: str = "values/defaults"
    """beginning of the run folder's name, see `logbase`"""
    discount: Finite = 0.997
    """discount of rewards per environment step"""
    clean: Annotated[float, Bounds(0, 1)] = 0.5
    """fraction of training windows without noise; these train the critic that ranks finished plans
    (`unveil eval locomotion --select critic`)"""
    normed: bool = True
    """learn returns in units of their standard deviation; values are converted back to the data's units"""
    run: Run = RunFlags(steps=4_000, batch_size=256, learning_rate=5e-4)

    def __post_init__(self) -> None:
        check_fields(self)


FEW_STEPS = GuidedSettings(candidates=16, steps=3, temperature=0.5, plan_horizon="auto")


@dataclass(frozen=True)
class EvalLocomotion:
    """Plan and act in all episodes at once: returns and D4RL's normalised score.

    Without --json the result is written below <logbase>/<dataset>/plans. Without --preset the run decides
    which preset is used; the defaults of the settings differ between presets.

    Example: unveil eval locomotion --dataset hopper-medium-expert --logbase logs --json hopper.json
    """

    preset: Annotated[
        Literal["default", "ask", "paper"], arg(help_behavior_hint="(default: chosen by the run)")
    ] = "default"
    """ask: one plan conditioned on the best return, in one denoising step and without a value function;
    default: 16 plans, of which the value function chooses one; paper: gradient ascent on the value function
    as in Diffuser's released code. Without this flag the run decides: ask for networks conditional on returns
    (but default if other flags ask for guidance or selection), paper for the published network, otherwise
    default. Other flags change single settings"""
    dataset: str = "hopper-medium-expert"
    """data set that the runs were trained on, see `unveil train locomotion`; with `checkpoint` by default
    that of the checkpoint"""
    logbase: Path = Path("logs")
    """folder of all runs, of unveil or of jannerm/diffuser"""
    checkpoint: str | None = None
    """name of a packaged model such as hopper-medium (see `unveil weights`), run of a diffusion model, or
    folder of a diffusion model and a value function, of unveil or of jannerm/diffuser; used instead of the
    load paths, but `value_loadpath` may add a value function; by default the run below `logbase`"""
    loadpaths: OmitArgPrefixes[LoadPaths] = field(default_factory=LoadPaths)
    raw: bool = False
    """use the raw weights instead of their moving average (EMA)"""
    settings: OmitArgPrefixes[GuidedSettings] = FEW_STEPS
    max_episode_length: Count = 1000
    """largest number of environment steps of an episode"""
    version: Literal["v4", "v5"] = "v5"
    """version of the gymnasium environment; v4 rewards the last, unhealthy step as D4RL did"""
    episodes: Count = 30
    """number of episodes"""
    fast: Literal["off", "float32", "bfloat16"] = "off"
    """faster implementation of the unet and its value function: equal to 1e-5 in float32, approximate in
    bfloat16; other networks are not changed"""
    compile: Literal["off", "auto"] = "off"
    """with `fast`: use torch.compile where it is measured to be faster; takes minutes at first"""
    job: Job = JobFlags(threads=1)

    def __post_init__(self) -> None:
        check_fields(self)


Config = TypeVar("Config", bound=TrainLocomotion | TrainValue | EvalLocomotion)

PAPER = replace(PUBLISHED, batch_size=32, accumulate=2, learning_rate=2e-4, ema_decay=0.9995)
UNET = SharedFlags(preset="paper", model="unet", width=32, shortest=0, hold_out=0.0)
TRAIN_PRESETS = {
    "default": TrainLocomotion(),
    "tiny": changed(TrainLocomotion(), preset="tiny", width=64, depth=2, steps=1_000, save_every=500),
    "paper": TrainLocomotion(UNET, run=replace(PAPER, steps=1_000_000, save_every=2_000)),
}
VALUE_PRESETS = {
    "default": TrainValue(),
    "tiny": changed(TrainValue(), preset="tiny", width=64, steps=500, save_every=500),
    "paper": TrainValue(
        replace(UNET, depth=2), clean=0.0, normed=False, run=replace(PAPER, steps=200_000, save_every=1_000)
    ),
}
EVAL_PRESETS = {
    "default": EvalLocomotion(),
    "ask": changed(
        EvalLocomotion(),
        preset="ask",
        ask=1.0,
        ask_scale=2.0,
        plan_horizon=4,
        candidates=1,
        select="none",
        steps=1,
        temperature=0.0,
    ),
    "paper": changed(
        EvalLocomotion(),
        preset="paper",
        guidance="ascend",
        select="value",
        candidates=64,
        steps=20,
        solver="ancestral",
        temperature=1.0,
        clip=False,
        plan_horizon=None,
    ),
}


def check_logbase(logbase: Path) -> None:
    """Refuse an empty `logbase`, which Python reads as the current folder.

    Raises:
        ValueError: it is empty; a run in the current folder needs the absolute path.
    """
    if str(logbase) == ".":
        raise ValueError(
            '`logbase` is empty, or the folder here; give the folder of all runs, such as logs ("$PWD" for '
            "this one)"
        )


def folder_name(dataset: str) -> str:
    """The data set's folder below `logbase`: a file's name without suffix, a D4RL name as it is, or a Minari
    id with - for /."""
    return dataset.replace("/", "-") if MINARI.fullmatch(dataset) else Path(dataset).stem


def for_dataset(config: Config, dataset: str) -> Config:
    """The config with the settings for a data set: the released overrides of the preset `paper`, and the
    guidance scale of `ask`.

    Hopper's plans have the guidance scale 2; bodies that fall or flip after a large step have the scale 1,
    which is the conditional model itself. Chosen on seeds from 1000 on (docs/log.md).
    """
    overrides: dict[str, object] = {}
    preset, known = flat(config)["preset"], names_of(config)
    if preset == "paper" and "halfcheetah" in dataset:
        overrides = {"horizon": 4, "multiples": (1, 4, 8), "attention": True, "scale": 0.001, "t_stopgrad": 4}
    elif preset == "paper" and "hopper-medium-expert" in dataset:
        overrides = {"scale": 0.0001, "t_stopgrad": 4}
    elif preset == "ask" and "walker2d" in dataset:
        overrides = {"ask_scale": 1.0, "steps": 2}
    elif preset == "ask" and "halfcheetah" in dataset:
        overrides = {"ask_scale": 1.0}
    return changed(config, **{name: value for name, value in overrides.items() if name in known})


TRAINING = {
    "--n-train-steps": "--steps",
    "--gradient-accumulate-every": "--accumulate",
    "--save-freq": "--save-every",
    "--dim": "--width",
    "--dim-mults": "--multiples",
}
"""Diffuser's names of the flags of training."""
PLANNING = {
    "--batch-size": "--candidates",
    "--sampling-steps": "--steps",
    "--clip-denoised": "--clip",
    "--no-clip-denoised": "--no-clip",
}
"""Other names of the flags of planning: Diffuser's, and older ones of ours."""
DIFFUSER = TRAINING | PLANNING


def fit(config: Config, given: Given) -> Config:
    """The config with the released overrides for the data set that the command line names."""
    return for_dataset(config, given("dataset") or flat(config)["dataset"])


DATA = Verb(
    {"default": DataLocomotion()},
    "planning.recipes.locomotion.data:make_locomotion_data",
    "D4RL-style data of Hopper, Walker2d and HalfCheetah",
    "body mix policies steps seed out",
)
TRAIN = Verb(
    TRAIN_PRESETS,
    "planning.recipes.locomotion.train:train_locomotion",
    "a diffusion model of trajectories",
    "preset dataset logbase model horizon returns steps batch_size learning_rate resume",
    fit=fit,
    after="planning.recipes.locomotion.next_step:after_diffusion",
    aliases=TRAINING | {"--return-drop": "--untold"},
)
VALUE = Verb(
    VALUE_PRESETS,
    "planning.recipes.locomotion.train:train_value",
    "a value function that guides the locomotion model",
    "preset dataset logbase model horizon discount steps batch_size learning_rate resume",
    fit=fit,
    after="planning.recipes.locomotion.next_step:after_value",
    aliases=TRAINING,
)
EVAL = Verb(
    EVAL_PRESETS,
    "planning.recipes.locomotion.evaluate:evaluate_locomotion",
    "returns and D4RL's normalised score",
    "preset dataset logbase checkpoint candidates guidance scale select ask steps episodes json",
    fit=fit,
    settle="planning.recipes.locomotion.preset:with_preset",
    aliases=PLANNING,
)
