"""Off a terminal: a line with the place, the loss, the rate and the time that is left, not more often than
every 10 s."""

from types import SimpleNamespace

import pytest

from unveil.runs import progress
from unveil.runs.progress import as_clock, shown_progress


@pytest.fixture
def clock(monkeypatch):
    import time

    now = SimpleNamespace(at=100.0)
    monkeypatch.setattr(time, "monotonic", lambda: now.at)
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: False, raising=False)
    return now


def test_a_trainings_line_says_loss_rate_and_what_is_left(clock, capsys):
    """90 steps at 0.25 a second are 6 minutes."""
    with shown_progress() as show:
        show("training runs/a", 10, 100, {"step": 10, "loss": 0.5, "steps_per_second": 0.25})
        clock.at += 9.0
        show("training runs/a", 20, 100, {"step": 20, "loss": 0.4, "steps_per_second": 0.25})
        clock.at += 2.0
        show("training runs/a", 30, 100, {"step": 30, "loss": 0.3, "steps_per_second": 0.01})
        show("training runs/a", 100, 100, {"step": 100, "loss": 0.1, "steps_per_second": 0.25})
    assert capsys.readouterr().err.splitlines() == [
        "training runs/a: 10/100 loss=0.5 steps_per_second=0.25 ETA 0:06:00",
        "training runs/a: 30/100 loss=0.3 steps_per_second=0.01 ETA 1:56:40",
        "training runs/a: 100/100 loss=0.1 steps_per_second=0.25",
    ]


def test_other_work_is_timed_from_its_first_line(clock, capsys):
    """The first line knows no rate; then 40 in 20 s leave 50 for 25 s. Another task starts its own clock."""
    with shown_progress() as show:
        show("scoring", 10, 100, {})
        clock.at += 20.0
        show("scoring", 50, 100, {})
        show("packing", 1, 3, {})
    assert capsys.readouterr().err.splitlines() == [
        "scoring: 10/100",
        "scoring: 50/100 ETA 0:00:25",
        "packing: 1/3",
    ]


def test_clocks_carry():
    assert [as_clock(s) for s in (0.4, 59.6, 3599.7, 86_400.0)] == [
        "0:00:00",
        "0:01:00",
        "1:00:00",
        "24:00:00",
    ]


def test_one_display_at_a_time(clock, capsys):
    """A download within an evaluation goes on with the evaluation's."""
    with shown_progress() as outer, shown_progress() as inner:
        assert inner is outer
        inner("bytes", 1, 2, {})
    with shown_progress() as later:
        assert later is not outer
        later("bytes", 1, 2, {})
    assert capsys.readouterr().err.splitlines() == ["bytes: 1/2"] * 2
