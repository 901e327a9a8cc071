"""Policies of one's own robot by the command line: what is trained on, what is said of it, and what is refused."""

import json
import shlex

import h5py
import numpy as np
import pytest

import unveil
from unveil.cli import main

QUICK = shlex.split(
    "--preset tiny --widths 8 16 --steps 2 --save-every 2 --batch-size 4 --threads 1 --device cpu"
)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def arm(path="arm.hdf5", pictures=False, episodes=6, steps=24):
    """An arm of seven joints whose actions are its next joints, towards a goal, and a still gripper."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_kwargs": {"control_freq": 20}})
        for i in range(episodes):
            goal, joints = rng.uniform(-1, 1, 7), rng.uniform(-1, 1, 7)
            seen = np.array([goal + (joints - goal) * 0.9**k for k in range(steps + 1)])
            demo = data.create_group(f"demo_{i}")
            demo["actions"] = np.hstack([seen[1:], np.full((steps, 1), 0.08)])
            demo["obs/joints"], demo["obs/goal"] = seen[:-1], np.tile(goal, (steps, 1))
            demo["obs/gripper"] = 0.08 + 5e-6 * rng.random((steps, 1))
            demo["obs/said"] = np.array([b"push"] * steps)
            if pictures:
                demo["obs/wrist"] = rng.integers(0, 256, (steps, 48, 64, 3)).astype(np.uint8)
                demo["obs/depth"] = (0.6 + rng.random((steps, 40, 40, 1))).astype(np.float32)
        file["mask/valid"] = np.array([b"demo_1", b"demo_4"])
    return path


def train(*words):
    return main(["train", "policy", *QUICK, *map(str, words)])


def config(folder):
    return json.loads((folder / "config.json").read_text())


def test_states_of_any_size_train_load_and_act(tmp_path, capsys):
    assert train("--data", arm(), "--out", "run") == 0
    said = capsys.readouterr()
    for part in (
        "6 of 6; 5 to train on, 1 held out",
        "144 at 20 Hz, 0:00:07 in all; 24 to 24 per episode",
        "joints: 7 numbers, -0.9",
        "left out  said, which is not an array of numbers",
        "windows   85 of 16 steps (0.8 s), 2 observed",
        "parameters on cpu",
        "memory    about",
        "observation gripper[0] vary by less than 1e-4",
    ):
        assert part in said.err, part
    assert "next: unveil eval policy --checkpoint run" in said.out
    told = config(tmp_path / "run")
    assert (told["observations"], told["actions"], told["hz"], told["demonstrations"]) == (15, 8, 20.0, 5)
    policy = unveil.load("run", "cpu", sampling_steps=2)
    noise = np.random.default_rng(0).normal(size=(1, 16, 8))
    seen = {"goal": np.arange(7.0), "gripper": [0.08], "joints": -np.arange(7.0)}
    by_name = policy.act(seen | {"unknown": "ignored"}, noise=noise)
    policy.reset()
    rows = policy.act(np.concatenate([seen["goal"], [0.08], seen["joints"]])[None], noise=noise)
    np.testing.assert_array_equal(by_name, rows[0])
    # the gripper, whose action never changes in the data, stays as it is, however little was learned
    assert by_name[7] == pytest.approx(0.08, abs=1e-6) and by_name.shape == (8,)


def test_names_positions_episodes_and_masks_choose(tmp_path, capsys):
    words = ("--data", arm(), "--observe", "joints,goal", "--actions", "0:7", "--hold-out", "0")
    assert train(*words, "--filter", "valid", "--out", "a") == 0
    assert "2 of 6; 2 to train on, 0 held out" in (said := capsys.readouterr().err)
    assert "left out  gripper, which --observe does not name" in said
    told = config(tmp_path / "a")
    assert [part["key"] for part in told["parts"]] == ["joints", "goal"] and told["actions"] == 7
    assert train(*words, "--episodes", "0:2,-1", "--out", "b") == 0
    assert config(tmp_path / "b")["demonstrations"] == 3
    assert train(*words, "--episodes", ":2", "--filter", "valid", "--out", "c") == 0
    assert config(tmp_path / "c")["demonstrations"] == 1


def test_names_of_actions_are_those_of_the_data(tmp_path, capsys):
    rng = np.random.default_rng(0)
    names = ["joints_0", "joints_1", "joints_10", "gripper"]
    rows = {"state": rng.random((40, 3)), "action": rng.random((40, 4)), "episode_ends": np.array([20, 40])}
    np.savez("named.npz", **rows, action_names=np.array(names), hz=np.array(10.0), reward=np.zeros(40))
    words = ("--data", "named.npz", "--hold-out", "0")
    assert train(*words, "--actions", "gripper,joints", "--out", "a") == 0
    assert "reward, which is no observation, unless --observe names it" in capsys.readouterr().err
    assert config(tmp_path / "a")["action_names"] == ["gripper", "joints_0", "joints_1", "joints_10"]
    assert train(*words, "--actions", "joints_1", "--out", "b") == 0
    assert config(tmp_path / "b")["action_names"] == ["joints_1"] and config(tmp_path / "b")["hz"] == 10.0
    assert train(*words, "--actions", "wrist", "--out", "c") == 2
    assert "no action 'wrist'; there are joints_0, joints_1, joints_10, gripper" in capsys.readouterr().err


def test_short_episodes_are_counted_as_left_out(capsys):
    rng, lengths = np.random.default_rng(0), [5] * 3 + [30] * 2
    rows = {"state": rng.random((75, 3)), "action": rng.random((75, 2)), "episode_ends": np.cumsum(lengths)}
    np.savez("short.npz", **rows)
    assert train("--data", "short.npz", "--hold-out", "0", "--out", "run") == 0
    assert "5 to train on, of which 3 are too short for a window" in capsys.readouterr().err


def test_cameras_of_several_sizes_and_depth(tmp_path, capsys):
    """Colours become bytes of the asked height; depth keeps its metres, which its limits in the weights map."""
    words = ("--data", arm(pictures=True), "--image-keypoints", "4", "--hold-out", "0", "--out", "run")
    assert train(*words, "--observe", "joints,wrist,depth", "--resize", "40", "--crop", "36") == 0
    said = capsys.readouterr().err
    assert "wrist: 48 x 64 x 3 bytes, resized to 40 x 53, crops of 36 x 48" in said
    assert "depth: 40 x 40 x 1 numbers, 0.6" in said
    parts = config(tmp_path / "run")["parts"]
    assert [part["shape"] for part in parts] == [[7], [3, 40, 53], [1, 40, 40]]
    policy = unveil.load("run", "cpu", sampling_steps=2)
    colours, depth = policy.model.pictured
    assert (float(colours.low[0]), float(colours.high[2])) == (0.0, 255.0)
    assert 0.6 <= float(depth.low[0]) < 0.61 and 1.59 < float(depth.high[0]) <= 1.6
    rng = np.random.default_rng(1)
    wrist = rng.integers(0, 256, (96, 128, 3)).astype(np.uint8)
    seen = {"joints": np.zeros(7), "wrist": wrist, "depth": np.full((80, 80), 1.0)}
    noise = rng.normal(size=(1, 16, 8))
    acted = policy.act(seen, noise=noise)
    assert acted.shape == (8,)
    policy.reset()
    batch = {"joints": np.zeros((1, 7)), "wrist": wrist[None].transpose(0, 3, 1, 2) / 255.0}
    other = policy.act(batch | {"depth": np.full((1, 40, 40, 1), 1.0)}, noise=noise)
    np.testing.assert_allclose(other[0], acted, atol=1e-3)  # channels first and floats, of the same picture


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "--data is needed"),
        ("--data arm.hdf5 --observe joints,front", "no observation 'front'; there are depth, goal, gripper"),
        ("--data arm.hdf5 --observe said", "no observation 'said' that can be read: it is not an array"),
        (
            "--data arm.hdf5 --actions gripper",
            "its 8 actions have no names; choose them by position, such as --actions 0:8",
        ),
        ("--data arm.hdf5 --actions 0:9", "actions 0:9: there are 8, from 0 to 7"),
        ("--data arm.hdf5 --episodes 0:50", "episodes 0:50: there are 6, from 0 to 5"),
        ("--data arm.hdf5 --episodes first", "such as 0:50 or 0:50,60; got 'first'"),
        ("--data arm.hdf5 --filter test", "no subset 'test' of the episodes; there are valid"),
        ("--data arm.hdf5 --filter valid --episodes 0", "--filter and --episodes leave no episode of 6"),
        ("--data arm.hdf5 --observe wrist --resize 20", "become 20 x 27 pixels, but at least 33"),
        (
            "--data arm.hdf5 --observe wrist --crop 50",
            "--crop 50: 50 x 67 is larger than the pictures of 'wrist', 48 x 64",
        ),
        ("--data arm.hdf5 --observe wrist --crop small", "--crop is a height in pixels, or HEIGHTxWIDTH"),
        ("--data arm.hdf5 --observe joints,joints", "a name stands twice"),
        ("--data arm.hdf5 --observe wrist --condition inpainting", "--condition must be film or inpainting"),
        ("--world lab", "unknown world 'lab'; worlds: pusht"),
    ],
)
def test_what_does_not_fit_is_one_line_and_leaves_no_run(words, said, tmp_path, capsys):
    arm(pictures=True)
    assert train(*words.split(), "--out", "run") == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("unveil: ") and said in last
    assert not (tmp_path / "run").exists()


def test_a_student_and_a_transformer_and_known_rows(tmp_path):
    words = ("--data", arm(), "--observe", "joints,goal")
    assert train(*words, "--condition", "inpainting", "--out", "a") == 0
    assert (
        train(
            *words, "--network", "transformer", "--width", "16", "--depth", "1", "--heads", "2", "--out", "b"
        )
        == 0
    )
    assert train(*words, "--distill", "b", "--out", "c") == 0
    assert unveil.load("c", "cpu").act(np.zeros(14)).shape == (8,)


def test_a_world_is_another_spelling(tmp_path, capsys):
    from pusht_recorded import TWO

    words = ["--data", str(TWO), *QUICK]
    assert main(["train", "policy", "--world", "pusht", *words, "--out", "a"]) == 0
    assert "next: unveil eval pusht --checkpoint a" in capsys.readouterr().out
    assert main(["train", "pusht", *words, "--out", "b"]) == 0
    (one, two) = (config(tmp_path / name) for name in "ab")
    assert one | {"out": ""} == two | {"out": ""} and one["recipe"] == "pusht"
    ema = [(tmp_path / name / "checkpoint-2" / "ema.safetensors").read_bytes() for name in "ab"]
    assert ema[0] == ema[1]
    flags = shlex.split("--episodes 1 --max-steps 2 --decisions 1 --sampling-steps 1")
    assert main(["eval", "policy", "--world=pusht", "--checkpoint", "a", *flags]) == 0


def test_inspect_says_what_is_there_and_the_next_command_trains(capsys):
    arm(pictures=True)
    assert main(["data", "inspect", "arm.hdf5", "--json", "i.json"]) == 0
    said = capsys.readouterr().out
    for part in (
        "episodes  6, of 24 to 24 steps",
        "steps     144 at 20 Hz",
        "action    7: 0.08 .. 0.08",
        "observed  joints (7,): -0.9",
        "camera    depth 40 x 40 x 1, numbers, 0.6",
        "camera    wrist 48 x 64 x 3, bytes; if --observe names it",
        "left out  said, which is not an array of numbers",
        "subset    --filter valid: 2 episodes",
    ):
        assert part in said, part
    with open("i.json") as file:
        assert json.load(file)["cameras"] == {"depth": [40, 40, 1], "wrist": [48, 64, 3]}
    *_, following = said.splitlines()
    command = shlex.split(following.removeprefix("next: unveil "))
    assert command[:2] == ["train", "policy"] and "--observe" in command
    small = ["--resize", "36", "--image-keypoints", "4", "--out", "run"]
    assert main([*command, *QUICK, *small]) == 0
    for words, text in (([], "a path is needed"), (["nothing.hdf5"], "no such file")):
        assert main(["data", "inspect", *words]) == 2
        assert text in capsys.readouterr().err
