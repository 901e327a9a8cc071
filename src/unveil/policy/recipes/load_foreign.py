"""From a `.ckpt` of real-stanford/diffusion_policy or a LeRobot folder to a policy, and to its observation on PushT."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unveil.errors import UnveilError
from unveil.policy.settings import PolicySettings

if TYPE_CHECKING:
    from unveil.policy.policy import Policy


def load_foreign_policy(
    path: Path,
    device: str = "auto",
    seed: int = 0,
    settings: PolicySettings | None = None,
    *,
    raw: bool = False,
    **fields: Any,
) -> tuple[Policy, str]:
    """A `Policy` from a `.ckpt` of real-stanford/diffusion_policy or a LeRobot folder, and its observation on PushT.

    The file is read once, and nothing in it is run.

    Args:
        raw: use the weights themselves instead of their moving average.
        fields: fields of `PolicySettings`; the published settings are solver="ddpm", sampling_steps=100.
    Returns:
        The policy, and the name of its observation as `seen` knows it; "other" if PushT has no such
        observation.
    Raises:
        UnveilError: no policy or several at the path, a file that cannot be read, or a policy that is not
            supported.
        ValueError: as `PolicySettings`.
    """
    from unveil.policy.recipes.convert import model_of, on_pusht
    from unveil.policy.recipes.load import policy_of, quick
    from unveil.policy.weights.releases import found, read
    from unveil.runs.device import find_device

    settings = replace(settings or PolicySettings(), **fields)
    paths = found(path)
    if len(paths) != 1:
        names = ", ".join(str(p.relative_to(path)) for p in paths[:4])
        raise UnveilError(
            f"{path} holds {len(paths)} policies{f' ({names})' if names else ''}; give the path of one"
        )
    weights = read(paths[0])
    try:
        model = model_of(weights, raw)
    except ValueError as error:
        raise UnveilError(f"{paths[0]}: {error}") from error
    clip = weights.described.clip is not None
    policy = policy_of(quick(model.to(find_device(device))), settings, seed, clip=clip)
    return policy, on_pusht(weights.described.parts)
