"""A policy's decision for `unveil export`: normalise, denoise in K steps, un-normalise, as one module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unveil.errors import UnveilError
from unveil.policy.networks.conditional_unet1d import ConditionalUNet
from unveil.policy.networks.conditional_unet1d_inference import FastConditionalUNet
from unveil.policy.policy import Policy
from unveil.policy.recipes.load import policy_of
from unveil.policy.settings import PolicySettings
from unveil.runs.exported import Exportable, Sampling
from unveil.sampling.consistency import Consistency
from unveil.sampling.linear_steps import linear_steps, replay

if TYPE_CHECKING:
    from unveil.runs.exported import Inputs


class Decision(nn.Module):
    """Observations (B, n_obs, D) and standard normal noise (B, H, row) to a chunk of actions (B, H, A).

    All in the data's units, as `Policy.predict` without a known prefix. For a solver that draws noise in its
    steps the noise is (1 + S, B, H, row), the initial noise first.
    """

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.model, self.clip = policy.model, policy.clip
        self.steps = linear_steps(policy.solver, policy.times)

    def forward(self, observations: Tensor, noise: Tensor) -> Tensor:
        model, shape = self.model, self.model.shape
        cond = model.condition(observations)

        def mean(x_t: Tensor, time: float) -> Tensor:
            predicted = model.denoiser.at(x_t, time, cond).mean
            return predicted.clamp(-1.0, 1.0) if self.clip else predicted

        def edit(x: Tensor) -> Tensor:
            if shape.condition != "inpainting":
                return x
            known = model.observed.normalized(observations)  # (B, n_obs, D)
            first = torch.cat([x[:, : shape.n_obs, : shape.actions], known], dim=2)
            return torch.cat([first, x[:, shape.n_obs :]], dim=1)

        first, later = (noise[0], list(noise[1:])) if self.steps.draws else (noise, [])
        return model.in_units(replay(self.steps, mean, first, later, edit))


def exportable(policy: object, sampling: Sampling) -> Exportable | None:
    """The decision of a policy that `unveil.load` returned; None for anything else.

    Args:
        sampling: solver and steps in place of the policy's.
    Raises:
        ValueError: a solver or a number of steps that does not suit the policy.
        UnveilError: guidance is set, which takes gradients while it samples.
    """
    if not isinstance(policy, Policy):
        return None
    if policy.steer is not None:
        raise UnveilError("export: guidance (steer) takes gradients of a cost while sampling; set it to None")
    policy = sampled_by(policy, sampling)
    shape, module = policy.model.shape, Decision(policy).eval()
    draws = module.steps.draws
    network = policy.model.denoiser.network
    plain = network.plain if isinstance(network, FastConditionalUNet) else network
    axis = 1 if draws else 0
    axes: dict[str, dict[int, str | tuple[int, str]]] = {
        "observations": {0: "batch"},
        "noise": {axis: "batch"},
    }
    if isinstance(plain, ConditionalUNet) and shape.condition == "film":
        axes["noise"][axis + 1] = (2 ** (plain.levels - 1), "horizon")

    def draw(count: int) -> dict[str, Tensor]:
        generator = torch.Generator(device="cpu").manual_seed(count)
        size = (count, shape.horizon, shape.row)
        noise = torch.randn((1 + draws, *size) if draws else size, generator=generator)
        return {"observations": observed(policy, count, generator), "noise": noise}

    def library(inputs: Inputs) -> tuple[Tensor, ...]:
        chunks = policy.predict(inputs["observations"].numpy(), noise=inputs["noise"])
        return (torch.from_numpy(chunks).float(),)

    first = policy.executed.start
    notes = ["no known actions (prefix) are in the graph"] if shape.prefix else []
    if policy.temperature != 1.0:
        notes.append(f"multiply the initial noise by the policy's temperature, {policy.temperature:g}")
    parts = [{"name": part.key, "shape": list(part.shape)} for part in shape.parts]
    return Exportable(
        module,
        draw,
        ("actions",),
        axes,
        library,
        {
            "kind": "policy",
            "inputs": {
                "observations": f"(batch, {shape.n_obs}, {shape.observations}) float32 in the data's units, "
                "the newest last; images 0 .. 255, channels first, flattened",
                "noise": "standard normal numbers of float32"
                + (
                    f", (1 + {draws}, batch, horizon, {shape.row}): initial noise, then each step's"
                    if draws
                    else ""
                ),
            },
            "outputs": {"actions": f"(batch, horizon, {shape.actions}) float32 in the data's units"},
            "executed_rows": [first, first + policy.n_action],
            "parts": parts,
            "solver": type(policy.solver).__name__,
            "steps": len(module.steps.steps),
        },
        tuple(notes),
    )


def sampled_by(policy: Policy, sampling: Sampling) -> Policy:
    """The policy with another solver or another number of steps.

    Raises:
        ValueError: as `exportable`.
    """
    if sampling.solver is None and sampling.steps is None:
        return policy
    distilled = isinstance(policy.solver, Consistency)
    if sampling.solver is not None and (sampling.solver == "consistency") != distilled:
        raise ValueError(
            "this policy is a distilled student, whose solver is consistency; leave `solver` out"
            if distilled
            else "`solver=consistency` is for distilled students; give another `solver`"
        )
    changed = policy_of(
        policy.model,
        PolicySettings(sampling.solver, sampling.steps or len(policy.times) - 1, policy.n_action),
        clip=policy.clip,
    )
    if sampling.solver is not None:
        return changed
    return Policy(
        policy.model, policy.solver, len(changed.times) - 1, n_action=policy.n_action, clip=policy.clip
    )


def observed(policy: Policy, count: int, generator: torch.Generator) -> Tensor:
    """Random observations (count, n_obs, D) within the limits of the policy's data."""
    model, shape = policy.model, policy.model.shape
    uniform = torch.rand((count, shape.n_obs, shape.numbers), generator=generator)
    numbers = model.observed.denormalized(2.0 * uniform.to(model.device, model.dtype) - 1.0).float().cpu()
    if not shape.parts:
        return numbers
    plain = iter(
        numbers.split([n for n, p in zip(shape.sizes, shape.parts, strict=True) if p.encoder is None], 2)
    )
    pieces = [
        next(plain)
        if part.encoder is None
        else torch.randint(256, (count, shape.n_obs, size), generator=generator).float()
        for size, part in zip(shape.sizes, shape.parts, strict=True)
    ]
    return torch.cat(pieces, dim=2)
