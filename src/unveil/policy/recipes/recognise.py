"""Whether a path holds diffusion policies of another program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from unveil.errors import UnveilError
from unveil.policy.policy import Policy
from unveil.policy.recipes.convert import convert_policies, inspect_policies, load_foreign_policy
from unveil.policy.weights.releases import released_policies
from unveil.runs.recognised import Reading, Recognised


def recognise(path: Path) -> Recognised | None:
    """One or several policies of real-stanford/diffusion_policy or LeRobot; None for anything else."""
    policies = released_policies(path)
    if not policies:
        return None

    loader: Callable[..., tuple[Policy, str]] = load_foreign_policy

    def load(device: str, seed: int, **settings: object) -> Policy:
        return loader(policies, device, seed, **settings)[0]

    def convert(out: Path, reading: Reading) -> str:
        if reading.dataset is not None:
            raise UnveilError(f"{path}: a diffusion policy has its normaliser with it; leave `dataset` out")
        return convert_policies(policies, path, out, reading.raw)

    return Recognised(load, lambda _: inspect_policies(policies), convert)
