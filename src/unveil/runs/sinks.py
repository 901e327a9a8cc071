"""Trackers that receive training metrics besides metrics.jsonl: TensorBoard, Trackio, Weights & Biases.

unveil needs none of these packages unless `log` names it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

SinkName = Literal["none", "tensorboard", "trackio", "wandb"]
Write = Callable[[Mapping[str, float | int]], None]


@contextmanager
def sink(name: SinkName, run: Path, config: Mapping[str, object]) -> Generator[Write]:
    """Yield a function that sends records of metrics.jsonl to a tracker, which is closed at the end.

    A resumed run continues in the same place: TensorBoard's folder is tensorboard/ of the run folder; the run
    of Trackio or W&B is named by the run folder and a random number that is stored there.

    Raises:
        UnveilError: the package is not installed.
    """
    if name == "none":
        yield lambda record: None
    elif name == "tensorboard":
        needed(name)
        from torch.utils.tensorboard.writer import SummaryWriter

        with SummaryWriter(str(run / "tensorboard")) as writer:
            writer.add_text("config", "\n".join(f"    {key}: {value}" for key, value in config.items()))

            def write(record: Mapping[str, float | int]) -> None:
                for key, value in record.items():
                    if key != "step":
                        writer.add_scalar(key, value, int(record["step"]))

            yield write
    elif name in ("trackio", "wandb"):
        tracker = needed(name)
        unique = f"{run.name}-{identity(run)}"
        more = {"id": unique, "dir": str(run)} if name == "wandb" else {}
        tracker.init(project="unveil", name=unique, config=dict(config), resume="allow", **more)
        try:
            yield lambda record: tracker.log(
                {k: v for k, v in record.items() if k != "step"}, step=int(record["step"])
            )
        finally:
            tracker.finish()
    else:
        raise ValueError(f"`log` must be none, tensorboard, trackio or wandb, got {name!r}")


def identity(run: Path) -> str:
    """A random identifier of this run folder, stored in it: resumed runs keep it, a new run gets another."""
    from secrets import token_hex

    file = run / "tracker-id"
    if not file.is_file():
        run.mkdir(parents=True, exist_ok=True)
        file.write_text(token_hex(4))
    return file.read_text()


def needed(package: str) -> Any:  # trackers have no stubs
    """Import the package of a tracker.

    Raises:
        UnveilError: it is not installed.
    """
    from importlib import import_module

    from unveil.errors import UnveilError

    try:
        return import_module(package)
    except ImportError as error:
        raise UnveilError(f"`log={package}` needs the package {package}: pip install {package}") from error
