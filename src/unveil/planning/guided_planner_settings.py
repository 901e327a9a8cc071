"""Settings of the planner of trajectories: how plans are sampled, guided and chosen. Free of torch and numpy.

`GuidedPlanner` gets guidance and ranking as functions. `planning/recipes/locomotion/planner.py` builds these
functions from the fields `guidance` to `solver`; the planner itself uses the other fields.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from unveil.checks import Bounds, check_fields, number, shown

PLANNED = 16  # rows of a plan for `plan_horizon="auto"`, at most the trained horizon

Count = Annotated[int, Bounds(1)]
Finite = Annotated[float, Bounds(above=True, below=True)]


@dataclass(frozen=True)
class GuidedSettings:
    """How plans are sampled, guided by a value function, and chosen.

    Raises:
        ValueError: a value of another type or out of range, by name, or `anchored` without `sharpness`.
    """

    candidates: Count = 64
    """number of plans sampled per decision"""
    steps: Count = 20
    """denoising steps per decision; the published code uses as many as in training"""
    temperature: Annotated[float, Bounds(0, below=True)] = 1.0
    """factor on the noise; smaller values give more typical and less varied plans, 0 the most typical one"""
    plan_horizon: Count | Literal["auto"] | None = None
    """environment steps of a plan; None: as trained; auto: 16, or as trained if that is fewer"""
    warm_steps: Count | None = None
    """denoising steps of all decisions but the first, which then start from the last plan, shifted by one
    environment step and noised again; by default every decision starts from noise"""
    guidance: Literal["none", "ascend", "mean", "tilted"] = "none"
    """quantity to which the gradient of the value is added: ascend: the noisy plan (Diffuser's released
    code); mean: the mean of each denoising step (the paper); tilted: the denoiser's estimate of the clean
    plan; none: no guidance"""
    scale: float | str = 0.1
    """guidance scale: a factor on the gradient, not comparable between the forms of `guidance`; auto chooses
    it on held-out episodes"""
    n_guide_steps: Annotated[int, Bounds(0)] = 2
    """gradient steps per denoising step, for `guidance=ascend`"""
    t_stopgrad: Annotated[int, Bounds(0)] = 2
    """diffusion step below which `guidance=ascend` takes no gradient steps"""
    scale_grad_by_std: bool = True
    """multiply the gradient by the variance of the denoising step, for `guidance=ascend`"""
    select: Literal["critic", "value", "none"] = "critic"
    """score by which the best candidate is chosen: critic: the value of clean plans; value: the value at the
    smallest noise level (published); none: take the first candidate"""
    solver: Literal["ddim", "ancestral", "dpmpp"] = "ddim"
    """sampler, without guidance or with `guidance=tilted`; the other forms of guidance use ancestral"""
    sharpness: Finite | None = None
    """act by the mean of all candidates, with weights softmax(sharpness * standardised score), instead of by
    the best one; averages out the noise of single samples (model predictive path integral control, Williams
    et al. 2017)"""
    anchored: bool = False
    """with `sharpness`: replace the candidates' plain mean by the denoiser's estimate at t = 1, which is the
    same mean without sampling error (a control variate)"""
    ask: Annotated[float, Bounds(0, 1)] | None = None
    """rank of the return that plans are conditioned on, from 0 (worst of the data) to 1 (best); only for
    networks conditional on returns; by default 1 for these"""
    ask_scale: Finite = 1.0
    """classifier-free guidance scale for `ask`: 0 ignores the return, 1 conditions on it, larger values
    strengthen the condition"""
    clip: bool = True
    """clamp the denoiser's estimates to the smallest and largest values in the data"""
    rows: Count = 1024
    """largest batch of the network, in plans; lower it where memory is short"""

    def __post_init__(self) -> None:
        if self.scale != "auto":
            try:
                number("scale", self.scale)
            except ValueError:
                raise ValueError(f"`scale` is a number or auto, got {shown(self.scale)}") from None
        check_fields(self)
        if self.anchored and self.sharpness is None:
            raise ValueError("`anchored` needs `sharpness`: the best plan alone is no mean")

    def planned(self, trained: int) -> int:
        """The number of rows of a plan.

        Args:
            trained: rows of the longest training window.
        """
        if self.plan_horizon == "auto":
            return min(PLANNED, trained)
        return trained if self.plan_horizon is None else self.plan_horizon
