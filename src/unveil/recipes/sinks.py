"""Where training metrics go besides `metrics.jsonl`: TensorBoard, Trackio or Weights & Biases, none of which unveil needs."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

SinkName = Literal["none", "tensorboard", "trackio", "wandb"]
Write = Callable[[Mapping[str, Any]], None]


@contextmanager
def sink(name: SinkName, run: Path, config: Mapping[str, Any]) -> Generator[Write]:
    """Yields a function that takes records of `metrics.jsonl`; closes the sink in the end.

    A resumed run goes on in the same place: TensorBoard's folder is `run`/tensorboard, Trackio's and W&B's run has the name of `run`.

    Raises:
        UnveilError: the package is not installed.
    """
    if name == "none":
        yield lambda record: None
    elif name == "tensorboard":
        _needs("tensorboard", name)
        from torch.utils.tensorboard.writer import SummaryWriter

        with SummaryWriter(str(run / "tensorboard")) as writer:
            writer.add_text("config", "\n".join(f"    {key}: {value}" for key, value in config.items()))

            def write(record: Mapping[str, Any]) -> None:
                for key, value in record.items():
                    if key != "step":
                        writer.add_scalar(key, value, int(record["step"]))

            yield write
    elif name in ("trackio", "wandb"):
        tracker = _needs(name, name)
        resume = {"trackio": {"name": run.name}, "wandb": {"name": run.name, "id": run.name, "dir": str(run)}}[name]
        tracker.init(project="unveil", config=dict(config), resume="allow", **resume)
        try:
            yield lambda record: tracker.log({k: v for k, v in record.items() if k != "step"}, step=int(record["step"]))
        finally:
            tracker.finish()
    else:
        raise ValueError(f"--log must be none, tensorboard, trackio or wandb, got {name!r}")


def _needs(package: str, name: str) -> Any:
    from importlib import import_module

    from unveil.errors import UnveilError

    try:
        return import_module(package)
    except ImportError as error:
        raise UnveilError(f"--log {name} needs the package {package}: pip install {package}") from error
