"""Begin a training with the weights of a checkpoint (`--from`): shapes, statistics, what is frozen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from unveil.errors import UnveilError
from unveil.files.notes import note
from unveil.runs.checkpoints import find_checkpoint, lasting_name, read_weights
from unveil.runs.flags import RunFlags, changed, flat

if TYPE_CHECKING:
    import torch

Config = TypeVar("Config")


def beginning(flags: RunFlags, run: Path, old: Path | str | None = None) -> Path | None:
    """The folder of the checkpoint that a training begins with; None for random weights.

    A resumed run has its weights, so that it begins with its own newest checkpoint.

    Args:
        old: what an older flag of the recipe names, `start_from`.
    Raises:
        UnveilError: no such checkpoint.
        ValueError: both flags are given, or `statistics` or `freeze` without `from`.
    """
    from unveil.training.checkpoint import latest_checkpoint

    if flags.source and old:
        raise ValueError("`from` and `start_from` both name the initial weights; give one of them")
    if not flags.source and (flags.statistics != "kept" or flags.freeze != "none"):
        raise ValueError("`statistics` and `freeze` are of a training that begins with weights; give `from`")
    name = flags.source or old
    if not name:
        return None
    if flags.resume and (own := latest_checkpoint(run, warn=False)) is not None:
        return own
    return find_checkpoint(str(name))


def refuse(flags: RunFlags, instead: str) -> None:
    """Refuse `from` in a recipe that begins with a model in another way.

    Raises:
        ValueError: it is given.
    """
    if flags.source or flags.statistics != "kept" or flags.freeze != "none":
        raise ValueError(f"`from`, `statistics` and `freeze` do not belong here: {instead}")


def inherited(config: Config, described: Mapping[str, object], names: tuple[str, ...]) -> Config:
    """The config with the checkpoint's values of these fields; those that change are noted.

    The checkpoint's name is recorded so that it holds from any folder.
    """
    before = flat(config)
    values = {
        name: tuple(value) if isinstance(value := described[name], list) else value
        for name in names
        if name in described and name in before
    }
    source = str(before["source"])
    if others := [f"{name} {_word(value)}" for name, value in values.items() if value != before[name]]:
        note(f"the network is that of {source or 'the checkpoint'}: {', '.join(others)}")
    return changed(config, **values, **({"source": lasting_name(source)} if source else {}))


def check_sizes(described: Mapping[str, object], has: Mapping[str, object], where: str, **names: str) -> None:
    """Refuse data of other sizes than those that a checkpoint was trained on.

    Args:
        described: the new training.
        has: the checkpoint.
        names: field -> what it counts, for messages.
    Raises:
        UnveilError: a size differs.
    """
    for name, what in names.items():
        if described[name] != has[name]:
            raise UnveilError(
                f"{where} was trained on {has[name]} {what}, but these data have {described[name]}; its "
                "weights fit data of its own sizes only"
            )


def take_over(
    model: torch.nn.Module,
    folder: Path,
    flags: RunFlags,
    statistics: tuple[str, ...] = (),
    new: tuple[str, ...] = (),
) -> None:
    """Copy the averaged weights of a checkpoint into a model whose statistics were learned from new data.

    Args:
        statistics: beginnings of the names of tensors that normalise the data: kept are the checkpoint's,
            with `statistics=learned` the model's own.
        new: beginnings of names of tensors that are the model's own in any case.
    Raises:
        UnveilError: they are damaged, or not the weights of such a model.
    """
    import torch

    own = model.state_dict()
    tensors = read_weights(folder, own)
    left = (*new, *(statistics if flags.statistics == "learned" else ()))
    model.load_state_dict(
        own
        | {
            name: value.to(torch.float32) if value.is_floating_point() else value
            for name, value in tensors.items()
            if not (left and name.startswith(left))
        }
    )
    if statistics and flags.source:
        kept = f"those of {flags.source} (`statistics=learned`: of these data)"
        said = kept if flags.statistics == "kept" else "learned from these data"
        note(
            f"the statistics that normalise the data are {said}".replace(
                "`statistics=learned`", "--statistics learned"
            )
        )


def freeze(flags: RunFlags, encoder: torch.nn.Module | None, what: str) -> None:
    """Exclude the encoder of a model from training, if `freeze=encoder`.

    Args:
        encoder: None for a model without one.
        what: the model in words, for messages.
    Raises:
        ValueError: the model has none.
    """
    if flags.freeze == "none":
        return
    if encoder is None:
        raise ValueError(f"`freeze=encoder`: {what} has no encoder; leave `freeze` out")
    encoder.requires_grad_(False)
    count = sum(p.numel() for p in encoder.parameters())
    note(f"the encoder, {count:,} numbers, is not trained")


def _word(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
