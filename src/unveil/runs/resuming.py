"""Decide whether a training may continue in its run folder (`resume`), and if not, say what to do instead."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path

from unveil.errors import UnveilError
from unveil.files.json_objects import JsonObject
from unveil.files.reading import reading
from unveil.runs.flags import RunFlags, flat, modern

FREE_TO_CHANGE = (
    "steps",
    "save_every",
    "keep",
    "device",
    "threads",
    "resume",
    "new_data",
    "out",
    "prepared_by",
    "data",
    "sample_every",
    "compile",
    "log",
)
DATA = {  # sizes of the data, which `new_data` allows to change -> their names in messages
    "images": "images",
    "skipped": "files left out",
    "transitions": "transitions",
    "episodes": "episodes",
    "tokens": "tokens",
    "chats": "conversations",
    "left_out": "conversations left out",
    "demonstrations": "demonstrations",
    "windows": "windows",
}
OF_DATA = (
    "size",
    "channels",
    "names",
    "observations",
    "actions",
    "longest",
    "vocabulary",
    "tokenizer",
)  # properties of the data that determine the network


def check_folder(run: Path, resume: bool) -> Path | None:
    """Refuse an unusable run folder before data are read or generated for it.

    Returns:
        The newest undamaged checkpoint, by the sizes of its files: the trainer verifies their contents.
    Raises:
        UnveilError: it is a file, holds files with names of a run's files that no run made, or holds
            checkpoints while `resume` is off.
    """
    from unveil.training.checkpoint import check_files, latest_checkpoint

    if run.exists() and not run.is_dir():
        raise UnveilError(f"{run} is a file, but a run needs a folder")
    newest = latest_checkpoint(run, warn=False, check=check_files)
    if newest is None:
        _check_names(run)
    elif not resume and _read(run / "config.json").get("origin", "unveil") == "unveil":
        raise UnveilError(f"{run} already holds {newest.name}; give `resume` to continue, or another `out`")
    return newest


def _check_names(run: Path) -> None:
    """Refuse config.json or metrics.jsonl that no run made, in a folder without checkpoints."""
    config, log = run / "config.json", run / "metrics.jsonl"
    try:
        content = json.loads(config.read_text()) if config.exists() else None
        ours = isinstance(content, dict) and "recipe" in content
    except (OSError, ValueError, RecursionError):
        content, ours = "unreadable", False
    for file, foreign in ((config, content is not None and not ours), (log, log.exists() and not ours)):
        if foreign:
            raise UnveilError(
                f"{file} exists and was not made by unveil, so it is not replaced; give another folder for "
                "the run"
            )


def write_config(run: Path, described: dict[str, object], defaults: object, resume: bool) -> str:
    """Write config.json, unless the run has begun with another one.

    If `described` has `new_data`, sizes of the data (`DATA`) may differ; `data_before` of config.json then
    records the earlier sizes, each with the step until which they held.

    Args:
        described: contents of config.json.
        defaults: the recipe's config, for fields that an older config.json lacks.
        resume: continue a run that has checkpoints.
    Returns:
        A note about changed data, or "".
    Raises:
        UnveilError: as `check_folder`, or the run was started with other settings or data, by another recipe,
            or by another program; the message says what to do.
    """
    from unveil.files.atomic import replacing

    file, remark = run / "config.json", ""
    if (newest := check_folder(run, resume)) is not None:
        before = _read(file)
        _check_kind(run, before, described)
        changed = _changed(run, before, described, defaults)
        if "data_before" in before:
            described["data_before"] = before["data_before"]
        if changed:
            until = {"until_step": int(newest.name.split("-")[1])} | {name: before[name] for name in changed}
            described["data_before"] = [*before.get("data_before", []), until]
            now, then = _numbers(changed, described), _numbers(changed, before)
            remark = f"going on from {newest.name} with {now} instead of {then}"
    with replacing(file) as partial:
        partial.write_text(json.dumps(described, indent=1) + "\n")
    return remark


def _read(file: Path) -> JsonObject:
    if not file.is_file():
        return {}
    with reading(file, "cannot be read", "; copy the run again, or give another `out`"):
        before = json.loads(file.read_text())
        if not isinstance(before, dict):
            raise ValueError("not the config of a run")
    return modern(before)


def _check_kind(run: Path, before: Mapping[str, object], described: Mapping[str, object]) -> None:
    """Refuse a run of another recipe, or one that was converted from another program's checkpoint."""
    recipe, origin = before.get("recipe", described["recipe"]), before.get("origin", "unveil")
    if origin != "unveil":
        instead = ""
        if recipe == described["recipe"] and "start_from" in described:
            new_folder = "--prefix diffusion/new" if "logbase" in described else "--out NEW"
            command = f"unveil train {recipe} --start-from {shlex.quote(str(run))} {new_folder}"
            instead = f"; train on from its weights in a new folder: {command}"
        raise UnveilError(
            f"{run} was converted from {origin}, without the state of its optimizer, so it cannot continue "
            f"there; use it as it is, or give another `out`{instead}"
        )
    if recipe != described["recipe"]:
        raise UnveilError(
            f"{run} is a run of unveil train {recipe}, not of {described['recipe']}; give another `out`"
        )


