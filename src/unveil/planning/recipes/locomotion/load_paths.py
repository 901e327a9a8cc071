"""Where the runs of an evaluation are, in the words of jannerm/diffuser."""

from dataclasses import dataclass
from typing import Annotated

from unveil.checks import Bounds, check_fields

Count = Annotated[int, Bounds(1)]


@dataclass(frozen=True)
class LoadPaths:
    """Where the runs are, as Diffuser's scripts say it; --checkpoint is the short way."""

    diffusion_loadpath: str = "f:diffusion/defaults_H{horizon}_T{n_diffusion_steps}"
    """run of the diffusion below <logbase>/<dataset>; after f: names in braces are replaced by these flags"""
    value_loadpath: str = "f:values/defaults_H{horizon}_T{n_diffusion_steps}_d{discount}"
    """run of the value below <logbase>/<dataset>"""
    diffusion_epoch: str = "latest"
    """step of the diffusion's checkpoint, or latest"""
    value_epoch: str = "latest"
    """step of the value's checkpoint, or latest"""
    horizon: Count = 32
    """horizon that the runs were trained with"""
    n_diffusion_steps: Count = 20
    """number of diffusion steps that the runs were trained with"""
    discount: Annotated[float, Bounds(above=True, below=True)] = 0.997
    """discount that the value was trained with"""

    def __post_init__(self) -> None:
        check_fields(self)
