"""`--from` on trainings: the network and statistics of a checkpoint, a lower rate, and what is not trained."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import unveil
from foreign_policies import lerobot
from pusht_recorded import TINY, recorded
from unveil.cli import main
from unveil.commands.parsing import configured
from unveil.files.safetensors import read_tensors
from unveil.policy.data.demonstrations import Demonstrations, write_demonstrations
from unveil.policy.training import PolicyBatch, policy_loss
from unveil.verbs import RECIPES

FEW = ["--steps", "2", "--save-every", "2", "--batch-size", "4", "--device", "cpu", "--threads", "1"]


def newest(run: Path) -> dict[str, torch.Tensor]:
    return read_tensors(next(run.glob("checkpoint-*")) / "network.safetensors")


def described(run: Path) -> dict:
    return json.loads((run / "config.json").read_text())


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    run = tmp_path_factory.mktemp("from") / "run"
    assert main(["train", "pusht", *TINY, *FEW, "--out", str(run)]) == 0
    return run


@pytest.mark.parametrize("name", sorted(RECIPES["train"]))
def test_every_training_has_it_and_then_a_lower_rate(name):
    verb = RECIPES["train"][name]
    usual, tuned = (configured(verb, words, name).run for words in ([], ["--from", "runs/x"]))
    assert tuned.source == "runs/x" and tuned.statistics == "kept"
    assert tuned.learning_rate == pytest.approx(0.1 * usual.learning_rate) and tuned.warmup <= 100
    given = configured(verb, ["--from", "runs/x", "--learning-rate", "3e-4"], name).run
    assert given.learning_rate == 3e-4


def shifted(folder: Path) -> Path:
    """Demonstrations whose positions and actions lie elsewhere than those of `TINY`."""
    source = Path(TINY[TINY.index("--data") + 1])
    arrays = dict(np.load(source))
    for name in ("action", "actions"):
        if name in arrays:
            arrays[name] = arrays[name] * 0.5 + 20.0
    np.savez(folder / "shifted.npz", **arrays)
    return folder / "shifted.npz"


def test_a_policy_goes_on_with_the_network_and_the_statistics_of_the_checkpoint(policy, tmp_path, capsys):
    """At a rate of nearly 0 the weights are those of the checkpoint; limits are kept, or learned anew."""
    data, before = shifted(tmp_path), read_tensors(next(policy.glob("checkpoint-*")) / "ema.safetensors")
    words = ["train", "pusht", "--data", str(data), *FEW, "--from", str(policy), "--learning-rate", "1e-12"]
    assert main([*words, "--out", str(tmp_path / "kept")]) == 0
    said = capsys.readouterr().err
    assert f"the network is that of {policy}: " in said and "widths 8 16" in said
    assert f"the statistics that normalise the data are those of {policy}" in said
    kept = newest(tmp_path / "kept")
    for name, value in before.items():
        torch.testing.assert_close(kept[name], value, rtol=0.0, atol=1e-6)
    has, own = described(policy), described(tmp_path / "kept")
    assert own["source"] == str(policy.resolve()) and own["widths"] == has["widths"] != [64, 128, 224]
    assert main([*words, "--statistics", "learned", "--out", str(tmp_path / "learned")]) == 0
    assert "the statistics that normalise the data are learned from these data" in capsys.readouterr().err
    learned = newest(tmp_path / "learned")
    assert not torch.allclose(learned["acted.high"], before["acted.high"])
    torch.testing.assert_close(
        learned["acted.high"], torch.from_numpy(np.load(data)["action"].max(0)).float(), rtol=1e-4, atol=1e-3
    )
    weight = "denoiser.network.final.1.weight"
    torch.testing.assert_close(learned[weight], before[weight], rtol=0.0, atol=1e-6)
    unveil.load(tmp_path / "kept", device="cpu").act(np.full((1, 20), 200.0))


def test_a_packaged_policy_is_fine_tuned_and_resumed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["train", "pusht", *TINY, "--from", "pusht-keypoints", "--batch-size", "2", "--device", "cpu"]
    assert main([*words, "--steps", "1", "--save-every", "1", "--out", "tuned"]) == 0
    assert described(tmp_path / "tuned")["source"] == "pusht-keypoints"
    assert main([*words, "--steps", "2", "--save-every", "1", "--out", "tuned", "--resume"]) == 0
    assert main(["train", "pusht", *TINY, *FEW, "--freeze", "encoder", "--out", "other"]) == 2
    assert "give --from" in capsys.readouterr().err
    both = ["--from", "pusht-keypoints", "--start-from", "pusht-keypoints"]
    assert main(["train", "pusht", *TINY, *FEW, *both, "--out", "other"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "--from and --start-from both name the initial weights" in error
    frozen = ["--from", "pusht-keypoints", "--freeze", "encoder", "--out", "other"]
    assert main(["train", "pusht", *TINY, *FEW, *frozen]) == 2
    assert "has no encoder" in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.glob("other/checkpoint-*"))


def test_what_was_loaded_in_python_is_trained_and_acts(policy):
    """Training `unveil.load(...).model` changes the actions, for one environment and for many."""
    loaded = unveil.load(policy, device="cpu")
    seen = np.random.default_rng(0).uniform(50, 400, (20, 20))
    noise = np.random.default_rng(0).normal(size=(20, 16, 2)).astype(np.float32)
    history = np.repeat(seen[:, None], 2, axis=1).astype(np.float32)

    def chunks() -> tuple[np.ndarray, np.ndarray]:
        many = loaded.predict(history, noise=noise)
        return many, loaded.predict(history[:1], noise=noise[:1])

    many, one = chunks()
    np.testing.assert_allclose(many[:1], one, rtol=0, atol=1e-3)
    model = loaded.model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batch = PolicyBatch(
        torch.from_numpy(history),
        torch.full((20, 16, 2), 300.0),
        torch.full((20,), 0.5, dtype=torch.float64),
        torch.from_numpy(noise),
        0,
        torch.zeros(20, dtype=torch.int64),
    )
    model.train()
    policy_loss(model, batch)[0].backward()
    optimizer.step()
    model.eval()
    after, first = chunks()
    assert np.abs(after - many).max() > 0.1
    np.testing.assert_allclose(after[:1], first, rtol=0, atol=1e-3)
    plain = model.denoiser.network.plain
    stored = torch.cat([p.detach().flatten() for p in plain.parameters()])
    assert torch.equal(stored, torch.cat([p.detach().flatten() for p in model.denoiser.network.parameters()]))


@pytest.mark.parametrize("statistics", ["kept", "learned"])
def test_a_converted_policy_of_pictures_with_its_encoder_frozen(statistics, tmp_path, capsys):
    """LeRobot's, on demonstrations with pictures: the encoder stays, the network moves, limits as they are asked."""
    chosen, run, tuned = recorded(), tmp_path / "run", tmp_path / "tuned"
    pictures = np.random.default_rng(0).integers(0, 255, (len(chosen), 96, 96, 3), dtype=np.uint8)
    states = {"state": chosen.observed("state"), "img": pictures}
    data = tmp_path / "pictures.npz"
    write_demonstrations(data, Demonstrations(states, chosen.actions, chosen.episode_ends))
    assert main(["weights", "convert", str(lerobot(tmp_path / "theirs", "lerobot_image")), str(run)]) == 0
    words = ["train", "pusht", "--data", str(data), *FEW, "--from", str(run), "--freeze", "encoder"]
    words += ["--learning-rate", "1e-2", "--statistics", statistics, "--out", str(tuned)]
    assert main(words) == 0, capsys.readouterr().err
    before, after = read_tensors(next(run.glob("checkpoint-*")) / "ema.safetensors"), newest(tuned)
    assert all(torch.equal(after[n], before[n]) for n in before if n.startswith("encoder."))
    assert not torch.equal(
        after["denoiser.network.final.1.weight"], before["denoiser.network.final.1.weight"]
    )
    same = statistics == "kept"
    for name in ("acted.low", "observed.high", "pictured.0.low"):
        assert torch.equal(after[name], before[name]) == same, name
    if not same:
        assert (after["pictured.0.low"].tolist(), after["pictured.0.high"].tolist()) == (
            [0.0] * 3,
            [255.0] * 3,
        )
    seen = np.concatenate([states["state"][0, :2], pictures[0].transpose(2, 0, 1).ravel()])[None]
    assert unveil.load(tuned, "cpu", sampling_steps=1).act(seen).shape == (1, 2)


