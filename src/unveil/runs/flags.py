"""Settings that all trainings share: duration, optimizer, checkpoints, device. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from math import inf
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

from tyro.conf import OmitArgPrefixes, arg

from unveil.checks import Bounds, check_fields


@dataclass(frozen=True)
class RunFlags:
    """Settings of the optimizer, the run folder and the machine.

    Raises:
        ValueError: a value of another type or out of range; the message names the field.
    """

    steps: Annotated[int, Bounds(1)] = 5_000
    """number of optimizer steps"""
    batch_size: Annotated[int, Bounds(0)] = 0
    """samples per batch; 0, only for image models: 32 for colour images, otherwise 128"""
    accumulate: Annotated[int, Bounds(1)] = 1
    """batches per optimizer step (gradient accumulation), in each process of torchrun"""
    learning_rate: Annotated[float, Bounds(0, above=True, below=True)] = 1e-3
    """peak learning rate, after the warm-up; a cosine then lowers it to `final_fraction` of the peak"""
    warmup: Annotated[int, Bounds(0)] = 200
    """steps of linear warm-up of the learning rate"""
    final_fraction: Annotated[float, Bounds(0, 1)] = 0.02
    """final learning rate as a fraction of the peak; 1 keeps it constant"""
    weight_decay: Annotated[float, Bounds(0, below=True)] = 0.0
    """weight decay of AdamW; 0 is Adam"""
    adam_betas: Annotated[
        tuple[Annotated[float, Bounds(0, 1, below=True)], Annotated[float, Bounds(0, 1, below=True)]],
        arg(name="betas"),
    ] = (0.9, 0.99)  # `betas` of config.json are those of the noise schedule
    """decay rates of AdamW's two moments"""
    clip: Annotated[float, Bounds(0, above=True)] = 1.0
    """largest norm of the gradient, beyond which it is scaled down; inf disables clipping"""
    ema_decay: Annotated[float, Bounds(0, 1, below=True)] = 0.999
    """largest decay of the exponential moving average (EMA) of the weights, which sampling uses"""
    ema_power: Annotated[float, Bounds(0, below=True)] = 0.75
    """warm-up exponent of the EMA: the decay after step k is at most 1 - (1 + k)^-power; 0: constant decay"""
    bfloat16: bool | None = None
    """compute in bfloat16 where that is safe (autocast); by default if it is measured to be faster at the
    start of the run"""
    compile: bool = False
    """compile the network with torch.compile; needs a C++ compiler, and takes minutes at the start"""
    save_every: Annotated[int, Bounds(1)] = 1_000
    """steps between checkpoints"""
    keep: Annotated[int, Bounds(0)] = 1
    """number of newest checkpoints to keep; 0 keeps all"""
    sample_every: Annotated[int, Bounds(-1)] = 0
    """steps between samples from the averaged weights, written to samples/ of the run folder;
    a multiple of `save_every`; 0: at each checkpoint; -1: none"""
    log: Literal["none", "tensorboard", "trackio", "wandb"] = "none"
    """tracker that receives the metrics too; they are always written to metrics.jsonl of the run folder"""
    out: Path | None = None
    """run folder to write; by default runs/ and the recipe's name; for mazes runs/maze-<maze>-<preset>; for
    planner runs/planner-<data>; for locomotion and value the folder that --logbase describes, which --out
    replaces"""
    source: Annotated[str, arg(name="from")] = ""
    """checkpoint to fine-tune: run folder, checkpoint folder (also a converted one) or packaged model whose
    weights and network the training begins with; the default learning rate is then a tenth, and the warm-up
    at most 100 steps; by default weights are random"""
    statistics: Literal["kept", "learned"] = "kept"
    """with `from`: the statistics that normalise the data are those of the checkpoint (kept), or learned from
    the new data (learned)"""
    freeze: Literal["none", "encoder"] = "none"
    """with `from`: part of the network that is not trained; encoder: the encoder of pictures, or of text"""
    resume: bool = False
    """continue from the newest undamaged checkpoint of the run folder"""
    new_data: bool = False
    """with `resume`: continue with more or fewer data; the statistics that normalise the data stay those of
    the checkpoint"""
    seed: Annotated[int, Bounds(0, 2**63 - 1)] = 0
    """seed of the initial weights, batches, times and noise"""
    device: str = "auto"
    """device: auto, cpu, cuda, cuda:0 or mps; auto takes the fastest that is available"""
    threads: Annotated[int, Bounds(0)] = 0
    """number of CPU threads; 0 lets torch decide"""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.sample_every > 0 and self.sample_every % self.save_every:
            raise ValueError(
                f"`sample_every` must be a multiple of `save_every`, got {self.sample_every} and "
                f"{self.save_every}: samples are made at checkpoints"
            )

    @property
    def folder(self) -> Path:
        """The run folder that --out names."""
        return self.out or Path("runs")


