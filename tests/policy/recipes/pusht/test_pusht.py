"""data, train, eval and sample of PushT on two demonstrations, and what is refused in one line."""

import json
import runpy
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import imageio.v3 as iio
import imageio_ffmpeg
import numpy as np
import pytest
import torch

import unveil
from pusht_recorded import QUICK, TINY, TWO, recorded
from replay_buffers import FORMATS, write_lerobot
from unveil.cli import main
from unveil.files.pictures import write_video
from unveil.files.safetensors import read_tensors
from unveil.policy.recipes.load import policy_model, policy_of
from unveil.policy.recipes.pusht.config import TRAIN_PRESETS
from unveil.policy.recipes.pusht.data import observations_of, pusht_demonstrations
from unveil.policy.settings import PolicySettings
from unveil.policy.worlds.pusht.block import keypoint_observation, vertices
from unveil.runs.flags import flat

ROOT = Path(__file__).resolve().parents[4]
PIXELS = shlex.split("--observation pixels --image-width 16 --image-keypoints 4 --crop 48")
ONE = shlex.split("--steps 1 --save-every 1 --batch-size 2")


def test_demonstrations_are_converted_with_a_card(tmp_path, capsys):
    out = tmp_path / "two.npz"
    assert (
        main(["data", "pusht", "--from", str(TWO), "--out", str(out), "--json", str(tmp_path / "card.json")])
        == 0
    )
    assert "2 episodes, 144 steps, 60 to 84 each" in capsys.readouterr().out
    card = json.loads((tmp_path / "two.card.json").read_text())
    assert card["observations"] == {"keypoint": [9, 2], "state": [5]} and card["metrics"]["n"] == 2
    assert json.loads((tmp_path / "card.json").read_text())["metrics"] == card["metrics"]
    stored, original = np.load(out), np.load(TWO)
    assert all(np.array_equal(stored[name], original[name]) for name in original)


def test_a_run_says_all_that_its_weights_need(run):
    config = json.loads((run / "config.json").read_text())
    assert (config["recipe"], config["observations"], config["actions"], config["windows"]) == (
        "pusht",
        20,
        2,
        84 - 7,
    )
    weights = read_tensors(run / "checkpoint-4" / "ema.safetensors", policy_model(config).state_dict())
    actions = np.load(TWO)["action"][60:]  # the shorter episode is held out
    torch.testing.assert_close(weights["acted.low"], torch.from_numpy(actions.min(0)))
    torch.testing.assert_close(weights["acted.high"], torch.from_numpy(actions.max(0)))


def test_short_episodes_are_said_and_pictures_of_any_scale_are_bytes(tmp_path, capsys):
    """One of 5 steps among three: config.json counts two; floats in [0, 1] are written as bytes, and depth in
    millimetres is no picture."""
    two = recorded()
    ends = np.concatenate([[5], two.episode_ends])
    unit = np.random.default_rng(0).random((len(two), 96, 96, 3)).astype(np.float32)
    arrays = {
        "state": two.observations["state"],
        "img": unit,
        "action": two.actions,
        "episode_ends": ends,
        "said": np.array(["a"] * len(two)),
    }
    np.savez(tmp_path / "d.npz", **arrays)
    assert main(["data", "pusht", "--from", str(tmp_path / "d.npz"), "--out", str(tmp_path / "o.npz")]) == 0
    assert "left out 'said', which holds <U1" in capsys.readouterr().err
    with np.load(tmp_path / "o.npz") as stored:
        np.testing.assert_array_equal(stored["img"], (255 * unit).round())
        assert stored["img"].dtype == np.uint8
    few = [*TINY, "--data", str(tmp_path / "o.npz"), "--observation", "state", "--hold-out", "0", *ONE]
    assert main(["train", "pusht", *few, "--out", str(tmp_path / "run")]) == 0
    assert "1 of 3 episodes have fewer than 8 steps" in capsys.readouterr().err
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["demonstrations"] == 2 and config["windows"] == 55 - 7 + 84 - 7
    np.savez(tmp_path / "n.npz", **arrays | {"img": 2 * unit - 1})
    assert main(["data", "pusht", "--from", str(tmp_path / "n.npz"), "--out", str(tmp_path / "p.npz")]) == 2
    assert "'img' has colours from -0.99" in capsys.readouterr().err
    blind = ["--from", str(tmp_path / "n.npz"), "--out", str(tmp_path / "p.npz"), "--no-pictures"]
    assert main(["data", "pusht", *blind]) == 0


