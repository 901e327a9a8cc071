"""Shapes and types are checked in tests: jaxtyping annotations by beartype, on every call of the package."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from jaxtyping import config, install_import_hook

if not os.environ.get("UNVEIL_UNCHECKED"):  # tests/test_mutations.py runs the suite many times
    install_import_hook("unveil", "beartype.beartype")

import pytest
import torch

torch.set_num_threads(1)


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