Run = OmitArgPrefixes[RunFlags]
"""`RunFlags` as a field of a config, with flags without a prefix."""


@dataclass(frozen=True)
class JobFlags:
    """Seed, machine and result file: what evaluations, samples and conversions of data share."""

    seed: Annotated[int, Bounds(0, 2**63 - 1)] = 0
    """seed of all random numbers"""
    device: str = "auto"
    """device of networks: auto, cpu, cuda, cuda:0 or mps; auto takes the fastest that is available"""
    threads: Annotated[int, Bounds(0)] = 0
    """number of CPU threads; 0 lets torch decide"""
    json: str | None = None
    """file for the result as JSON, with commit, machine and versions; - is standard output; by default no
    file"""

    def __post_init__(self) -> None:
        check_fields(self)


Job = OmitArgPrefixes[JobFlags]
"""`JobFlags` as a field of a config, with flags without a prefix."""

PUBLISHED = RunFlags(warmup=0, final_fraction=1.0, adam_betas=(0.9, 0.999), clip=inf)
"""Settings of jannerm/diffuser: Adam at a constant learning rate, without clipping."""

SLOWER, WARMUP = 0.1, 100  # learning rate and warm-up of fine-tuning

Config = TypeVar("Config")
Value = TypeVar("Value")
RENAMED = {  # old name of a field of config.json -> its name today
    "n_train_steps": "steps",
    "gradient_accumulate_every": "accumulate",
    "save_freq": "save_every",
    "dim": "width",
    "dim_mults": "multiples",
    "ema": "ema_decay",
}


def flat(config: Any) -> dict[str, Any]:  # `fields` takes typeshed's private type; `getattr` returns Any
    """All fields of a config by name, including those of embedded settings, as in config.json and records."""
    values: dict[str, object] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        values |= flat(value) if is_dataclass(value) else {field.name: value}
    return values


def names_of(config: Any) -> dict[str, str]:
    """Name of each field -> name of the embedded settings that hold it, "" for the config's own fields."""
    names: dict[str, str] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        names |= dict.fromkeys(names_of(value), field.name) if is_dataclass(value) else {field.name: ""}
    return names


def changed(config: Config, **values: object) -> Config:
    """Replace fields of a config or of the settings embedded in it.

    Raises:
        TypeError: no such field.
    """
    owners = names_of(config)
    if unknown := [name for name in values if name not in owners and not hasattr(config, name)]:
        raise TypeError(f"{type(config).__name__} has no field {', '.join(unknown)}")
    own = {name: value for name, value in values.items() if not owners.get(name)}
    for part in {owners[name] for name in values if owners.get(name)}:
        inside = {name: value for name, value in values.items() if owners.get(name) == part}
        own[part] = changed(getattr(config, part), **inside)
    return replace(cast(Any, config), **own)


def tuned(config: Config) -> Config:
    """The config of a training with the defaults of fine-tuning: a lower learning rate, a short warm-up."""
    if names_of(config).get("source") != "run":
        return config
    flags = flat(config)
    return changed(config, learning_rate=SLOWER * flags["learning_rate"], warmup=min(WARMUP, flags["warmup"]))


def modern(described: Mapping[str, Value]) -> dict[str, Value]:
    """The contents of config.json, with old names of fields replaced."""
    return {RENAMED.get(name, name): value for name, value in described.items()}
