"""The denoiser of an image model for `unveil export`: x_t, t and the condition to the mean of x_0."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unveil.errors import UnveilError
from unveil.image.model import ImageModel
from unveil.network.condition import Condition
from unveil.process.schedule import Flow, Tabulated
from unveil.runs.exported import Exportable, Sampling

if TYPE_CHECKING:
    from unveil.runs.exported import Inputs

PARTS = ("label", "tokens", "token_valid", "vector")  # fields of a condition that can be inputs


class Mean(nn.Module):
    """x_t (B, C, H, W), t (B,) and parts of the condition to the mean of x_0, alpha_t and sigma_t."""

    def __init__(self, model: ImageModel, parts: tuple[str, ...]) -> None:
        super().__init__()
        self.denoiser, self.parts = model.denoiser, parts

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        first: Tensor | None = None,
        second: Tensor | None = None,
        third: Tensor | None = None,
        fourth: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        given = (first, second, third, fourth)
        cond = Condition(**dict(zip(self.parts, given, strict=False))) if self.parts else None
        exact, schedule = t.double(), self.denoiser.schedule
        mean = self.denoiser(x_t, exact, cond).mean
        return mean, schedule.alpha(exact).float(), schedule.sigma(exact).float()


def exportable(model: object, sampling: Sampling) -> Exportable | None:
    """The denoiser of an image model that `unveil.load` returned; None for anything else.

    Raises:
        ValueError: `steps` or `solver`, which belong to sampling.
        UnveilError: a model that sees other images beside the noise, or image embeddings.
    """
    if not isinstance(model, ImageModel):
        return None
    if sampling != Sampling():
        raise ValueError(
            "`steps` and `solver` are for policies and planners; of images the network is exported"
        )
    shape = model.shape
    if shape.upsample > 1 or shape.concat or shape.embedding or model.levels:
        raise UnveilError("export: this model sees images beside the noise, which cannot be exported yet")
    channels, height, width = model.sides_of(None)

    def condition(count: int, generator: torch.Generator) -> Condition:
        cond = None
        if shape.classes:
            labels = shape.classes + int(shape.null)
            cond = Condition(label=torch.randint(labels, (count,), generator=generator))
        prompts = None if model.text is None else ["a red circle", "", "x"][:count]
        return model.worded(cond, count, prompts) or Condition()

    given = condition(1, torch.Generator(device="cpu"))
    parts = tuple(name for name in PARTS if getattr(given, name) is not None)
    module = Mean(model, parts).eval()

    def draw(count: int) -> dict[str, Tensor]:
        generator = torch.Generator(device="cpu").manual_seed(count)
        with torch.no_grad():
            cond = condition(count, generator)
        t = 0.05 + 0.9 * torch.rand((count,), generator=generator)
        x_t = torch.randn((count, channels, height, width), generator=generator)
        return {"x_t": x_t, "t": t} | {name: getattr(cond, name).contiguous() for name in parts}

    def library(inputs: Inputs) -> tuple[Tensor, ...]:
        cond = Condition(**{name: inputs[name] for name in parts}) if parts else None
        t, schedule = inputs["t"].double(), model.denoiser.schedule
        with torch.no_grad():
            mean = model.denoiser(inputs["x_t"], t, cond).mean
        return mean, schedule.alpha(t).float(), schedule.sigma(t).float()

    sizes = {
        "label": f"(batch,) int64, a class 0 .. {shape.classes - 1}"
        + (f"; {shape.classes}: no class" if shape.null else ""),
        "tokens": "float32, the text encoder's vectors of the prompt (model.text in Python)",
        "token_valid": "bool, false at padding of the tokens",
        "vector": "float32, the text encoder's pooled vector",
    }
    schedule = model.denoiser.schedule
    times = ""
    if isinstance(schedule, Tabulated):
        times = f"; a table of {schedule.steps} entries has the times 1/{schedule.steps} .. 1"
    what = "codes of the autoencoder" if model.latent is not None else "pixels, -1 .. 1"
    notes = [
        "the loop of sampling is not in the graph: x_s = alpha_s mean + sigma_s (x_t - alpha_t mean) / "
        "sigma_t is a step from t to s (DDIM)"
    ]
    if model.latent is not None:
        notes.append("the autoencoder that decodes the codes is not in the graph")
    return Exportable(
        module,
        draw,
        ("mean", "alpha", "sigma"),
        {name: {0: "batch"} for name in ("x_t", "t", *parts)},
        library,
        {
            "kind": "image network",
            "inputs": {
                "x_t": f"(batch, {channels}, {height}, {width}) float32, alpha_t x_0 + sigma_t noise; {what}",
                "t": "(batch,) float32 in (0, 1]" + times,
            }
            | {name: sizes[name] for name in parts},
            "outputs": {
                "mean": "like x_t, the expected x_0",
                "alpha": "(batch,), alpha_t of the schedule",
                "sigma": "(batch,), sigma_t of the schedule",
            },
            "schedule": "flow" if isinstance(schedule, Flow) else shape.schedule,
            "predicts": shape.predicts,
        },
        tuple(notes),
    )
