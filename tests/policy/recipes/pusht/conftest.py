"""One small run on two demonstrations, which all tests of PushT's recipe share and none changes."""

import pytest

from pusht_recorded import TINY
from unveil.cli import main


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pusht") / "run"
    flags = ["--steps", "4", "--save-every", "2", "--seed", "3", "--out", str(folder)]
    assert main(["train", "pusht", *TINY, *flags]) == 0
    return folder
