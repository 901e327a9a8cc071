"""The example of a control loop: limits, the watchdog, the rate, and a recording that trains again."""

import json
import runpy
import shlex
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from unveil.cli import main
from unveil.policy.data.demonstrations import read_demonstrations_npz

LOOP = SimpleNamespace(
    **runpy.run_path(str(Path(__file__).resolve().parents[2] / "examples" / "robot_loop.py"))
)
QUICK = shlex.split(
    "--preset tiny --widths 8 16 --steps 2 --save-every 2 --batch-size 4 --threads 1 --device cpu"
)


class Still:
    """A watchdog that never bites."""

    bitten = False

    def feed(self):
        pass


class Towards:
    """Acts by half of the way to the goal, or as it is told."""

    def __init__(self, says=None):
        self.says = says

    def reset(self):
        pass

    def act(self, seen):
        if isinstance(self.says, Exception):
            raise self.says
        return np.append(seen["goal"], 0.08) if self.says is None else np.full(8, self.says)


def clock(hz=20.0, takes=0.0):
    """A clock whose time passes in sleep, and by `takes` with every look."""
    time = [0.0]

    def now():
        time[0] += takes
        return time[0]

    def sleep(seconds):
        assert seconds > 0
        time[0] += seconds

    it = LOOP.Clock(hz, now, sleep)
    return it, time


def limits(low=-2.0, high=2.0, change=6.0):
    return LOOP.Limits(np.full(8, low), np.full(8, high), np.full(8, change))


def test_actions_stay_within_limits_and_change_slowly():
    it, last = limits(-1.0, 0.5, 6.0), np.zeros(8)
    np.testing.assert_allclose(it.applied(np.full(8, 9.0), last, 20.0), 0.3)  # 6 per second at 20 Hz
    np.testing.assert_allclose(it.applied(np.full(8, 9.0), np.full(8, 0.4), 20.0), 0.5)
    np.testing.assert_allclose(it.applied(np.full(8, -0.1), last, 20.0), -0.1)


def test_an_episode_reaches_is_logged_and_keeps_its_rate(tmp_path):
    log, (ticks, time) = LOOP.Log(), clock()
    arm = LOOP.SimulatedArm(1, 20.0)
    assert LOOP.control(arm, Towards(), limits(), ticks, Still(), 60, log) == "reached"
    assert time[0] == pytest.approx((len(log.actions) - 1) / 20.0) and ticks.late == 0 and not arm.stopped
    assert np.abs(np.diff(np.stack(log.actions), axis=0)).max() <= 0.3 + 1e-9
    log.write(tmp_path / "log.npz", 20.0)
    read = read_demonstrations_npz(tmp_path / "log.npz")
    assert read.recording.hz == 20.0 and read.recording.action_names == LOOP.NAMES
    np.testing.assert_allclose(read.actions, np.stack(log.actions), rtol=1e-6)
    assert read.episode_ends.tolist() == [len(log.actions)]


def test_what_goes_wrong_stops_the_robot():
    for policy, dog, said in (
        (Towards(ValueError("policy: not finite")), Still(), "stopped: policy: not finite"),
        (Towards(0.0), Still(), "time is up"),
        (Towards(), SimpleNamespace(bitten=True, feed=lambda: None), "the watchdog stopped the robot"),
    ):
        arm, log = LOOP.SimulatedArm(1, 20.0), LOOP.Log()
        assert LOOP.control(arm, policy, limits(), clock()[0], dog, 4, log) == said
        assert arm.stopped or dog.bitten
        assert len(log.actions) == (4 if said == "time is up" else 0)


def test_late_steps_are_counted_and_the_rate_goes_on():
    ticks, time = clock(10.0, takes=0.25)
    for _ in range(4):
        ticks.wait()
    assert ticks.late == 3 and time[0] == 1.0


def test_a_watchdog_that_is_not_fed_stops_the_robot():
    arm = LOOP.SimulatedArm(0, 20.0)
    dog = LOOP.Watchdog(0.01, arm.stop)
    dog._thread.join(timeout=30)
    assert dog.bitten and arm.stopped
    arm.command(np.ones(8))
    np.testing.assert_array_equal(arm.joints, LOOP.SimulatedArm(0, 20.0).joints)
    fed = LOOP.Watchdog(1000.0, arm.stop)
    fed.feed()
    fed.close()
    assert not fed.bitten


def test_record_train_run_and_train_again(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    LOOP.main(shlex.split("record --out demos.npz --episodes 4"))
    words = ["train", "policy", *QUICK]
    assert main([*words, "--data", "demos.npz", "--actions", "joint,gripper", "--out", "arm"]) == 0
    assert json.loads(Path("arm/config.json").read_text())["action_names"] == list(LOOP.NAMES)
    ended = LOOP.main(shlex.split("run --checkpoint arm --out again.npz --episodes 1 --hz 1000 --steps 20"))
    assert len(ended) == 1 and "recorded: again.npz" in capsys.readouterr().out
    assert main([*words, "--data", "again.npz", "--hold-out", "0", "--out", "new"]) == 0
    assert read_demonstrations_npz("again.npz").recording.hz == 1000.0
    for wrong in ("3", "2:-2"):
        with pytest.raises(SystemExit, match="LOW:HIGH"):
            LOOP.main(["run", "--checkpoint", "arm", f"--action-limits={wrong}"])
