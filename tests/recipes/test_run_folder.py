"""What all trainings share: memory that is refused before it is taken, runs that go on, folders that are no place to look."""

import re
from pathlib import Path

import numpy as np
import pytest

from pusht_recorded import TWO
from unveil.cli import main
from unveil.data.d4rl import write_d4rl
from unveil.data.episodes import Episodes
from unveil.recipes.device import _available, _groups

CPU = ["--preset", "tiny", "--device", "cpu"]
SMALL = {
    "maze": ["--maze", "umaze", "--width", "16", "--heads", "2", "--no-samples"],
    "maze paper": ["--maze", "umaze", "--preset", "paper", "--width", "8", "--depth", "4", "--no-samples"],
    "locomotion": ["--horizon", "8", "--bfloat16", "False"],
    "locomotion transformer": [
        "--preset",
        "default",
        "--model",
        "transformer",
        "--horizon",
        "8",
        "--dim",
        "16",
        "--heads",
        "2",
        "--depth",
        "1",
    ],
    "value": ["--horizon", "8"],
    "pusht": ["--data", str(TWO), "--widths", "8", "16"],
    "pusht transformer": ["--data", str(TWO), "--network", "transformer", "--width", "16", "--heads", "2", "--depth", "1"],
    "text": ["--width", "16", "--depth", "1", "--heads", "2", "--context", "16"],
    "text blocks": ["--width", "16", "--depth", "1", "--heads", "2", "--context", "16", "--block", "4"],
    "text causal": ["--width", "16", "--depth", "1", "--heads", "2", "--context", "16", "--causal"],
    "text antithetic": ["--width", "16", "--depth", "1", "--heads", "2", "--context", "16", "--form", "t", "--times", "antithetic"],
    "image": ["--width", "8", "--multiples", "1", "2", "--groups", "4"],
    "image classes": ["--width", "8", "--multiples", "1", "2", "--groups", "4", "--classes", "--dropout", "0.1"],
    "image vlb": ["--width", "8", "--multiples", "1", "2", "--groups", "4", "--method", "iddpm", "--loss", "vlb"],
    "image hybrid": ["--width", "8", "--multiples", "1", "2", "--groups", "4", "--method", "iddpm"],
    "image edm": ["--width", "8", "--multiples", "1", "2", "--groups", "4", "--method", "edm"],
    "image upsample": ["--width", "8", "--multiples", "1", "2", "--groups", "4", "--upsample", "2"],
    "classifier": ["--width", "8", "--multiples", "1", "2", "--groups", "4"],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict[str, list[str]]:
    """Flags that name small data of each recipe."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    ends = np.arange(1, 401) % 200 == 0
    walks = np.cumsum(rng.normal(0.0, 0.01, (400, 4)), axis=0).astype(np.float32) + 1.0
    arrays = (np.zeros((400, 2), np.float32), np.zeros(400, np.float32), np.zeros(400, bool), ends)
    write_d4rl(folder / "umaze.hdf5", Episodes(walks, *arrays))
    rows = rng.normal(size=(200, 11)).astype(np.float32)
    arrays = (
        np.tanh(rng.normal(size=(200, 3))).astype(np.float32),
        np.ones(200, np.float32),
        np.arange(1, 201) % 20 == 0,
        np.zeros(200, bool),
    )
    write_d4rl(folder / "hopper-tiny.hdf5", Episodes(rows, *arrays))
    (folder / "poem.txt").write_text("To be, or not to be, that is the question.\n" * 12)
    np.savez(folder / "images.npz", images=rng.integers(0, 255, (12, 8, 8), dtype=np.uint8), labels=np.arange(12) % 2)
    body = ["--dataset", str(folder / "hopper-tiny.hdf5"), "--logbase", str(folder / "logs")]
    pixels = ["--data", str(folder / "images.npz"), "--hold-out", "0", "--out", str(folder / "run")]
    return {
        "maze": ["--data", str(folder / "umaze.hdf5"), "--out", str(folder / "run")],
        "locomotion": body,
        "value": body,
        "pusht": ["--out", str(folder / "run")],
        "text": ["--data", str(folder / "poem.txt"), "--out", str(folder / "run")],
        "image": pixels,
        "classifier": pixels,
    }


def free(monkeypatch, count: int | None) -> None:
    monkeypatch.setattr("unveil.recipes.device.free_memory", lambda device: count)


def needs(said: str) -> float:
    found = re.search(r"a step of --batch-size \d+ needs about (\S+) GB of memory, but 9.31e-10 GB are free; ", said)
    assert found is not None, said
    return float(found[1])


@pytest.mark.parametrize("kind", SMALL)
def test_every_training_is_counted_and_refused_where_nothing_is_free(data, monkeypatch, capsys, kind):
    """None of their losses asks for numbers that cannot be done without; a larger batch needs more."""
    free(monkeypatch, 1)
    recipe = kind.split()[0]
    said = []
    for size in ("8", "32"):
        assert main(["train", recipe, *CPU, *SMALL[kind], *data[recipe], "--batch-size", size]) == 2
        said.append(capsys.readouterr().err)
        assert "not even one sample would fit: lower --" in said[-1] and "Traceback" not in said[-1]
    assert needs(said[1]) > needs(said[0])


def test_the_batch_that_fits_is_named_and_fits(data, monkeypatch, capsys):
    """What is offered is then not refused, and trains."""
    flags = ["train", "text", *CPU, *SMALL["text"], *data["text"], "--steps", "1", "--accumulate", "3"]
    free(monkeypatch, 3 * 10**6)
    assert main([*flags, "--batch-size", "64"]) == 2
    found = re.search(r"give (--batch-size (\d+) with --accumulate (\d+)), or lower --context, --width or --depth", capsys.readouterr().err)
    assert found is not None and int(found[2]) * int(found[3]) >= 3 * 64 and 1 < int(found[2]) < 64
    assert main([*flags, *found[1].replace(" with", "").split()]) == 0


def test_counting_changes_no_bit_of_a_training(data, monkeypatch):
    """A model that remembers its losses and drops out, where counting is on, and where nothing is known of memory."""
    weights = []
    flags = ["--method", "iddpm", "--loss", "vlb", "--dropout", "0.2", "--diffusion-steps", "25", "--steps", "3", "--batch-size", "4"]
    for known in (10**12, None):
        free(monkeypatch, known)
        out = Path(data["image"][-1]).with_name(f"counted-{known}")
        assert main(["train", "image", *CPU, *SMALL["image"], *data["image"][:-1], str(out), *flags, "--bfloat16", "False"]) == 0
        weights.append([(out / "checkpoint-3" / f"{name}.safetensors").read_bytes() for name in ("network", "optimizer", "memory")])
    assert weights[0] == weights[1]


def group(root: Path, folder: str, files: dict[str, object]) -> None:
    (root / folder).mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (root / folder / name).write_text(f"{text}\n")


def test_what_is_free_is_the_least_of_the_machine_and_its_groups(tmp_path):
    assert _groups(tmp_path) == []
    group(tmp_path, "proc", {"meminfo": "MemTotal: 9000 kB\nMemFree: 10 kB\nMemAvailable:    5000 kB"})
    assert _available(tmp_path) == 5000 * 1024
    group(tmp_path, "proc/self", {"cgroup": "0::/user/job"})
    stat = {"memory.stat": "anon 5\ninactive_file 30"}
    group(tmp_path, "sys/fs/cgroup/user/job", {"memory.max": "max", "memory.current": 70, **stat})
    group(tmp_path, "sys/fs/cgroup/user", {"memory.max": 1000, "memory.current": 700, **stat})
    assert _groups(tmp_path) == [1000 - 700 + 30]
    group(tmp_path, "proc/self", {"cgroup": "5:cpu,cpuacct:/a\n4:memory:/b"})  # the first version
    group(
        tmp_path,
        "sys/fs/cgroup/memory/b",
        {"memory.limit_in_bytes": 400, "memory.usage_in_bytes": 500, "memory.stat": "total_inactive_file 20"},
    )
    group(tmp_path, "sys/fs/cgroup/memory", {"memory.limit_in_bytes": 2**63 - 4096, "memory.usage_in_bytes": 9, "memory.stat": ""})
    assert _groups(tmp_path) == [0, 2**63 - 4096 - 9]
