"""Shared by the tests of recorded data."""

import pytest

from recorded import EXAMPLE
from unveil.planning.data.d4rl import read_d4rl, write_d4rl
from unveil.planning.data.minari import read_minari, write_minari


@pytest.fixture(params=["d4rl", "minari"])
def kind(request, tmp_path):
    """(path of a good file, its reader, its writer)."""
    read, write = {"d4rl": (read_d4rl, write_d4rl), "minari": (read_minari, write_minari)}[request.param]
    write(tmp_path / "good.hdf5", EXAMPLE)
    return tmp_path / "good.hdf5", read, write
