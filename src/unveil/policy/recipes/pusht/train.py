"""Training on demonstrations of PushT: `unveil train pusht`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unveil.runs.flags import flat

if TYPE_CHECKING:
    import torch

    from unveil.policy.model import PolicyModel
    from unveil.policy.recipes.pusht.config import TrainPushT
    from unveil.runs.progress import Progress


def train_pusht(config: TrainPushT, progress: Progress) -> Path:
    """Train a `PolicyModel`, or a student of one; returns the run folder."""

    import torch

    from unveil.files.notes import left_out, note
    from unveil.policy.data.chunks import Chunks, published_split
    from unveil.policy.distillation import STATES, student_batches, student_loss
    from unveil.policy.recipes.load import load_policy_model, policy_model
    from unveil.policy.recipes.pusht.config import TrainPushT
    from unveil.policy.recipes.pusht.data import observations_of, pusht_demonstrations
    from unveil.policy.training import policy_batches, policy_loss
    from unveil.runs.checkpoints import find_checkpoint
    from unveil.runs.training import Task, as_json, begin, run_task

    check(config)
    device = begin(config.run, config.run.folder)
    teacher: PolicyModel | None = None
    if config.distill:
        folder = find_checkpoint(config.distill)
        config, teacher = as_student(config, folder), load_policy_model(folder, device)
    beginning = None if config.start_from is None else find_checkpoint(str(config.start_from))
    config, carried = (config, {}) if beginning is None else begun_with(config, beginning)
    demonstrations = pusht_demonstrations(config.data, config.observation)
    demonstrations = demonstrations.chosen(
        published_split(len(demonstrations.episode_ends), config.hold_out, config.episodes, config.split_seed)
    )
    observations = observations_of(demonstrations, config.observation)
    window = (config.n_obs, config.horizon, config.n_action)
    pictures = demonstrations.observations.get("picture")
    chunks = Chunks(
        observations,
        demonstrations.actions,
        demonstrations.episode_ends,
        *window,
        pictures,
        config.condition == "inpainting",
    )
    numbers = {
        "observations": observations.shape[1] + (0 if pictures is None else pictures[0].size),
        "actions": 2,
        "demonstrations": chunks.episodes,
        "windows": len(chunks),
    }
    described = as_json(flat(config) | numbers | carried | {"recipe": "pusht"})
    torch.manual_seed(config.run.seed)  # initial weights
    model = policy_model(described)
    for what, part, rows in (
        ("observation", model.observed, observations),
        ("action", model.acted, demonstrations.actions),
    ):
        if constant := part.learn(rows, "limits"):
            names = left_out([str(i) for i in constant])
            note(f"{what} {names} (from 0) vary by less than 1e-4 of their size, so they count as constant")
    if beginning is not None:
        model.load_state_dict(
            load_policy_model(beginning, torch.device("cpu")).state_dict()
        )  # with its limits, which the weights are for

    def draws(count: int) -> Callable[[torch.Generator], Any]:
        return policy_batches(chunks, model.shape, count)

    draw, loss = draws(config.run.batch_size), policy_loss
    if teacher is not None:
        model.load_state_dict(teacher.state_dict())
        draw = student_batches(
            draws(max(1, config.run.batch_size // STATES)), model.shape, config.distill_steps
        )
        loss = student_loss(teacher, config.distill_steps)
    task = Task(
        model, draw, loss, {}, size=config.run.batch_size, lower="--horizon or --widths", accumulate=""
    )
    task = (
        task if teacher is not None else task._replace(draws=draws)
    )  # a student's loss computes with its teacher, too
    run_task(task, config.run, device, config.run.folder, described, TrainPushT(), progress)
    return config.run.folder


INHERITED = (
    "observation",
    "network",
    "condition",
    "n_obs",
    "horizon",
    "n_action",
    "prefix",
    "diffusion_steps",
    "predicts",
    "widths",
    "kernel",
    "step_width",
    "width",
    "depth",
    "heads",
    "crop",
    "image_width",
    "image_keypoints",
)


def begun_with(config: TrainPushT, folder: Path) -> tuple[TrainPushT, dict[str, Any]]:
    """The config with all that shapes the network of a run to begin with, and what else of that run's config is not a flag.

    Raises:
        ValueError: it observes what `unveil train pusht` does not learn from, or `--distill` is given too.
    """
    from dataclasses import replace

    from unveil.policy.recipes.load import read_policy_config

    told = read_policy_config(folder)
    if config.distill:
        raise ValueError("--start-from and --distill both say which weights to begin with; give one of them")
    if told["observation"] not in ("keypoints", "state", "pixels"):
        raise ValueError(
            f"--start-from {config.start_from}: it observes {told['observation']}, but only keypoints, state and pixels are trained on here"
        )
    inherited = {name: told[name] for name in (*INHERITED, "dropout") if name in told}
    carried = {
        name: told[name] for name in ("groups", "scale", "dropout_inputs", "causal", "clip") if name in told
    }
    return replace(config, **inherited | {"widths": tuple(told["widths"])}), carried


def as_student(config: TrainPushT, folder: Path) -> TrainPushT:
    """The config with all that the teacher decides; a student says v where its teacher says noise or x_0, and has no dropout.

    Raises:
        ValueError: the teacher is a student, or has fewer steps than its samples are to take.
    """
    from dataclasses import replace

    from unveil.policy.recipes.load import read_policy_config

    told = read_policy_config(folder)
    if told.get("distill", ""):
        raise ValueError(
            f"--distill {config.distill}: this is a student itself; give its teacher, {told['distill']}"
        )
    if told["predicts"] != "flow" and config.distill_steps > told["diffusion_steps"]:
        raise ValueError(
            f"--distill-steps must be at most the teacher's {told['diffusion_steps']}, got {config.distill_steps}"
        )
    inherited = {name: told[name] for name in INHERITED if name in told}
    predicts = told["predicts"] if told["predicts"] in ("v", "flow") else "v"
    return replace(
        config, **inherited | {"widths": tuple(told["widths"]), "predicts": predicts, "dropout": 0.0}
    )


def check(config: TrainPushT) -> None:
    """Refuse impossible numbers.

    Raises:
        ValueError: the field, what was got and what is needed.
    """
    from unveil.policy.data.chunks import check_window

    check_window(config.n_obs, config.horizon, config.n_action)
    if not 0 <= config.prefix <= config.horizon - config.n_obs:
        raise ValueError(
            f"--prefix must be 0 .. horizon - n_obs = {config.horizon - config.n_obs}, got {config.prefix}"
        )
    if config.condition not in ("auto", "inpainting", "film" if config.network == "cnn" else "tokens") or (
        config.condition == "inpainting" and (config.network != "cnn" or config.observation == "pixels")
    ):
        raise ValueError(
            f"--condition must be film or inpainting for the cnn (inpainting of keypoints or state) and tokens for the transformer, got "
            f"{config.condition} with {config.network} and {config.observation}"
        )
    if config.observation == "pixels" and (
        config.image_width % 16 or not 32 < config.crop <= 96 or config.image_keypoints < 1
    ):
        raise ValueError(
            f"--image-width must be a multiple of 16, --crop 33 .. 96 and --image-keypoints at least 1, got {config.image_width}, "
            f"{config.crop} and {config.image_keypoints}"
        )
    for name in (
        "distill_steps",
        "diffusion_steps",
        "image_width",
        "kernel",
        "step_width",
        "width",
        "depth",
        "heads",
    ):
        if getattr(config, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(config, name)}")
    if config.episodes < 0:
        raise ValueError(f"--episodes must be at least 0, got {config.episodes}")
    for name in ("dropout", "hold_out"):
        if not 0.0 <= getattr(config, name) < 1.0:
            raise ValueError(f"--{name.replace('_', '-')} must lie in [0, 1), got {getattr(config, name)}")
    if config.network == "cnn":
        if (
            not config.widths
            or any(w < 8 or w % 8 for w in config.widths)
            or config.kernel % 2 == 0
            or config.step_width % 2
        ):
            raise ValueError(
                f"--widths must be multiples of 8, --kernel odd and --step-width even, got {config.widths} and {config.kernel}"
            )
        if config.horizon % 2 ** (len(config.widths) - 1):
            raise ValueError(
                f"--horizon {config.horizon} cannot be halved {len(config.widths) - 1} times; give another, or fewer --widths"
            )
    elif config.width % (2 * config.heads):
        raise ValueError(f"--width must be a multiple of twice --heads, got {config.width}")