@pytest.fixture
def behaviour(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "observations": rng.normal(size=(60, 11)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (60, 3)).astype(np.float32),
        "rewards": rng.normal(size=60).astype(np.float32),
        "terminals": np.zeros(60, bool),
        "timeouts": np.arange(60) % 20 == 19,
    }
    np.savez(tmp_path / "behaviour.npz", **arrays)
    return tmp_path / "behaviour.npz"


def test_planners_of_trajectories_take_shapes_and_statistics(behaviour, tmp_path, capsys):
    """Width, depth and horizon come from the checkpoint, as do the returns' statistics of a value."""
    small = ["--width", "16", "--depth", "1", "--heads", "2", "--horizon", "8"]
    data = ["--dataset", str(behaviour), "--hold-out", "0", *FEW]
    for recipe in ("locomotion", "value"):
        run, tuned = tmp_path / recipe, tmp_path / f"{recipe}-tuned"
        assert main(["train", recipe, *data, *small, "--out", str(run)]) == 0
        begun = ["--from", str(run), "--learning-rate", "1e-12", "--out", str(tuned)]
        assert main(["train", recipe, *data, *begun]) == 0
        before = read_tensors(next(run.glob("checkpoint-*")) / "ema.safetensors")
        after = newest(tuned)
        for name, value in before.items():
            torch.testing.assert_close(after[name], value, rtol=0.0, atol=1e-6)
        assert (described(tuned)["width"], described(tuned)["horizon"]) == (16, 8)
        assert "the statistics that normalise the data are those of" in capsys.readouterr().err