def test_a_resumed_run_equals_one_that_was_not_stopped(run, tmp_path):
    """With the transformer's dropout, too."""
    for flags in (
        [],
        ["--network", "transformer", "--width", "16", "--depth", "1", "--heads", "2", "--dropout", "0.2"],
    ):
        folder, whole = tmp_path / f"resumed{len(flags)}", tmp_path / f"whole{len(flags)}"
        more = [*TINY, *flags, "--bfloat16", "False", "--warmup", "2", "--save-every", "2"]
        assert main(["train", "pusht", *more, "--steps", "4", "--out", str(whole), "--keep", "0"]) == 0
        assert main(["train", "pusht", *more, "--steps", "4", "--out", str(folder), "--keep", "0"]) == 0
        (folder / "checkpoint-4" / "manifest.json").unlink()
        assert (
            main(["train", "pusht", *more, "--steps", "4", "--out", str(folder), "--keep", "0", "--resume"])
            == 0
        )
        first, second = (
            read_tensors(place / "checkpoint-4" / "network.safetensors") for place in (folder, whole)
        )
        assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--solver", "ddpm"],
        ["--solver", "dpmpp", "--n-action", "4"],
        ["--preset", "paper"],
        ["--preset", "fast"],
    ],
)
def test_eval_writes_the_published_score(run, flags, tmp_path, capsys):
    out = tmp_path / "score.json"
    assert main(["eval", "pusht", "--checkpoint", str(run), *QUICK, *flags, "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    metrics = result["metrics"]
    assert metrics["score_mean"] == pytest.approx(np.mean(result["scores"])) and metrics["n"] == 2
    assert metrics["nfe"] == 2.0 and metrics["decision_ms_p50"] <= metrics["decision_ms_p95"]
    assert result["seeds"] == [100_000] and "starts as published from seed 100000 on" in result["protocol"]


@pytest.mark.parametrize("method", ["wait", "naive", "prefix", "soft", "hard"])
def test_eval_under_a_delay(run, method, tmp_path, capsys):
    out = tmp_path / "score.json"
    delay = ["--n-action", "3", "--delay", "2", "--asynchronous", method]
    flags = ["--checkpoint", str(run), *QUICK, *delay, "--json", str(out)]
    if method == "prefix":
        assert main(["eval", "pusht", *flags]) == 2
        assert "trained with prefixes of up to 0 actions, the delay is 2" in capsys.readouterr().err
        return
    assert main(["eval", "pusht", *flags, "--video", str(tmp_path / "v.gif")]) == 0
    result = json.loads(out.read_text())
    assert result["metrics"]["nfe"] == 2.0 and f"delay 2 steps ({method})" in result["protocol"]


def test_video_and_picture_show_the_chunks(run, tmp_path, capsys):
    video, picture = tmp_path / "v.gif", tmp_path / "c.png"
    assert main(["eval", "pusht", "--checkpoint", str(run), *QUICK, "--video", str(video)]) == 0
    assert iio.imread(video).shape[1:] == (224, 452, 3)
    sample = ["--candidates", "3", "--out", str(picture), "--json", "-"]
    assert main(["sample", "pusht", "--checkpoint", str(run), *sample]) == 0
    captured = capsys.readouterr()
    assert "3 chunks of 16 actions" in captured.err
    assert np.array(json.loads(captured.out[captured.out.index("{") :])["chunks"]).shape == (3, 16, 2)


def test_the_policy_loads_by_its_folder_and_acts(run):
    policy = unveil.load(run, "cpu", solver="ddim", sampling_steps=2)
    assert isinstance(policy, unveil.Policy)
    assert policy.act(np.full((3, 20), 256.0)).shape == (3, 2)


def test_a_keep_out_zone_is_measured_with_the_same_weights(run, capsys):
    results = runpy.run_path(str(ROOT / "examples" / "pusht_keep_out.py"))["main"](
        str(run), episodes=2, steps=10
    )
    assert set(results) == {"free", "steered"} and all(
        0 <= r["steps"] <= r["episodes"] <= 1 for r in results.values()
    )
    assert capsys.readouterr().out.count("in the zone") == 2


def test_other_observations_networks_and_predictions_run(tmp_path):
    transformer = ["--network", "transformer", "--width", "16", "--depth", "1", "--heads", "2"]
    for flags in (
        ["--observation", "state", *transformer, "--prefix", "2"],
        ["--prefix", "3", "--predicts", "flow", "--observation", "state"],
        ["--prefix", "2", "--condition", "inpainting"],
    ):
        folder = tmp_path / flags[-1]
        assert (
            main(["train", "pusht", *TINY, "--steps", "2", "--save-every", "2", "--out", str(folder), *flags])
            == 0
        )
        assert main(["eval", "pusht", "--checkpoint", str(folder), *QUICK]) == 0


def test_a_student_is_distilled_and_wants_its_own_solver(run, tmp_path, capsys):
    """Its shape and prefix are the teacher's; it says v."""
    folder = tmp_path / "student"
    distill = ["--distill", str(run), "--steps", "2", "--save-every", "2", "--out", str(folder)]
    assert main(["train", "pusht", *TINY, *distill]) == 0
    config = json.loads((folder / "config.json").read_text())
    assert (config["predicts"], config["widths"], config["horizon"]) == ("v", [8, 16], 16)
    eval_student = ["eval", "pusht", "--checkpoint", str(folder), *QUICK]
    out = tmp_path / "score.json"
    assert main([*eval_student, "--solver", "consistency", "--sampling-steps", "1", "--json", str(out)]) == 0
    assert json.loads(out.read_text())["metrics"]["nfe"] == 1.0
    assert len(unveil.load(folder, "cpu").times) == 3
    assert main(eval_student) == 0
    sample = ["--candidates", "2", "--out", str(tmp_path / "c.png")]
    assert main(["sample", "pusht", "--checkpoint", str(folder), *sample]) == 0
    eval_run = ["eval", "pusht", "--checkpoint", str(run), *QUICK]
    capsys.readouterr()
    for arguments, message in (
        ([*eval_student, "--solver", "ddim"], "a distilled student: give --solver consistency"),
        ([*eval_run, "--solver", "consistency"], "needs a distilled student"),
        (
            ["train", "pusht", *TINY, "--distill", str(folder), "--out", str(tmp_path / "grandchild")],
            "this is a student itself",
        ),
        (
            [*eval_student, "--sampling-steps", "4"],
            "--sampling-steps must be one of 1, 2, 3, 6 for this student",
        ),
        ([*eval_run, "--sampling-steps", "101"], "--sampling-steps must be at most"),
        ([*eval_run, "--temperature", "nan"], "--temperature must be a finite number of at least 0, got nan"),
        (
            [
                "train",
                "pusht",
                *TINY,
                "--distill",
                str(run),
                "--distill-steps",
                "101",
                "--out",
                str(tmp_path / "s"),
            ],
            "the teacher's",
        ),
        ([*eval_run, "--video", str(run / "config.json" / "v.gif")], "cannot write"),
        (
            ["demo", "pusht", "--checkpoint", str(run), "--out", str(run / "config.json" / "d")],
            "cannot write",
        ),
    ):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err


def seen():
    """Two demonstrations with pictures of flat squares, which compress."""
    two = recorded()
    shades = np.random.default_rng(0).integers(0, 256, (len(two), 8, 8, 3), dtype=np.uint8)
    return replace(two, observations={**two.observations, "img": shades.repeat(12, 1).repeat(12, 2)})


@pytest.mark.parametrize("kind", ["npz", "zarr2", "zarr3", "zip", "robomimic"])
def test_pixels_are_trained_on_and_acted_from(kind, tmp_path, capsys):
    """From every format; what is converted has the same bytes."""
    demonstrations = seen()
    path = str(FORMATS[kind](tmp_path, demonstrations))
    assert main(["data", "pusht", "--from", path, "--out", str(tmp_path / "converted.npz")]) == 0
    np.testing.assert_array_equal(
        np.load(tmp_path / "converted.npz")["img"], demonstrations.observations["img"]
    )
    assert main(["data", "pusht", "--from", path, "--no-pictures", "--out", str(tmp_path / "blind.npz")]) == 0
    assert "img" not in np.load(tmp_path / "blind.npz")
    folder = tmp_path / "run"
    assert (
        main(["train", "pusht", *TINY, "--data", path, *PIXELS, *ONE, "--prefix", "2", "--out", str(folder)])
        == 0
    )
    config = json.loads((folder / "config.json").read_text())
    assert config["observations"] == 2 + 3 * 96 * 96
    if kind == "npz":
        quick = shlex.split("--episodes 1 --max-steps 3 --decisions 1 --sampling-steps 1 --device cpu")
        delay = ["--delay", "2", "--asynchronous", "prefix"]
        assert main(["eval", "pusht", "--checkpoint", str(folder), *quick, *delay]) == 0
    capsys.readouterr()
    blind = ["--data", str(tmp_path / "blind.npz"), "--out", str(tmp_path / "no")]
    assert main(["train", "pusht", *TINY, *PIXELS, *ONE, *blind]) == 2
    assert "no pictures 'img' (N, 96, 96, 3), nor" in capsys.readouterr().err


def test_lerobots_layouts_serve_what_they_show(tmp_path, capsys):
    """The agent and pictures: pixels. The agent and the block's corners: keypoints, equal to those of the
    states."""
    whole = seen()
    state = whole.observations["state"]
    agent = {"state": state[:, :2]}
    corners = {"environment_state": vertices(state.astype(np.float64)).reshape(-1, 16).astype(np.float32)}
    eyes = {"image": whole.observations["img"]}
    for name, observations in (("eyes", agent | eyes), ("corners", agent | corners), ("agent", agent)):
        write_lerobot(tmp_path / name, replace(whole, observations=observations), "v3.0")
    read = observations_of(pusht_demonstrations(str(tmp_path / "corners"), "keypoints"), "keypoints")
    np.testing.assert_allclose(read, keypoint_observation(state.astype(np.float64)), atol=0.01)
    for name, flags, message in (
        ("eyes", PIXELS, ""),
        ("corners", [], ""),
        (
            "eyes",
            [],
            "the agent alone, without 'environment_state' (N, 16); with pictures it serves --observation pixels",
        ),
        ("agent", [], "the agent alone"),
        ("agent", PIXELS, "no videos/**/observation.image"),
    ):
        files = ["--data", str(tmp_path / name), "--out", str(tmp_path / f"{name}-run{len(message)}")]
        assert main(["train", "pusht", *TINY, *flags, *ONE, *files]) == (2 if message else 0)
        assert message in capsys.readouterr().err
    assert main(["data", "pusht", "--from", str(tmp_path / "eyes"), "--out", str(tmp_path / "eyes.npz")]) == 0
    assert (
        main(["data", "pusht", "--from", str(tmp_path / "agent"), "--out", str(tmp_path / "agent.npz")]) == 2
    )
    assert not (tmp_path / "agent.npz").exists()


def test_a_video_may_be_mp4_where_there_is_ffmpeg(tmp_path, capsys, monkeypatch):
    frames = np.zeros((5, 20, 34, 3), np.uint8)
    frames[:, :, 17:] = 40 * np.arange(5)[:, None, None, None]  # the right half brightens
    write_video(tmp_path / "v.mp4", list(frames), 100)
    flags = ["-v", "error", "-i", str(tmp_path / "v.mp4"), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), *flags]
    read = np.frombuffer(
        subprocess.run(command, check=True, capture_output=True, timeout=300).stdout, np.uint8
    ).reshape(5, 20, 34, 3)
    np.testing.assert_allclose(read[..., 4:13, 0].mean((1, 2)), 0, atol=8)
    np.testing.assert_allclose(read[..., 21:30, 0].mean((1, 2)), 40 * np.arange(5), atol=8)
    monkeypatch.setattr("unveil.files.pictures.find_spec", lambda name: None)
    assert main(["eval", "pusht", "--video", "v.mp4"]) == 2
    assert (
        "--video must end in .gif (.mp4 needs ffmpeg: pip install imageio[ffmpeg]), got v.mp4"
        in capsys.readouterr().err
    )


def test_euler_is_ddim_of_flow_matching_alone():
    def chunks(predicts, solver):
        described = flat(TRAIN_PRESETS["tiny"]) | {
            "predicts": predicts,
            "widths": (8, 16),
            "observations": 5,
            "actions": 2,
        }
        torch.manual_seed(0)
        policy = policy_of(policy_model(described), PolicySettings(solver=solver, sampling_steps=3))
        return policy.predict(np.zeros((1, 2, 5), np.float32))

    np.testing.assert_array_equal(chunks("flow", "euler"), chunks("flow", "ddim"))
    with pytest.raises(
        ValueError, match="solver=euler` is for policies of flow matching; this one predicts eps"
    ):
        chunks("eps", "euler")


def test_the_published_sizes():
    """256-512-1024 channels, 20 numbers of 2 observations: 65.5 M parameters. Chi et al. 2023, appendix, give
    66 M."""
    config = flat(TRAIN_PRESETS["paper"])
    with torch.device("meta"):
        model = policy_model(config | {"observations": 20, "actions": 2})
    count = sum(p.numel() for p in model.denoiser.network.parameters())
    assert count / 1e6 == pytest.approx(65.5, rel=0.02)


def test_the_default_fits_the_zoo():
    """Two bytes a number, at most 8 MiB, and a hundredth for names and places."""
    config = flat(TRAIN_PRESETS["default"])
    with torch.device("meta"):
        model = policy_model(config | {"observations": 20, "actions": 2})
    assert 2.02 * sum(p.numel() for p in model.parameters()) <= 8e6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "pusht", "--horizon", "8"], "horizon must be at least n_obs + n_action - 1 = 9"),
        (["train", "pusht", "--horizon", "18"], "cannot be halved 2 times"),
        (["train", "pusht", "--prefix", "15"], "--prefix must be 0 .. horizon - n_obs = 14"),
        (["train", "pusht", "--condition", "tokens"], "--condition must be film or inpainting for the cnn"),
        (["train", "pusht", "--widths", "12"], "multiples of 8"),
        (["train", "pusht", "--data", "nothing.npz"], "no such file or folder"),
        (["train", "pusht"], "unveil data pusht --from https://"),
        (["train", "pusht", "--network", "transformer", "--width", "30"], "twice --heads"),
        (["eval", "pusht", "--checkpoint", "nowhere"], "neither a folder nor a packaged model"),
        (["eval", "pusht", "--checkpoint", "maze-large"], "trained by recipe 'maze'"),
        (["eval", "pusht", "--async", "soft"], "did you mean --asynchronous?"),
        (["eval", "pusht", "--video", "v.avi"], "must end in .gif"),
        (["sample", "pusht", "--out", "c.gif"], "must end in .png"),
        (["data", "pusht", "--from", "nothing.zarr"], "no such file or folder"),
        (["data", "pusht", "--form", "x"], "did you mean"),
    ],
)
def test_refused_in_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("UNVEIL_HOME", str(tmp_path))
    monkeypatch.delenv("UNVEIL_DATA", raising=False)
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1


