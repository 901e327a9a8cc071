"""The rows of benchmarks/pusht.py about delays can all be run, on the run that its text says how to train."""

import runpy
import shlex
from pathlib import Path

import pytest
import tyro

from unveil.policy.model import PolicyModel
from unveil.policy.recipes.load import policy_model, policy_of
from unveil.policy.recipes.pusht.config import EvalPushT, TrainPushT
from unveil.policy.recipes.pusht.evaluate import delayed
from unveil.policy.settings import PolicySettings
from unveil.runs.flags import changed, flat

BENCHMARK = runpy.run_path(str(Path(__file__).resolve().parents[2] / "benchmarks" / "pusht.py"))


@pytest.fixture(scope="module")
def model() -> PolicyModel:
    """As that command makes it, but narrower."""
    line = next(
        line for line in BENCHMARK["__doc__"].splitlines() if f"--out runs/{BENCHMARK['DELAYED']} " in line
    )
    config = tyro.cli(TrainPushT, args=shlex.split(line, comments=True)[3:])
    described = flat(config) | {"widths": (8, 8, 8), "observations": 20, "actions": 2}
    return policy_model(described)


def test_every_delay_of_every_mode_fits_the_run(model):
    rows = BENCHMARK["rows"]()
    names = [f"delay-{d}-{mode}" for mode in ("wait", "naive", "prefix", "soft") for d in range(9)]
    assert [name for name in rows if name.startswith("delay-")] == names
    for name in names:
        assert rows[name].args == (BENCHMARK["DELAYED"],)
        policy = delayed(
            policy_of(model, PolicySettings(sampling_steps=1)), changed(EvalPushT(), **rows[name].keywords)
        )
        assert policy.n_action == 8, name  # as many executed whatever the delay, so that rows compare


def test_a_delay_without_its_run_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception, match="runs/pusht-prefix is missing or not finished"):
        BENCHMARK["rows"]()["delay-8-prefix"](1, 0)