def test_planners_of_any_environment_take_their_two_parts(behaviour, tmp_path):
    words = ["train", "planner", "--data", str(behaviour), "--hold-out", "0", *FEW]
    small = ["--width", "16", "--depth", "1", "--heads", "2", "--horizon", "8"]
    run, tuned = tmp_path / "planner", tmp_path / "tuned"
    assert main([*words, *small, "--out", str(run)]) == 0
    begun = ["--from", str(run), "--learning-rate", "1e-12", "--out", str(tuned)]
    assert main([*words, *begun]) == 0
    for part in ("diffusion", "value"):
        before = read_tensors(next((run / part).glob("checkpoint-*")) / "ema.safetensors")
        after = newest(tuned / part)
        for name, value in before.items():
            torch.testing.assert_close(after[name], value, rtol=0.0, atol=1e-6)
        assert described(tuned / part)["width"] == 16


def test_planners_of_block_stacking_and_policies_of_any_robot(tmp_path, capsys):
    data = tmp_path / "stacking.hdf5"
    assert main(["data", "stacking", "--episodes", "1", "--out", str(data)]) == 0
    rng = np.random.default_rng(0)
    own = {"state": rng.normal(size=(60, 5)), "action": rng.normal(size=(60, 3)), "episode_ends": [30, 60]}
    np.savez(tmp_path / "arm.npz", **own)
    for words, size in (
        (["train", "stacking", "--data", str(data)], ["--width", "16", "--depth", "1", "--heads", "2"]),
        (["train", "policy", "--data", str(tmp_path / "arm.npz")], ["--widths", "8", "16"]),
    ):
        run, tuned = tmp_path / words[1], tmp_path / f"{words[1]}-tuned"
        assert main([*words, *FEW, *size, "--out", str(run)]) == 0
        begun = ["--from", str(run), "--learning-rate", "1e-12", "--out", str(tuned)]
        assert main([*words, *FEW, *begun]) == 0
        before = read_tensors(next(run.glob("checkpoint-*")) / "ema.safetensors")
        for name, value in before.items():
            torch.testing.assert_close(newest(tuned)[name], value, rtol=0.0, atol=1e-6)
        assert "the statistics that normalise the data are those of" in capsys.readouterr().err


def test_data_of_other_sizes_are_refused(behaviour, tmp_path, capsys):
    words = ["train", "locomotion", "--dataset", str(behaviour), "--hold-out", "0", *FEW]
    assert main([*words, "--from", "halfcheetah-medium-expert", "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "halfcheetah-medium-expert was trained on 17 observed numbers, but these data have 11" in error
    assert not list(tmp_path.glob("run/checkpoint-*"))


def test_a_text_model_by_either_name(tmp_path, capsys):
    (tmp_path / "book.txt").write_text("to be or not to be " * 60)
    data = ["--data", str(tmp_path / "book.txt"), *FEW]
    small = ["--width", "16", "--depth", "1", "--heads", "2", "--context", "16"]
    assert main(["train", "text", *data, *small, "--out", str(tmp_path / "a")]) == 0
    begun = ["--from", str(tmp_path / "a"), "--out", str(tmp_path / "b"), "--learning-rate", "1e-12"]
    assert main(["train", "text", *data, *begun]) == 0
    before = read_tensors(next((tmp_path / "a").glob("checkpoint-*")) / "ema.safetensors")
    after = newest(tmp_path / "b")
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=0.0, atol=1e-6)
    both = ["--checkpoint", "text-shakespeare", "--out", str(tmp_path / "c")]
    assert main(["train", "text", *data, "--from", str(tmp_path / "a"), *both]) == 2
    assert "--from and --checkpoint both name" in capsys.readouterr().err


def test_images_begin_with_a_model_and_freeze_its_text_encoder(tmp_path, capsys):
    """The packaged text-to-image model on four pictures: its encoder's numbers stay, the U-Net's move."""
    from unveil.files.pictures import write_png

    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(4):
        write_png(folder / f"{i}.png", rng.integers(0, 255, (32, 32, 3), dtype=np.uint8))
        (folder / f"{i}.txt").write_text("a red circle")
    words = ["train", "image", "--data", str(folder), "--captions", "txt", *FEW, "--sample-every", "-1"]
    words += ["--learning-rate", "1e-2"]
    begun = ["--from", "shapes-text", "--freeze", "encoder"]
    assert main([*words, *begun, "--out", str(tmp_path / "run")]) == 0, capsys.readouterr().err
    own = unveil.load("shapes-text", device="cpu").state_dict()
    after = newest(tmp_path / "run")
    moved = {name: not torch.equal(after[name], own[name].float()) for name in after}
    text = [name for name in after if name.startswith("text.")]
    assert text and not any(moved[name] for name in text)
    assert moved["denoiser.network.leave.weight"]
    assert main([*words, "--freeze", "encoder", "--out", str(tmp_path / "other")]) == 2
    assert "give --from" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("recipe", "instead"), [("lora", "give that as --base"), ("inversion", "give that as --base")]
)
def test_trainings_that_begin_with_a_model_in_another_way_say_so(recipe, instead, tmp_path, capsys):
    assert main(["train", recipe, "--from", "shapes-text", "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and instead in error
