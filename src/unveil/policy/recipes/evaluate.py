"""A policy's error on held-out demonstrations, or its success in an environment: `unveil eval policy`."""

from __future__ import annotations

from time import perf_counter

import numpy as np
import torch

from unveil.errors import UnveilError
from unveil.files.json_objects import JsonObject
from unveil.files.notes import note
from unveil.policy.data.chunks import Chunks
from unveil.policy.evaluation.demonstration_error import (
    Errors,
    errors_of,
    horizon_table,
    nearest,
    shown_steps,
)
from unveil.policy.model import PolicyModel
from unveil.policy.policy import Policy
from unveil.policy.recipes.config import EvalPolicy
from unveil.policy.recipes.fitting import Demonstrated, windows_of
from unveil.policy.recipes.load import load_policy, read_policy_config
from unveil.policy.recipes.model_flags import ModelFlags
from unveil.policy.recipes.own_data import Chosen, chosen_again, demonstrated
from unveil.runs.checkpoints import find_checkpoint
from unveil.runs.flags import changed
from unveil.runs.progress import Progress

MOST_KNOWN = 20_000  # windows of the training that the nearest neighbour is looked for in
MOST_PICTURED = 2_000  # the same where their pictures must be decoded
THUMBNAIL = 8  # side in pixels of the pictures that neighbours are compared by
TIMED = 10


def evaluate_policy(config: EvalPolicy, progress: Progress) -> dict[str, object]:
    """The metrics of a policy, in an environment if the config names one, else on demonstrations.

    Raises:
        UnveilError: no such checkpoint, demonstrations or environment, or they do not fit the policy.
    """
    if config.world:
        raise ValueError(f"`world={config.world}` has settings of its own: give EvalPushT to evaluate_pusht")
    if config.job.threads:
        torch.set_num_threads(config.job.threads)
    if config.env:
        from unveil.policy.recipes.evaluate_environment import evaluate_in_environment

        return evaluate_in_environment(config, progress)
    if config.video is not None:
        raise UnveilError("`video` needs an environment: give `env`")
    folder = find_checkpoint(config.checkpoint)
    described = read_policy_config(folder)
    if described["recipe"] != "policy" or "data" not in described:
        raise UnveilError(
            f"{config.checkpoint}: not from `unveil train policy`, so its demonstrations are not known; give "
            "`env`" + ("" if described["recipe"] != "pusht" else ", or use: unveil eval pusht")
        )
    policy = load_policy(folder, config.job.device, config.job.seed, config.settings)
    return error_on_demonstrations(policy, described, config, progress)


def error_on_demonstrations(
    policy: Policy, described: JsonObject, config: EvalPolicy, progress: Progress
) -> dict[str, object]:
    """Errors of predicted actions by horizon, beside those of a nearest neighbour and of the mean action."""
    it = chosen_again(described, config.data)
    held = ~it.training
    own = not held.any()
    if own:
        note("no episode was held out, so the errors are those on the demonstrations of the training")
        held = it.training
    windows = windowed(demonstrated(it, held), described)
    which = spread(len(windows), config.windows)
    seen, actions = (part.numpy() for part in windows.windows(torch.from_numpy(which)))
    shape, acted = policy.model.shape, policy.model.acted
    first, executed = shape.n_obs - 1, policy.n_action

    def normal(rows: np.ndarray) -> np.ndarray:
        return acted.normalized(torch.from_numpy(rows).to(policy.model.device)).cpu().numpy()

    recorded = normal(actions)[:, first:]  # (N, H', A)
    drawn, spent = predictions(policy, seen, config.candidates, progress)
    named = {"policy": errors_of(normal(drawn.astype(np.float32))[:, :, first:], recorded)}
    if not own:
        trained = None if config.data else it
        named |= baselines(policy.model, described, trained, seen, recorded, config.candidates)
    steps = shown_steps(recorded.shape[1], executed)
    numbers = {name: metrics_of(errors, steps, executed) for name, errors in named.items()}
    metrics = numbers["policy"] | {"decision_ms_p50": float(np.median(spent)), "n": len(which)}
    ends = it.demonstrations.chosen(held).episode_ends
    protocol = (
        f"error of {config.candidates} predictions on {len(which):,} windows of {len(ends)} "
        f"{'training' if own else 'held-out'} episodes; actions normalised to -1 .. 1; {executed} of "
        f"{recorded.shape[1]} predicted steps are executed"
    )
    return {
        "metrics": metrics,
        "reference": {name: it for name, it in numbers.items() if name != "policy"},
        "protocol": protocol,
        "mse_by_step": {name: errors.mse.round(6).tolist() for name, errors in named.items()},
        "energy_score_by_step": {name: errors.energy.round(6).tolist() for name, errors in named.items()},
        "table": f"{protocol}\n\n{horizon_table(named, steps)}\n\n"
        f"a decision takes {metrics['decision_ms_p50']:.1f} ms; n {len(which)}",
    }


