"""How plans from the state on are made and chosen."""

from dataclasses import dataclass

from unveil.checks import flag, number, whole


@dataclass(frozen=True)
class GuidedSettings:
    """How to plan.

    Args:
        candidates: K, plans for one decision.
        steps: denoising steps; the model's own number is the published way.
        horizon: rows of a plan; by default those of a training window.
        temperature: factor on the initial noise.
        warm_steps: if given, later decisions of an episode start from the last plan, moved on by one row and noised again to the time
            from which so many of the `steps` are left, instead of from noise.
        sharpness: if given, what acts is not the best plan but the mean of all, weighted by softmax(sharpness * standardised score): noise
            of single samples averages out (as in model predictive path integral control, Williams et al. 2017).
        anchored: with `sharpness`, the belief at t = 1 stands in the place of the candidates' plain mean. Both are the mean of all plans
            that begin with this observation, but the belief has neither sampling error nor the bias of few steps: a control variate.
        ask: if given, plans are asked for whose return lies above this share of the data's, 0 to 1; for models that are told returns.
        ask_scale: of classifier-free guidance towards such plans: 1 asks, more insists.
        clip: clamp every belief to the smallest and largest values in the data.
        rows: largest batch for the network.
    """

    candidates: int = 64
    steps: int = 20
    horizon: int | None = None
    temperature: float = 1.0
    warm_steps: int | None = None
    sharpness: float | None = None
    anchored: bool = False
    ask: float | None = None
    ask_scale: float = 1.0
    clip: bool = True
    rows: int = 1024

    def __post_init__(self) -> None:
        for name in ("candidates", "steps", "rows"):
            whole(f"GuidedSettings: {name}", getattr(self, name))
        if self.horizon is not None:
            whole("GuidedSettings: horizon", self.horizon)
        if self.warm_steps is not None:
            whole("GuidedSettings: warm_steps", self.warm_steps, 1, self.steps)
        number("GuidedSettings: temperature", self.temperature, 0.0)
        number("GuidedSettings: ask_scale", self.ask_scale)
        if self.sharpness is not None:
            number("GuidedSettings: sharpness", self.sharpness)
        if self.ask is not None and number("GuidedSettings: ask", self.ask, 0.0) > 1.0:
            raise ValueError(f"GuidedSettings: ask must lie in 0 .. 1, got {self.ask}")
        flag("GuidedSettings: anchored", self.anchored)
        flag("GuidedSettings: clip", self.clip)
        if self.anchored and self.sharpness is None:
            raise ValueError("GuidedSettings: anchored needs a sharpness; the best plan alone is no mean")