def _changed(
    run: Path, before: Mapping[str, object], described: Mapping[str, object], defaults: object
) -> list[str]:
    """Names of the sizes of data that differ and may.

    Raises:
        UnveilError: anything else differs.
    """
    fields = {} if defaults is None else flat(defaults)
    usual = {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}
    different = [
        name
        for name in described
        if before and name not in FREE_TO_CHANGE and before.get(name, usual.get(name)) != described[name]
    ]
    # an older run may lack sizes of its data, and flags that its preset or network decided without a field
    unsaid = {*DATA, *flat(RunFlags())}
    different = [name for name in different if name in before or name not in unsaid]
    # an older run also counted demonstrations too short for a window
    if "windows" in before and "windows" not in different:
        different = [name for name in different if name != "demonstrations"]
    flags = [name for name in different if name in usual]
    fixed = [name for name in different if name in OF_DATA]
    if fixed:
        was = " and ".join(
            f"{name} {_word(before.get(name))}, now {_word(described[name])}" for name in fixed
        )
        raise UnveilError(
            f"the network of {run} is made for data with {was}; give its own data, or start a new run with "
            "another `out`"
        )
    if flags:
        was = " and ".join(
            f"`{name}` {_word(before.get(name, usual[name]))}, not {_word(described[name])}" for name in flags
        )
        old = " ".join(_setting(name, before.get(name, usual[name])) for name in flags)
        raise UnveilError(
            f"{run} was started with {was}; to go on give {old}, or start a new run with another `out`"
        )
    for name in set(different) - set(DATA):
        raise UnveilError(
            f"{run} was started with {name} {_word(before.get(name))}, not {_word(described[name])}; give "
            "another `out`"
        )
    if different and not described.get("new_data"):
        raise UnveilError(
            f"{run} was started with {_numbers(different, before)}, now there are "
            f"{_numbers(different, described)}; add `new_data` to go on with these, give the old ones, or "
            "start a new run with another `out`"
        )
    return different


def _numbers(names: list[str], described: Mapping[str, object]) -> str:
    return ", ".join(
        f"{len(v) if isinstance(v := described[name], list) else v} {DATA[name]}" for name in names
    )


def _word(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _setting(name: str, value: object) -> str:
    """A setting as a message says it; the command line turns it into a flag and its value."""
    if isinstance(value, bool):
        return f"`{name}={value}`"
    if value is None:
        return f"no `{name}`"
    return f"`{name}` {_word(value) if isinstance(value, list | tuple) else shlex.quote(str(value))}"
