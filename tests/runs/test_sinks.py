"""Sinks get every record, with its step, and are closed; a missing package is one clear line."""

import sys
from types import SimpleNamespace

import pytest

from unveil.errors import UnveilError
from unveil.runs.sinks import sink

RECORDS = [
    {"step": 100, "loss": 0.5, "learning_rate": 0.1},
    {"step": 200, "loss": 0.25, "learning_rate": 0.05},
]


@pytest.mark.parametrize("name", ["trackio", "wandb"])
def test_trackers_get_every_record_and_go_on_after_a_resume(monkeypatch, tmp_path, name):
    began, logged, ended = [], [], []
    fake = SimpleNamespace(
        init=lambda **how: began.append(how),
        log=lambda values, step: logged.append((values, step)),
        finish=lambda: ended.append(True),
    )
    monkeypatch.setitem(sys.modules, name, fake)
    with sink(name, tmp_path / "run-7", {"seed": 3}) as write:
        for record in RECORDS:
            write(record)
        assert not ended
    assert (
        began[0]["config"] == {"seed": 3}
        and began[0]["name"].startswith("run-7-")
        and began[0]["resume"] == "allow"
    )
    assert logged == [
        ({"loss": 0.5, "learning_rate": 0.1}, 100),
        ({"loss": 0.25, "learning_rate": 0.05}, 200),
    ]
    assert ended == [True]
    for folder in ("run-7", "run-8"):
        with sink(name, tmp_path / folder, {}):
            pass
    assert began[1]["name"] == began[0]["name"] != began[2]["name"]


def test_a_tracker_is_closed_after_an_error(monkeypatch, tmp_path):
    ended = []
    monkeypatch.setitem(
        sys.modules, "wandb", SimpleNamespace(init=lambda **_: None, finish=lambda: ended.append(True))
    )
    with pytest.raises(KeyboardInterrupt), sink("wandb", tmp_path, {}):
        raise KeyboardInterrupt
    assert ended == [True]


def test_tensorboard_gets_every_scalar_with_its_step_and_is_closed(monkeypatch, tmp_path):
    """A stand-in for the package, which unveil does not need: what `SummaryWriter` is told, and where."""
    told = []

    class Writer:
        def __init__(self, folder: str) -> None:
            told.append(("at", folder))

        def __enter__(self):
            return self

        def __exit__(self, *_) -> None:
            told.append(("closed",))

        def add_text(self, name: str, text: str) -> None:
            told.append((name, text))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            told.append((name, value, step))

    monkeypatch.setitem(sys.modules, "tensorboard", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(__path__=[]))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard.writer", SimpleNamespace(SummaryWriter=Writer))
    with sink("tensorboard", tmp_path / "run", {"seed": 3}) as write:
        for record in RECORDS:
            write(record)
    assert told[:2] == [("at", str(tmp_path / "run" / "tensorboard")), ("config", "    seed: 3")]
    assert told[2:] == [
        ("loss", 0.5, 100),
        ("learning_rate", 0.1, 100),
        ("loss", 0.25, 200),
        ("learning_rate", 0.05, 200),
        ("closed",),
    ]
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UnveilError, match="pip install tensorboard"), sink("tensorboard", tmp_path, {}):
        pass


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(UnveilError, match="pip install trackio"), sink("trackio", tmp_path, {}):
        pass


def test_none_takes_records_and_does_nothing(tmp_path):
    with sink("none", tmp_path / "absent", {}) as write:
        write(RECORDS[0])
    assert not (tmp_path / "absent").exists()
