"""Tests run as on a newcomer's machine: no network, no data of the machine's own, an empty HOME; shapes and
types are checked."""

import atexit
import os
import shutil
import socket
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from jaxtyping import config

import checked

if not os.environ.get("UNVEIL_UNCHECKED"):  # tests/test_mutations.py runs the suite many times
    checked.install()

import pytest
import torch

from unveil.image.data import source as image_sets

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

HOME = tempfile.mkdtemp(prefix="unveil-tests-home-")
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
os.environ["HOME"] = HOME
for name in ("UNVEIL_DATA", "UNVEIL_HOME", "MINARI_DATASETS_PATH", "XDG_CACHE_HOME"):
    os.environ.pop(name, None)
for name in [name for name in os.environ if name.startswith("HF_")]:
    os.environ.pop(name)
os.environ["HF_HUB_OFFLINE"] = "1"  # the tests of the Hub have one of their own (hub_server.py)
image_sets.DEBIAN = Path(HOME) / "no-debian-package"

LOOPBACK = ("127.", "::1", "localhost")
connect = socket.socket.connect


def only_loopback(self: socket.socket, address: object) -> None:
    """Refuse whatever would leave this machine; torchrun's processes talk over the loopback interface."""
    if isinstance(address, tuple) and not str(address[0]).startswith(LOOPBACK):
        raise RuntimeError(f"a test asked the network for {address[0]}; tests use none")
    return connect(self, address)  # type: ignore[arg-type]


def no_lookup(host: object, *arguments: object, **options: object) -> object:
    """Names are looked up on the network, too."""
    name = host.decode() if isinstance(host, bytes) else str(host or "")
    if name and not name.startswith(LOOPBACK) and name != socket.gethostname():
        raise RuntimeError(f"a test asked the network for {host!r}; tests use none")
    return lookup(host, *arguments, **options)  # type: ignore[arg-type]


lookup, socket.getaddrinfo, socket.socket.connect = socket.getaddrinfo, no_lookup, only_loopback  # type: ignore[assignment]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What compares with golden numbers, for `pytest -m golden`: all of test_golden.py, and whatever calls
    `golden_close`."""
    for item in items:
        code = getattr(getattr(item, "function", None), "__code__", None)
        if item.path.name == "test_golden.py" or (code is not None and "golden_close" in code.co_names):
            item.add_marker(pytest.mark.golden)


def pytest_runtest_setup(item: pytest.Item) -> None:
    checked.test[0] += 1


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator(device="cpu").manual_seed(0)


@pytest.fixture
def unchecked():
    """What a user meets: beartype, which looks first in tests, stands aside."""
    before = config.jaxtyping_disable
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", before)
