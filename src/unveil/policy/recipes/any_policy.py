"""Policies of ours and of other programs by name or path, and with a delay."""

from __future__ import annotations

from pathlib import Path

from unveil.policy.policy import Policy
from unveil.policy.realtime import RealTimePolicy
from unveil.policy.recipes.convert import load_foreign_policy
from unveil.policy.recipes.load import load_policy, read_policy_config
from unveil.policy.settings import Delayed, PolicySettings
from unveil.policy.weights.releases import released_policies
from unveil.runs.checkpoints import find_checkpoint, local_name
from unveil.runs.config import read_recipe


def any_policy(checkpoint: str, device: str, seed: int, settings: PolicySettings) -> tuple[Policy, str]:
    """A policy, of ours or of another program, and the name of its observation on PushT, "other" without one.

    Raises:
        UnveilError: no such checkpoint, or one that cannot be used.
    """
    name = local_name(checkpoint)
    if not read_recipe(Path(name)) and (policies := released_policies(Path(name))):
        return load_foreign_policy(policies, device, seed, settings)
    folder = find_checkpoint(name)
    return load_policy(folder, device, seed, settings), str(read_policy_config(folder)["observation"])


def with_delay(policy: Policy, delay: int, method: Delayed, execute: int | None) -> Policy | RealTimePolicy:
    """The policy with a simulated delay; itself where there is none."""
    if not delay and method != "soft":
        return policy
    return RealTimePolicy(policy, delay, method, execute=execute)
