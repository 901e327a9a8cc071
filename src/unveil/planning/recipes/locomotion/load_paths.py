"""Where the runs of an evaluation are, in the words of jannerm/diffuser."""

from dataclasses import dataclass
from typing import Annotated

from unveil.checks import Bounds, check_fields

Count = Annotated[int, Bounds(1)]


@dataclass(frozen=True)
class LoadPaths:
    """Where the runs are, with the flags of Diffuser's scripts; --checkpoint is shorter and replaces them."""

    diffusion_loadpath: str = "f:diffusion/defaults_H{horizon}_T{n_diffusion_steps}"
    """run folder of the diffusion model below <logbase>/<dataset>; after f: names in braces are replaced by
    the flags below: the default is diffusion/defaults_H32_T20"""
    value_loadpath: str = "f:values/defaults_H{horizon}_T{n_diffusion_steps}_d{discount}"
    """run folder of the value function below <logbase>/<dataset>, written in the same way"""
    diffusion_epoch: str = "latest"
    """training step of the diffusion model's checkpoint, or latest"""
    value_epoch: str = "latest"
    """training step of the value function's checkpoint, or latest"""
    horizon: Count = 32
    """horizon that the runs were trained with, for the load paths"""
    n_diffusion_steps: Count = 20
    """number of diffusion steps that the runs were trained with, for the load paths"""
    discount: Annotated[float, Bounds(above=True, below=True)] = 0.997
    """discount that the value function was trained with, for its load path"""

    def __post_init__(self) -> None:
        check_fields(self)
