"""What all trainings share: memory that is refused before it is taken, runs that go on, folders that are no
place to look."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from pusht_recorded import TWO
from unveil.cli import main
from unveil.planning.data.d4rl import write_d4rl
from unveil.planning.data.episodes import Episodes
from unveil.runs.device import _available, _groups

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
    "pusht transformer": [
        "--data",
        str(TWO),
        "--network",
        "transformer",
        "--width",
        "16",
        "--heads",
        "2",
        "--depth",
        "1",
    ],
    "text": ["--width", "16", "--depth", "1", "--heads", "2", "--context", "16"],
    "text blocks": ["--width", "16", "--depth", "1", "--heads", "2", "--context", "16", "--block", "4"],
    "text causal": ["--width", "16", "--depth", "1", "--heads", "2", "--context", "16", "--causal"],
    "text antithetic": [
        "--width",
        "16",
        "--depth",
        "1",
        "--heads",
        "2",
        "--context",
        "16",
        "--form",
        "t",
        "--times",
        "antithetic",
    ],
    "image": ["--width", "8", "--multiples", "1", "2", "--groups", "4"],
    "image classes": [
        "--width",
        "8",
        "--multiples",
        "1",
        "2",
        "--groups",
        "4",
        "--classes",
        "--dropout",
        "0.1",
    ],
    "image vlb": [
        "--width",
        "8",
        "--multiples",
        "1",
        "2",
        "--groups",
        "4",
        "--method",
        "iddpm",
        "--loss",
        "vlb",
    ],
    "image hybrid": ["--width", "8", "--multiples", "1", "2", "--groups", "4", "--method", "iddpm"],
    "image edm": ["--width", "8", "--multiples", "1", "2", "--groups", "4", "--method", "edm"],
    "image upsample": ["--width", "8", "--multiples", "1", "2", "--groups", "4", "--upsample", "2"],
    "classifier": ["--width", "8", "--multiples", "1", "2", "--groups", "4"],
    "autoencoder": ["--width", "8", "--groups", "4"],
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
    np.savez(
        folder / "images.npz",
        images=rng.integers(0, 255, (12, 8, 8), dtype=np.uint8),
        labels=np.arange(12) % 2,
    )
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
        "autoencoder": pixels,
    }


def free(monkeypatch, count: int | None) -> None:
    monkeypatch.setattr("unveil.runs.device.free_memory", lambda device: count)


def needs(said: str) -> float:
    found = re.search(
        r"a step of --batch-size \d+ needs about (\S+) GB of memory, but 9.31e-10 GB are free; ", said
    )
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
    found = re.search(
        r"give (--batch-size (\d+) with --accumulate (\d+)), or lower --context, --width or --depth",
        capsys.readouterr().err,
    )
    assert found is not None and int(found[2]) * int(found[3]) >= 3 * 64 and 1 < int(found[2]) < 64
    assert main([*flags, *found[1].replace(" with", "").split()]) == 0


def test_counting_changes_no_bit_of_a_training(data, monkeypatch):
    """A model that remembers its losses and drops out, where counting is on, and where nothing is known of
    memory."""
    weights = []
    flags = [
        "--method",
        "iddpm",
        "--loss",
        "vlb",
        "--dropout",
        "0.2",
        "--diffusion-steps",
        "25",
        "--steps",
        "3",
        "--batch-size",
        "4",
    ]
    for known in (10**12, None):
        free(monkeypatch, known)
        out = Path(data["image"][-1]).with_name(f"counted-{known}")
        assert (
            main(
                [
                    "train",
                    "image",
                    *CPU,
                    *SMALL["image"],
                    *data["image"][:-1],
                    str(out),
                    *flags,
                    "--bfloat16",
                    "False",
                ]
            )
            == 0
        )
        weights.append(
            [
                (out / "checkpoint-3" / f"{name}.safetensors").read_bytes()
                for name in ("network", "optimizer", "memory")
            ]
        )
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
    group(
        tmp_path,
        "sys/fs/cgroup/memory",
        {"memory.limit_in_bytes": 2**63 - 4096, "memory.usage_in_bytes": 9, "memory.stat": ""},
    )
    assert _groups(tmp_path) == [0, 2**63 - 4096 - 9]


def last(capsys) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.fixture
def grown(data, tmp_path):
    """Commands that train an image model on 12 pictures, and on 15 of which 12 are the same, in one
    folder."""
    few = np.load(data["image"][1])
    pixels, labels = np.concatenate([few["images"], few["images"][:3] // 2]), np.arange(15) % 2
    np.savez(tmp_path / "more.npz", images=pixels, labels=labels)
    np.savez(tmp_path / "wide.npz", images=np.zeros((12, 16, 16), np.uint8), labels=labels[:12])
    train = [
        "train",
        "image",
        *CPU,
        *SMALL["image"],
        "--hold-out",
        "0",
        "--out",
        str(tmp_path / "run"),
        "--batch-size",
        "4",
    ]
    assert main([*train, "--data", data["image"][1], "--steps", "2"]) == 0
    return {
        name: [*train, "--data", path]
        for name, path in (("few", data["image"][1]), ("more", str(tmp_path / "more.npz")))
    }


def test_a_run_whose_data_have_grown_says_so_and_goes_on_when_told(grown, tmp_path, capsys):
    more = grown["more"]
    assert main([*more, "--steps", "4", "--resume"]) == 2
    assert (
        "was started with 12 images, now there are 15 images; add --new-data to go on with these, give the old ones, or"
        in last(capsys)
    )
    assert main([*more, "--steps", "4", "--resume", "--new-data"]) == 0
    assert "going on from checkpoint-2 with 15 images instead of 12 images" in capsys.readouterr().err
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["images"] == 15 and config["data_before"] == [{"until_step": 2, "images": 12}]
    assert (
        main([*more, "--steps", "5", "--resume"]) == 0
    )  # now these are its data, and what was is remembered
    assert main([*grown["few"], "--steps", "6", "--resume", "--new-data"]) == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["data_before"] == [{"until_step": 2, "images": 12}, {"until_step": 5, "images": 15}]


def test_other_flags_are_told_as_they_are_typed_and_then_accepted(grown, capsys):
    train = [*grown["few"], "--steps", "3", "--resume"]
    assert main([*train, "--width", "16", "--flip", "--multiples", "1", "1"]) == 2
    said = last(capsys)
    assert (
        "was started with --flip False, not True and --width 8, not 16 and --multiples 1 2, not 1 1; to go on give "
        in said
    )
    offered = said.split("to go on give ")[1].split(",")[0].split()
    assert offered == ["--no-flip", "--width", "8", "--multiples", "1", "2"]
    assert main([*train, *offered]) == 0


def test_a_network_for_other_data_cannot_go_on(grown, tmp_path, capsys):
    wide = ["--data", str(tmp_path / "wide.npz")]
    assert main([*grown["few"][:-2], *wide, "--steps", "3", "--resume", "--new-data"]) == 2
    assert (
        "is made for data with size 8, now 16; give its own data, or start a new run with another --out"
        in last(capsys)
    )


def test_a_run_of_another_recipe_and_a_damaged_config_are_told(grown, data, tmp_path, capsys):
    run, text = tmp_path / "run", ["train", "text", *CPU, *SMALL["text"], *data["text"][:-1]]
    assert main([*text, str(run), "--resume"]) == 2
    assert "is a run of unveil train image, not of text; give another --out" in last(capsys)
    (run / "config.json").write_text("{")
    assert main([*grown["few"], "--steps", "3", "--resume"]) == 2
    assert "config.json: cannot be read" in last(capsys)


@pytest.mark.parametrize("recipe", ["locomotion", "value", "text", "pusht", "classifier", "autoencoder"])
def test_every_recipe_takes_new_data(data, recipe, capsys):
    """What each of them counts of its data is among what may change."""
    counted = {
        "locomotion": "transitions",
        "value": "transitions",
        "text": "tokens",
        "pusht": "windows",
        "classifier": "images",
        "autoencoder": "images",
    }[recipe]
    out = Path(data[recipe][-1]).with_name(f"new-{recipe}")
    place = ["--logbase", str(out)] if recipe in ("locomotion", "value") else ["--out", str(out)]
    small = [*CPU, *SMALL[recipe], *data[recipe][:-2], "--batch-size", "4"]
    steps = "--n-train-steps" if "--logbase" in place else "--steps"
    assert main(["train", recipe, *small, *place, steps, "1"]) == 0
    (file,) = out.rglob("config.json")
    described = json.loads(file.read_text())
    file.write_text(json.dumps(described | {counted: described[counted] + 1}))
    assert main(["train", recipe, *small, *place, steps, "2", "--resume"]) == 2
    was, now = f"{described[counted] + 1} {counted}", f"{described[counted]} {counted}"
    assert f"was started with {was}, now there are {now}; add --new-data" in last(capsys)
    assert main(["train", recipe, *small, *place, steps, "2", "--resume", "--new-data"]) == 0
    assert f"going on from checkpoint-1 with {now} instead of {was}" in capsys.readouterr().err


def test_a_converted_run_says_what_can_be_done(tmp_path, capsys):
    from unveil.errors import UnveilError
    from unveil.runs.resuming import write_config
    from unveil.training.checkpoint import save_checkpoint

    save_checkpoint(tmp_path / "run" / "checkpoint-7", {"ema": {}}, {})
    (tmp_path / "run" / "config.json").write_text(json.dumps({"recipe": "pusht", "origin": "lerobot"}))
    for resume in (True, False):
        with pytest.raises(
            UnveilError,
            match=r"was converted from lerobot, without the state of its optimizer, .* another `out`$",
        ):
            write_config(tmp_path / "run", {"recipe": "pusht"}, None, resume)