def metrics_of(errors: Errors, steps: list[int], executed: int) -> dict[str, float]:
    """The errors over the executed steps, and at some steps."""
    at = {f"mse_step_{step}": float(errors.mse[step - 1]) for step in steps}
    return {
        "action_mse": float(errors.mse[:executed].mean()),
        "energy_score": float(errors.energy[:executed].mean()),
        **at,
    }


def windowed(data: Demonstrated, described: JsonObject) -> Chunks:
    """The windows of demonstrations, of the lengths of a config.json."""
    names = ("n_obs", "horizon", "n_action")
    return windows_of(data, changed(ModelFlags(), **{name: described[name] for name in names}))


def spread(count: int, most: int) -> np.ndarray:
    """At most `most` of `count` numbers, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(np.int64))


def predictions(
    policy: Policy, seen: np.ndarray, candidates: int, progress: Progress, rows: int = 64
) -> tuple[np.ndarray, list[float]]:
    """K chunks for each window, (N, K, H, A), and the milliseconds of single decisions."""
    spent: list[float] = []
    for i in range(min(TIMED, len(seen)) + 1):
        began = perf_counter()
        policy.predict(seen[i % len(seen)][None])
        spent.append(1e3 * (perf_counter() - began))
    size, made = max(1, rows // candidates), list[np.ndarray]()
    for start in range(0, len(seen), size):
        some = seen[start : start + size]
        drawn = policy.predict(np.repeat(some, candidates, axis=0))
        made.append(drawn.reshape(len(some), candidates, *drawn.shape[1:]))
        progress("predicting", min(start + size, len(seen)), len(seen), {})
    return np.concatenate(made), spent[1:]


def baselines(
    model: PolicyModel,
    described: JsonObject,
    it: Chosen | None,
    seen: np.ndarray,
    recorded: np.ndarray,
    candidates: int,
) -> dict[str, Errors]:
    """The errors of the training data's nearest windows, and of its mean action; none if it is not there."""
    try:
        it = it or chosen_again(described)
    except UnveilError as error:
        note(f"no baselines: {error}")
        return {}
    windows = windowed(demonstrated(it, it.training), described)
    most = MOST_PICTURED if model.shape.images else MOST_KNOWN
    known, actions = (part.numpy() for part in windows.windows(torch.from_numpy(spread(len(windows), most))))
    chunks = model.acted.normalized(torch.from_numpy(actions).to(model.device)).cpu().numpy()
    chunks = chunks[:, model.shape.n_obs - 1 :]
    close = nearest(features(model, seen), features(model, known), candidates)
    single, several = errors_of(chunks[close[:, :1]], recorded), errors_of(chunks[close], recorded)
    mean = np.broadcast_to(chunks.mean(0), (len(recorded), 1, *chunks.shape[1:]))
    return {"nearest neighbour": Errors(single.mse, several.energy), "mean action": errors_of(mean, recorded)}


def features(model: PolicyModel, seen: np.ndarray) -> np.ndarray:
    """What windows (N, n_obs, D) are compared by, (N, F): normalised numbers, and small pictures.

    Pictures count as much as the numbers of one step.
    """
    rows = torch.from_numpy(seen).to(model.device)
    shape, pieces = model.shape, list[torch.Tensor]()
    if not shape.parts:
        return model.observed.normalized(rows).flatten(1).cpu().numpy()
    with torch.no_grad():
        normalized = model.normalized(rows)
    for part in shape.parts:
        value = normalized[part.key]
        if part.encoder is not None:
            value = torch.nn.functional.adaptive_avg_pool2d(value[:, -1], THUMBNAIL)
            value = value.flatten(1) * (max(1, shape.numbers) / value[0].numel()) ** 0.5
        pieces.append(value.flatten(1))
    return torch.cat(pieces, dim=1).cpu().numpy()
