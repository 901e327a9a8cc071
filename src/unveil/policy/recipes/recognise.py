"""Whether a path holds diffusion policies of another program."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unveil.errors import UnveilError
from unveil.policy.recipes.convert import convert_policies, inspect_policies, load_foreign
from unveil.runs.recognised import Reading, Recognised

if TYPE_CHECKING:
    from unveil.policy.policy import Policy


def recognise(path: Path) -> Recognised | None:
    """Diffusion policies of real-stanford/diffusion_policy or LeRobot, one or a folder of several; None for anything else."""
    from unveil.policy.weights.releases import found

    policies = found(path)
    if not policies:
        return None

    def load(device: str, seed: int, **settings: Any) -> Policy:
        return load_foreign(path, device, seed, **settings)

    def convert(out: Path, reading: Reading) -> str:
        if reading.dataset is not None:
            raise UnveilError(f"{path}: a diffusion policy has its normaliser with it; leave `dataset` out")
        return convert_policies(policies, path, out, reading.raw)

    return Recognised(load, lambda _: inspect_policies(policies), convert)
