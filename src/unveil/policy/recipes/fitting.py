"""Training of a policy on windows of demonstrations, which `unveil train policy` and `pusht` share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from unveil.files.json_objects import JsonObject
from unveil.files.notes import left_out, note
from unveil.network.normalization import Normalization
from unveil.policy.data.chunks import Chunks, check_window
from unveil.policy.data.frames import Frames
from unveil.policy.distillation import STATES, student_batches, student_loss
from unveil.policy.model import PolicyModel
from unveil.policy.recipes.load import policy_model, read_policy_config
from unveil.policy.recipes.model_flags import ModelFlags
from unveil.policy.training import PolicyBatch, policy_batches, policy_loss
from unveil.runs.flags import RunFlags, changed
from unveil.runs.progress import Progress
from unveil.runs.training import Task, run_task

INHERITED = (  # by students, and by runs that begin with the weights of another
    *("observation", "network", "condition", "n_obs", "horizon", "n_action", "prefix", "diffusion_steps"),
    *("predicts", "widths", "kernel", "step_width", "width", "depth", "heads"),
    *("crop", "image_width", "image_keypoints"),
)
STATISTICS = ("observed.", "acted.", "pictured.")  # tensors that normalise observations and actions


class Demonstrated(NamedTuple):
    """Demonstrations that are trained on.

    Args:
        observations: (N, D), the observed numbers that are no pixels.
        actions: (N, A).
        episode_ends: (E,).
        cameras: their pictures.
        names: names of the observed numbers and of the actions, for messages; by default their positions.
    """

    observations: Float[np.ndarray, "N D"]
    actions: Float[np.ndarray, "N A"]
    episode_ends: np.ndarray
    cameras: tuple[Frames, ...] = ()
    names: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())


def windows_of(data: Demonstrated, model: ModelFlags) -> Chunks:
    """The windows of demonstrations."""
    return Chunks(
        data.observations,
        data.actions,
        data.episode_ends,
        model.n_obs,
        model.horizon,
        model.n_action,
        data.cameras,
        model.condition == "inpainting",
    )


def sizes_of(data: Demonstrated, chunks: Chunks) -> JsonObject:
    """The fields of config.json that the data determine."""
    pixels = sum(int(np.prod(camera.shape[1:])) for camera in data.cameras)
    return {
        "observations": data.observations.shape[1] + pixels,
        "actions": data.actions.shape[1],
        "demonstrations": chunks.episodes,
        "windows": len(chunks),
    }


def untrained(described: JsonObject, data: Demonstrated, seed: int) -> PolicyModel:
    """The model of a config.json with random weights, and the limits of the data."""
    torch.manual_seed(seed)  # initial weights
    model = policy_model(described)
    for name, normalization, rows, names in (
        ("observation", model.observed, data.observations, data.names[0]),
        ("action", model.acted, data.actions, data.names[1]),
    ):
        if rows.shape[1] and (constant := normalization.learn(rows, "limits")):
            which = left_out([names[i] if names else str(i) for i in constant])
            where = "" if names else " (from 0)"
            note(f"{name} {which}{where} vary by less than 1e-4 of their size, so they count as constant")
    for limits, camera in zip(model.pictured or (), data.cameras if model.pictured else (), strict=True):
        assert isinstance(limits, Normalization)
        limits.learn(pixels_of(camera), "limits")
    return model


def pixels_of(camera: Frames, most: int = 200) -> Float[np.ndarray, "N C"]:
    """Pixels whose limits are those of a camera: 0 and 255 for bytes, else all of `most` frames, evenly
    spread."""
    channels = camera.shape[-1]
    if camera.dtype == np.uint8:
        return np.repeat([[0.0], [255.0]], channels, axis=1)
    rows = np.unique(np.linspace(0, camera.shape[0] - 1, min(most, camera.shape[0])).round().astype(np.int64))
    return camera.read(rows).reshape(-1, channels)


def train_policy_model(
    model: PolicyModel,
    chunks: Chunks,
    described: JsonObject,
    run: RunFlags,
    defaults: object,
    device: torch.device,
    progress: Progress,
    teacher: PolicyModel | None = None,
) -> Path:
    """Train a model, or a student of a teacher, in the run folder, which is returned."""

    def draws(count: int) -> Callable[[torch.Generator], PolicyBatch]:
        return policy_batches(chunks, model.shape, count)

    draw, loss = draws(run.batch_size), policy_loss
    if teacher is not None:
        steps = int(described["distill_steps"])
        model.load_state_dict(teacher.state_dict())
        draw = student_batches(draws(max(1, run.batch_size // STATES)), model.shape, steps)
        loss = student_loss(teacher, steps)
    task = Task(model, draw, loss, {}, size=run.batch_size, lower="`horizon` or `widths`", accumulate="")
    if teacher is None:  # a student's loss needs the memory of its teacher, too
        task = task._replace(draws=draws)
    run_task(task, run, device, run.folder, described, defaults, progress)
    return run.folder


def as_student(flags: ModelFlags, folder: Path) -> ModelFlags:
    """The settings with the teacher's network and shape; a student predicts v or flow, and has no dropout.

    Raises:
        ValueError: the teacher is a student, or has fewer steps than `distill_steps`.
    """
    teacher = read_policy_config(folder)
    if teacher.get("distill", ""):
        raise ValueError(
            f"`distill` {flags.distill}: this is a student itself; give its teacher, {teacher['distill']}"
        )
    if teacher["predicts"] != "flow" and flags.distill_steps > teacher["diffusion_steps"]:
        raise ValueError(
            f"`distill_steps` must be at most the teacher's {teacher['diffusion_steps']}, got "
            f"{flags.distill_steps}"
        )
    inherited = {name: teacher[name] for name in INHERITED if name in teacher and hasattr(flags, name)}
    predicts = "flow" if teacher["predicts"] == "flow" else "v"
    fixed = {"widths": tuple(teacher["widths"]), "predicts": predicts, "dropout": 0.0}
    return changed(flags, **inherited | fixed)


def check(flags: ModelFlags, pictured: bool, observed: str = "") -> None:
    """Refuse settings that contradict each other.

    Args:
        pictured: observations have pictures.
        observed: name of the observations, for messages.
    Raises:
        ValueError: the message names the settings, the rule and the values.
    """
    check_window(flags.n_obs, flags.horizon, flags.n_action)
    if flags.prefix > flags.horizon - flags.n_obs:
        raise ValueError(
            f"`prefix` must be 0 .. horizon - n_obs = {flags.horizon - flags.n_obs}, got {flags.prefix}"
        )
    inpainting = flags.network == "cnn" and not pictured
    usual = "film" if flags.network == "cnn" else "tokens"
    if flags.condition not in ("auto", usual, *(["inpainting"] if inpainting else [])):
        raise ValueError(
            "`condition` must be film or inpainting for the cnn (inpainting of numbers alone) and "
            f"tokens for the transformer, got {flags.condition} with {flags.network}"
            f"{observed and f' and {observed}'}"
        )
    if pictured and flags.image_width % 16:
        raise ValueError(f"`image_width` must be a multiple of 16, got {flags.image_width}")
    if flags.network == "transformer":
        if flags.width % (2 * flags.heads):
            raise ValueError(f"`width` must be a multiple of twice `heads`, got {flags.width}")
        return
    wrong = not flags.widths or any(width % 8 for width in flags.widths)
    if wrong or flags.kernel % 2 == 0 or flags.step_width % 2:
        raise ValueError(
            "`widths` must be multiples of 8, `kernel` odd and `step_width` even, got "
            f"{flags.widths}, {flags.kernel} and {flags.step_width}"
        )
    if flags.horizon % 2 ** (halvings := len(flags.widths) - 1):
        raise ValueError(
            f"`horizon` {flags.horizon} cannot be halved {halvings} times; give another, or fewer `widths`"
        )
