"""benchmarks/robustness.py: thirty malformed inputs of every reader end in a value or a line; and what the
benchmark would call a fault."""

import os
import random
import signal
import sys
from pathlib import Path

import pytest
from jaxtyping import config

from unveil.errors import UnveilError

BENCHMARKS = str(Path(__file__).resolve().parent.parent / "benchmarks")
sys.path.append(BENCHMARKS)
import robustness  # noqa: E402
import robustness_formats  # noqa: E402
from robustness_readers import READERS, Reader, Source, kind_of  # noqa: E402

FEWER = {
    "video: LeRobot": 5,
    "torch.save: image models": 12,
    "run folders": 16,
    "safetensors by index: LLaDA": 10,
    "results": 10,
}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Parquet files of gigabytes are made by the benchmark alone."""
    for name in ("endless_parquet", "wide_parquet"):
        monkeypatch.setattr(robustness_formats, name, lambda columns: b"PAR1")


@pytest.fixture(autouse=True)
def unchecked():
    """What a user meets: beartype, which looks first in tests, stands aside."""
    before = config.jaxtyping_disable
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", before)


@pytest.mark.parametrize("name", list(READERS))
def test_thirty_inputs_end_in_a_value_or_a_line(name, tmp_path):
    with robustness.valid(name) as sources:
        ended = []
        for index in range(FEWER.get(name, 30)):
            tree, source = robustness.malformed(name, READERS[name], sources, 1, index)
            assert tree != source.files
            robustness.write(tree, tmp_path / str(index))
            ended.append(robustness.tried(source.read, tmp_path / str(index), index))
    assert not [outcome for outcome in ended if outcome.kind == "fault"]
    assert name == "results" or any(outcome.kind == "refusal" for outcome in ended)


def test_inputs_follow_from_reader_seed_and_index():
    source = Source(
        {"a.json": b'{"a": [1, 2, {"b": "c"}], "d": null}', "b.txt": b"words and more words"}, str
    )
    made = [
        [robustness.malformed(name, Reader(str), [source], seed, i)[0] for i in range(40)]
        for name, seed in (("x", 0), ("x", 0), ("x", 1), ("y", 0))
    ]
    assert made[0] == made[1] and made[0] != made[2] and made[0] != made[3]
    assert len({str(tree) for tree in made[0]}) > 35 and source.files not in made[0]


def reads(root: Path) -> str:
    """A reader of one byte, which says how to end."""
    match (root / "a").read_bytes():
        case b"k":
            raise KeyError("a")
        case b"l":
            raise UnveilError("cut short")
        case b"v":
            raise ValueError("not a number")
        case b"e":
            raise ValueError("")
        case b"n":
            raise ValueError("two\nlines")
        case b"m":
            bytearray(b"x" * (4 * robustness.LARGEST)).clear()
        case b"c":
            os.kill(os.getpid(), signal.SIGKILL)
    return "read"


def test_what_is_a_fault_and_what_comes_after_a_crash(monkeypatch):
    """Inputs in a process of their own, of which the sixth ends it; the last is tried all the same."""
    monkeypatch.setattr(robustness, "LARGEST", 50_000_000)
    monkeypatch.setattr(robustness, "BOMBS", ())
    monkeypatch.setitem(READERS, "bytes", Reader(lambda folder: []))
    order = "klvnemcr"
    monkeypatch.setattr(
        robustness, "malformed", lambda name, reader, sources, seed, i: ({"a": order[i].encode()}, sources[0])
    )
    ended = list(robustness.outcomes("bytes", [Source({"a": b""}, reads)], 0, len(order)))
    assert [outcome.index for outcome in ended] == list(range(len(order)))
    kinds = {order[outcome.index]: outcome.kind for outcome in ended}
    assert kinds == dict.fromkeys("knemc", "fault") | dict.fromkeys("lv", "refusal") | {"r": "value"}
    said = {order[outcome.index]: outcome.what for outcome in ended}
    assert (
        "KeyError at ?: 'a'" in said["k"]
        and said["l"] == "cut short"
        and "not one printable line" in said["n"]
    )
    assert " GB of memory (value)" in said["m"] and said["c"] == "the process ended with -9"


def test_an_input_that_takes_too_long_is_a_fault(monkeypatch, tmp_path):
    (tmp_path / "a").write_bytes(b"l")
    clock = iter([0.0, robustness.LONGEST + 1.0, 0.0, robustness.LONGEST - 1.0])
    monkeypatch.setattr(robustness.time, "perf_counter", lambda: next(clock))
    assert [robustness.tried(reads, tmp_path, 0).kind for _ in range(2)] == ["fault", "refusal"]


@pytest.mark.parametrize(
    "name",
    [
        "a.json",
        "a.npy",
        "a.npz",
        "a.png",
        "a.jpg",
        "a.pt",
        "a.pkl",
        "a.safetensors",
        "a.hdf5",
        "a.tar",
        "a.jsonl.gz",
        "zarr/c/0",
    ],
)
def test_files_that_are_no_longer_of_their_kind_are_damaged_further(name):
    """What was swapped or cut before must not stop the generator."""
    for seed in range(30):
        rng = random.Random(seed)
        assert isinstance(kind_of(name)(rng.randbytes(rng.randrange(40)), rng), bytes)
