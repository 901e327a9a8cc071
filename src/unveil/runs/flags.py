"""What every training asks: how long, how fast, what is kept, where it runs. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from math import inf
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import OmitArgPrefixes, arg

from unveil.checks import Bounds, check_fields


@dataclass(frozen=True)
class RunFlags:
    """How to train, and where the run is kept.

    Raises:
        ValueError: a value of another type or out of range, by name.
    """

    steps: Annotated[int, Bounds(1)] = 5_000
    """optimizer steps"""
    batch_size: Annotated[int, Bounds(0)] = 0
    """samples per batch; 0: as many as suit the recipe"""
    accumulate: Annotated[int, Bounds(1)] = 1
    """batches per optimizer step (gradient accumulation), in each process of torchrun"""
    learning_rate: Annotated[float, Bounds(0, above=True, below=True)] = 1e-3
    """peak learning rate, after the warm-up; then a cosine down to --final-fraction of it"""
    warmup: Annotated[int, Bounds(0)] = 200
    """steps of linear warm-up"""
    final_fraction: Annotated[float, Bounds(0, 1)] = 0.02
    """last learning rate as a fraction of the peak; 1 keeps it constant"""
    weight_decay: Annotated[float, Bounds(0, below=True)] = 0.0
    """weight decay of AdamW"""
    adam_betas: Annotated[
        tuple[Annotated[float, Bounds(0, 1, below=True)], Annotated[float, Bounds(0, 1, below=True)]],
        arg(name="betas"),
    ] = (0.9, 0.99)  # `betas` of config.json are those of a noise schedule
    """decay rates of AdamW's two moments"""
    clip: Annotated[float, Bounds(0, above=True)] = 1.0
    """largest norm of the gradient; inf disables clipping"""
    ema_decay: Annotated[float, Bounds(0, 1, below=True)] = 0.999
    """largest decay of the exponential moving average of the weights, which samples are made with"""
    ema_power: Annotated[float, Bounds(0, below=True)] = 0.75
    """how fast that is reached: the decay after step k is at most 1 - (1 + k)^-power; 0 for a constant decay"""
    bfloat16: bool | None = None
    """train under bfloat16 autocast; by default if it is measured to be faster when the run begins"""
    compile: bool = False
    """compile the network with torch.compile, which wants a C++ compiler and minutes at first"""
    save_every: Annotated[int, Bounds(1)] = 1_000
    """steps between checkpoints"""
    keep: Annotated[int, Bounds(0)] = 1
    """number of newest checkpoints to keep; 0 keeps all"""
    sample_every: Annotated[int, Bounds(-1)] = 0
    """steps between samples of the averaged weights, a multiple of --save-every, in samples/ of the run folder; 0: at each checkpoint;
    -1: none"""
    log: Literal["none", "tensorboard", "trackio", "wandb"] = "none"
    """where metrics go besides metrics.jsonl"""
    out: Path | None = None
    """run folder; by default runs/ and the recipe's name"""
    resume: bool = False
    """continue from the newest good checkpoint of the run folder"""
    new_data: bool = False
    """with --resume: continue although the data have grown or shrunk; statistics stay those of the checkpoint"""
    seed: Annotated[int, Bounds(0, 2**63 - 1)] = 0
    """seed of weights, batches, times and noise"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:0 or mps"""
    threads: Annotated[int, Bounds(0)] = 0
    """CPU threads; 0 lets torch decide"""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.sample_every > 0 and self.sample_every % self.save_every:
            raise ValueError(
                f"`sample_every` must be a multiple of `save_every`, got {self.sample_every} and {self.save_every}: "
                "samples are made at checkpoints"
            )

    @property
    def folder(self) -> Path:
        """The run folder that --out names."""
        return self.out or Path("runs")


Run = OmitArgPrefixes[RunFlags]
"""`RunFlags` as a field of a config, its flags without a prefix."""

PUBLISHED = RunFlags(warmup=0, final_fraction=1.0, adam_betas=(0.9, 0.999), clip=inf)
"""How jannerm/diffuser trains: Adam at a constant rate, no clipping."""

RENAMED = {  # fields of configs of older versions
    "n_train_steps": "steps",
    "gradient_accumulate_every": "accumulate",
    "save_freq": "save_every",
    "dim": "width",
    "dim_mults": "multiples",
    "ema": "ema_decay",
}


def flat(config: Any) -> dict[str, Any]:
    """All fields of a config by name, those of embedded settings among them: what config.json and records hold."""
    found: dict[str, Any] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        found |= flat(value) if is_dataclass(value) else {field.name: value}
    return found


def names_of(config: Any) -> dict[str, str]:
    """Where each field is: its name -> the embedded settings' name, or "" for the config's own."""
    found: dict[str, str] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        found |= dict.fromkeys(names_of(value), field.name) if is_dataclass(value) else {field.name: ""}
    return found


def changed(config: Any, **values: Any) -> Any:
    """The config with other values of these fields, wherever they are: its own, or those of settings embedded in it.

    Raises:
        TypeError: no such field.
    """
    places = names_of(config)
    if strange := [name for name in values if name not in places and not hasattr(config, name)]:
        raise TypeError(f"{type(config).__name__} has no field {', '.join(strange)}")
    own = {name: value for name, value in values.items() if not places.get(name)}
    for part in {places[name] for name in values if places.get(name)}:
        inside = {name: value for name, value in values.items() if places.get(name) == part}
        own[part] = changed(getattr(config, part), **inside)
    return replace(config, **own)


def modern(described: Mapping[str, Any]) -> dict[str, Any]:
    """What config.json says, under today's names of fields."""
    return {RENAMED.get(name, name): value for name, value in described.items()}