def test_wrong_data_is_refused_before_anything_is_written(tmp_path, capsys):
    stored = dict(np.load(TWO))
    np.savez(tmp_path / "three.npz", **stored | {"action": np.zeros((144, 3), np.float32)})
    np.savez(tmp_path / "four.npz", **stored | {"state": np.zeros((144, 4), np.float32)})
    np.savez(tmp_path / "ten.npz", **stored | {"keypoint": np.zeros((144, 10), np.float32)})
    for name, message in (
        ("three", "actions of PushT are x, y; these have 3"),
        ("four", "needs the observation 'state' (N, 5)"),
        ("ten", "'keypoint' must be nine points of the block"),
    ):
        assert (
            main(
                ["data", "pusht", "--from", str(tmp_path / f"{name}.npz"), "--out", str(tmp_path / "out.npz")]
            )
            == 2
        )
        assert (
            main(["train", "pusht", "--data", str(tmp_path / f"{name}.npz"), "--out", str(tmp_path / "run")])
            == 2
        )
        assert capsys.readouterr().err.count(message) == 2
    assert not (tmp_path / "out.npz").exists() and not (tmp_path / "run").exists()


def test_an_episodes_score_and_a_start_s_chunks_do_not_depend_on_how_many_there_are(run, tmp_path):
    """Nor on how many decisions are timed; up to the rounding of batched products, before contacts amplify
    it."""
    out = tmp_path / "s.json"
    few = [*QUICK[2:], "--solver", "ddpm", "--sampling-steps", "5", "--json", str(out)]
    scores = []
    for more in (
        ["--episodes", "3"],
        ["--episodes", "1"],
        ["--episodes", "1", "--decisions", "4"],
        ["--episodes", "1", "--seed", "100001"],
    ):
        assert main(["eval", "pusht", "--checkpoint", str(run), *few, *more]) == 0
        scores.append(json.loads(out.read_text())["coverage"])
    assert scores[1] == scores[2] and scores[0][:2] == pytest.approx([scores[1][0], scores[3][0]], abs=1e-5)
    chunks = []
    for count in ("4", "2"):
        flags = [
            "--candidates",
            count,
            "--out",
            str(tmp_path / "c.png"),
            "--json",
            str(out),
            "--device",
            "cpu",
        ]
        assert main(["sample", "pusht", "--checkpoint", str(run), *flags]) == 0
        chunks.append(np.array(json.loads(out.read_text())["chunks"]))
    np.testing.assert_allclose(chunks[1], chunks[0][:2], atol=0.02)  # two decimals
    assert np.abs(chunks[0][0] - chunks[0][1]).max() > 1


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--learning-rate", "nan"], "--learning-rate must be a finite number above 0"),
        (["--weight-decay", "nan"], "--weight-decay must be a finite number of at least 0, got nan"),
        (["--learning-rate", "inf"], "--learning-rate must"),
        (["--ema-decay", "1.5"], "--ema-decay must be a number of at least 0 and below 1, got 1.5"),
        (["--ema-decay", "nan"], "--ema-decay must"),
        (["--ema-power", "inf"], "--ema-power must be a finite number of at least 0, got inf"),
        (["--hold-out", "nan"], "--hold-out must be a number of at least 0 and below 1, got nan"),
        (["--warmup", "-1"], "--warmup must be a whole number of at least 0, got -1"),
        (["--seed", "-1"], "--seed must be a whole number of at least 0"),
        (["--start-from", "nowhere"], "is neither a folder nor a packaged model"),
    ],
)
def test_numbers_of_a_training_that_cannot_be_are_named(flags, said, tmp_path, capsys):
    assert main(["train", "pusht", *TINY, *flags, "--out", str(tmp_path / "run")]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "run").exists()
