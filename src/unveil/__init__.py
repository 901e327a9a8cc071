"""unveil: generate behaviour, images and text with diffusion models, from one small core.

Names are imported at their first use, so that `import unveil` takes no time. If gymnasium is imported, the
ids `unveil/...` are registered with it by the import of unveil or the first use of a name, or explicitly by
`import unveil.planning.worlds.maze.registration`.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING

_NAMES = {
    "unveil.errors": ("UnveilError",),
    "unveil.loading": ("load",),
    "unveil.planning.guided_planner": ("GuidedPlanner",),
    "unveil.planning.plan": ("Plan",),
    "unveil.planning.planner": ("Planner", "PlannerSettings"),
    "unveil.policy.policy": ("Policy",),
    "unveil.policy.realtime": ("RealTimePolicy",),
    "unveil.image.generation": ("Given", "ImageSettings", "generate"),
    "unveil.image.model": ("ImageModel",),
    "unveil.policy.data.demonstrations": ("Demonstrations",),
    "unveil.text.generation": ("TextSettings", "continue_text", "fill_gaps"),
    "unveil.text.model": ("TextModel",),
    "unveil.planning.data.episodes": ("Episodes",),
    "unveil.network.condition": ("Condition",),
    "unveil.process.denoised": ("GaussianDenoised", "MaskedDenoised"),
    "unveil.process.denoiser": ("GaussianDenoiser",),
    "unveil.process.masked_objective": ("counted_loss", "masked_loss"),
    "unveil.process.masking": ("MaskedCosine", "MaskedDenoiser"),
    "unveil.process.objective": ("denoising_loss", "hybrid_loss"),
    "unveil.process.schedule": ("Cosine", "Flow", "Karras", "LinearBeta", "ScaledLinearBeta", "Tabulated"),
    "unveil.sampling.edit": ("Ascend", "Inpaint", "Replace", "chain"),
    "unveil.sampling.gaussian": (
        "DDIM",
        "LCM",
        "PNDM",
        "Ancestral",
        "DPMpp2M",
        "DPMpp2MSDE",
        "DPMppSDE",
        "Euler",
        "EulerAncestral",
        "Heun",
        "UniPC",
    ),
    "unveil.sampling.guidance": ("Branch", "cfg", "costing", "steered", "tilted"),
    "unveil.sampling.loop": ("sample",),
    "unveil.sampling.masked": ("AncestralUnmask", "ConfidentUnmask", "FirstHittingUnmask"),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}
__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]

if TYPE_CHECKING:
    from unveil.errors import UnveilError as UnveilError
    from unveil.image.generation import Given as Given
    from unveil.image.generation import ImageSettings as ImageSettings
    from unveil.image.generation import generate as generate
    from unveil.image.model import ImageModel as ImageModel
    from unveil.loading import load as load
    from unveil.network.condition import Condition as Condition
    from unveil.planning.data.episodes import Episodes as Episodes
    from unveil.planning.guided_planner import GuidedPlanner as GuidedPlanner
    from unveil.planning.plan import Plan as Plan
    from unveil.planning.planner import Planner as Planner
    from unveil.planning.planner import PlannerSettings as PlannerSettings
    from unveil.policy.data.demonstrations import Demonstrations as Demonstrations
    from unveil.policy.policy import Policy as Policy
    from unveil.policy.realtime import RealTimePolicy as RealTimePolicy
    from unveil.process.denoised import GaussianDenoised as GaussianDenoised
    from unveil.process.denoised import MaskedDenoised as MaskedDenoised
    from unveil.process.denoiser import GaussianDenoiser as GaussianDenoiser
    from unveil.process.masked_objective import counted_loss as counted_loss
    from unveil.process.masked_objective import masked_loss as masked_loss
    from unveil.process.masking import MaskedCosine as MaskedCosine
    from unveil.process.masking import MaskedDenoiser as MaskedDenoiser
    from unveil.process.objective import denoising_loss as denoising_loss
    from unveil.process.objective import hybrid_loss as hybrid_loss
    from unveil.process.schedule import Cosine as Cosine
    from unveil.process.schedule import Flow as Flow
    from unveil.process.schedule import Karras as Karras
    from unveil.process.schedule import LinearBeta as LinearBeta
    from unveil.process.schedule import ScaledLinearBeta as ScaledLinearBeta
    from unveil.process.schedule import Tabulated as Tabulated
    from unveil.sampling.edit import Ascend as Ascend
    from unveil.sampling.edit import Inpaint as Inpaint
    from unveil.sampling.edit import Replace as Replace
    from unveil.sampling.edit import chain as chain
    from unveil.sampling.gaussian import DDIM as DDIM
    from unveil.sampling.gaussian import LCM as LCM
    from unveil.sampling.gaussian import PNDM as PNDM
    from unveil.sampling.gaussian import Ancestral as Ancestral
    from unveil.sampling.gaussian import DPMpp2M as DPMpp2M
    from unveil.sampling.gaussian import DPMpp2MSDE as DPMpp2MSDE
    from unveil.sampling.gaussian import DPMppSDE as DPMppSDE
    from unveil.sampling.gaussian import Euler as Euler
    from unveil.sampling.gaussian import EulerAncestral as EulerAncestral
    from unveil.sampling.gaussian import Heun as Heun
    from unveil.sampling.gaussian import UniPC as UniPC
    from unveil.sampling.guidance import Branch as Branch
    from unveil.sampling.guidance import cfg as cfg
    from unveil.sampling.guidance import costing as costing
    from unveil.sampling.guidance import steered as steered
    from unveil.sampling.guidance import tilted as tilted
    from unveil.sampling.loop import sample as sample
    from unveil.sampling.masked import AncestralUnmask as AncestralUnmask
    from unveil.sampling.masked import ConfidentUnmask as ConfidentUnmask
    from unveil.sampling.masked import FirstHittingUnmask as FirstHittingUnmask
    from unveil.text.generation import TextSettings as TextSettings
    from unveil.text.generation import continue_text as continue_text
    from unveil.text.generation import fill_gaps as fill_gaps
    from unveil.text.model import TextModel as TextModel


def _register_worlds() -> None:
    if "gymnasium" in sys.modules:
        import_module("unveil.planning.worlds.maze.registration")


def __getattr__(name: str) -> object:
    _register_worlds()
    if name not in _HOME:
        raise AttributeError(f"module 'unveil' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__


_register_worlds()
