"""`unveil weights inspect` and `convert`, and loading: what is written is a run of ours, and every mistake is
one line."""

import json
import shutil

import numpy as np
import pytest
import torch

from originals import ATTENTION, DATASET, PLAIN, VALUE, config_like, golden, load_original, rewrite, unpacked
from tolerance import golden_close
from unveil.cli import main
from unveil.errors import UnveilError
from unveil.files.safetensors import read_tensors
from unveil.loading import load
from unveil.planning.trajectory_model import TrajectoryModel, TrajectoryShape, ValueModel
from unveil.planning.weights.diffuser_folder import is_original
from unveil.training.checkpoint import latest_checkpoint, verify_checkpoint


@pytest.fixture
def logs(tmp_path):
    return unpacked(tmp_path / "logs")


def fails(capsys, *arguments) -> str:
    assert main([str(a) for a in arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_inspect_says_what_everything_is(logs, capsys):
    assert main(["weights", "inspect", str(logs)]) == 0
    shown = capsys.readouterr().out
    for experiment in (PLAIN, ATTENTION, VALUE):
        assert str(logs / DATASET / experiment) in shown
    for text in (
        "TemporalUnet, 16,301 parameters",
        "ValueFunction, 30,073 parameters",
        "2 actions, 3 observations, horizon 8",
        "20 steps, cosine, predicts x0",
        "discount 0.997, termination penalty -100",
        "width 8, multiples (1, 1), attention yes",
        "200 (read: 200, at step 200,007)",
        "GaussianNormalizer; its statistics are in the data set, not here",
        "raw and averaged (EMA)",
    ):
        assert text in shown


def test_convert_writes_runs_of_ours_in_the_same_places(logs, tmp_path, capsys):
    out = tmp_path / "ours"
    assert main(["weights", "convert", str(logs), str(out)]) == 0
    assert capsys.readouterr().out.count("normalised units only") == 3
    wanted = golden("networks")
    for experiment, key in ((PLAIN, "plain"), (ATTENTION, "attention"), (VALUE, "value")):
        run = out / DATASET / experiment
        config = json.loads((run / "config.json").read_text())
        assert config["recipe"] == ("value" if key == "value" else "locomotion")
        assert (
            config["origin"] == "jannerm/diffuser"
            and config["dataset"] == DATASET
            and config["normalizer"] == "gaussian"
        )
        assert config["normalized"] is False and config["attention"] is (key == "attention")
        assert config.get("discount") == (0.997 if key == "value" else None)
        names = ("horizon", "diffusion_steps", "actions", "observations", "width", "attention", "predicts")
        shape = TrajectoryShape(
            **{name: config[name] for name in names}, multiples=tuple(config["multiples"])
        )
        checkpoint = latest_checkpoint(run)
        assert checkpoint == run / "checkpoint-200"
        verify_checkpoint(checkpoint)
        state = json.loads((checkpoint / "state.json").read_text())
        assert state == {"step": 200_007, "epoch": 200, "weights": "ema", "origin": "jannerm/diffuser"}
        for file, name in (("ema", "out"), ("network", "raw_out")):
            model = ValueModel(shape) if key == "value" else TrajectoryModel(shape)
            model.load_state_dict(read_tensors(checkpoint / f"{file}.safetensors", model.state_dict()))
            t = (wanted[f"{key}_t"].double() + 1) / 20
            got = (
                model(wanted[f"{key}_x"], t)[:, None]
                if key == "value"
                else model.denoiser(wanted[f"{key}_x"], t).mean
            )
            golden_close(got, wanted[f"{key}_{name}"])
            assert model.normalization.low.tolist() == [-1.0] * 5


def test_raw_weights_are_taken_on_request(logs, tmp_path):
    assert (
        main(
            [
                "weights",
                "convert",
                str(logs / DATASET / PLAIN),
                str(tmp_path / "raw"),
                "--raw",
                "--epoch",
                "200",
            ]
        )
        == 0
    )
    folder = tmp_path / "raw" / "checkpoint-200"
    network, ema = read_tensors(folder / "network.safetensors"), read_tensors(folder / "ema.safetensors")
    assert all(torch.equal(network[name], ema[name]) for name in network)
    raw, averaged = load_original(logs / DATASET / PLAIN, ema=False), load_original(logs / DATASET / PLAIN)
    assert torch.equal(
        raw.state_dict()["denoiser.network.final.1.bias"], ema["denoiser.network.final.1.bias"]
    )
    assert not torch.equal(
        averaged.state_dict()["denoiser.network.final.1.bias"], ema["denoiser.network.final.1.bias"]
    )
    assert json.loads((folder / "state.json").read_text())["weights"] == "raw"


def recorded(path, actions: int = 2, observations: int = 3) -> np.ndarray:
    """A set of 50 steps, of which the last 5 have no end; returns the others' rows."""
    from unveil.planning.data.d4rl import write_d4rl
    from unveil.planning.data.episodes import Episodes

    rng = np.random.default_rng(0)
    act = rng.normal(2.0, 3.0, (50, actions)).astype(np.float32)
    seen = rng.normal(-1.0, 0.5, (50, observations)).astype(np.float32)
    seen[45:] = 1e4
    ends = np.zeros((2, 50), dtype=bool)
    ends[0, 20] = ends[1, 44] = True
    write_d4rl(path, Episodes(seen, act, rng.normal(size=50).astype(np.float32), *ends))
    return np.concatenate([act, seen], axis=1)[:45]


def test_the_data_set_gives_the_statistics_of_its_finished_episodes(logs, tmp_path):
    rows = recorded(tmp_path / "data.hdf5")
    out = tmp_path / "ours"
    arguments = [
        "weights",
        "convert",
        str(logs / DATASET / PLAIN),
        str(out),
        "--dataset",
        str(tmp_path / "data.hdf5"),
    ]
    assert main(arguments) == 0
    assert json.loads((out / "config.json").read_text())["normalized"] is True
    for file in ("ema", "network"):
        found = read_tensors(out / "checkpoint-200" / f"{file}.safetensors")
        low, high = found["normalization.low"].numpy(), found["normalization.high"].numpy()
        np.testing.assert_allclose((low + high) / 2, rows.mean(0), atol=1e-5)
        np.testing.assert_allclose((high - low) / 2, rows.std(0), atol=1e-5)
    config = config_like(
        "datasets.sequence.SequenceDataset", {"env": "x", "normalizer": "LimitsNormalizer", "horizon": 8}
    )
    (logs / DATASET / PLAIN / "dataset_config.pkl").write_bytes(config)
    model = load_original(logs / DATASET / PLAIN, dataset=str(tmp_path / "data.hdf5"))
    np.testing.assert_allclose(model.normalization.low.numpy(), rows.min(0))
    np.testing.assert_allclose(model.normalization.high.numpy(), rows.max(0))


def test_a_foreign_data_set_is_refused(logs, tmp_path, capsys):
    recorded(tmp_path / "data.hdf5", observations=4)
    line = fails(
        capsys,
        "weights",
        "convert",
        logs / DATASET / PLAIN,
        tmp_path / "out",
        "--dataset",
        tmp_path / "data.hdf5",
    )
    assert "2 actions and 4 observations, the checkpoint 2 and 3" in line
    assert not (tmp_path / "out").exists()


def test_loading_takes_one_experiment(logs, tmp_path):
    assert isinstance(load_original(logs / DATASET / VALUE), ValueModel)
    assert isinstance(load_original(logs / DATASET / "values"), ValueModel)
    with pytest.raises(UnveilError, match="holds 3 experiments; give one: hopper"):
        load_original(logs)
    assert is_original(logs) and is_original(logs / DATASET / PLAIN) and not is_original(tmp_path / "nowhere")


def test_mistakes_get_one_line(logs, tmp_path, capsys):
    plain, out = logs / DATASET / PLAIN, tmp_path / "out"
    assert "nowhere: no such folder" in fails(capsys, "weights", "inspect", tmp_path / "nowhere")
    for name, kind in (
        ("edm.pkl", "a file of no known kind"),
        ("model.safetensors", "a file of a checkpoint, whose folder"),
        ("model_config.pkl", "a config of jannerm/diffuser; give the folder"),
    ):
        (tmp_path / name).write_bytes(b"x")
        for command in (("inspect", tmp_path / name), ("convert", tmp_path / name, out)):
            said = fails(capsys, "weights", *command)
            assert kind in said and "no such" not in said
        with pytest.raises(UnveilError, match="is a file, but a checkpoint is a folder"):
            load(tmp_path / name)
    (tmp_path / "empty").mkdir()
    assert "no state_<epoch>.pt here or below" in fails(capsys, "weights", "inspect", tmp_path / "empty")
    assert "no epoch '7'; there are 200, or latest" in fails(
        capsys, "weights", "convert", plain, out, "--epoch", "7"
    )
    assert "did you mean --epoch?" in fails(capsys, "weights", "convert", plain, out, "--epok", "7")
    assert "unexpected word extra" in fails(capsys, "weights", "inspect", plain, "extra")
    assert "did you mean convert?" in fails(capsys, "weights", "convrt", plain, out)
    assert "weights convert --help" in fails(capsys, "weights", "convert", plain)
    assert not out.exists()
    out.mkdir()
    (out / "config.json").write_text("{}")
    assert "something else is there" in fails(capsys, "weights", "convert", plain, out)
    rewrite(plain, lambda state: {"step": 3, "model": state["model"]})
    assert "holds no averaged weights (ema); use the raw ones: --raw" in fails(
        capsys, "weights", "convert", plain, tmp_path / "new"
    )
    assert main(["weights", "convert", str(plain), str(tmp_path / "new"), "--raw"]) == 0
    config = config_like("datasets.sequence.SequenceDataset", {"normalizer": "CDFNormalizer"})
    (plain / "dataset_config.pkl").write_bytes(config)
    assert "normaliser CDFNormalizer of the original is not supported" in fails(
        capsys, "weights", "convert", plain, out, "--raw"
    )


def test_a_second_epoch_goes_beside_the_first(logs, tmp_path):
    plain, out = logs / DATASET / PLAIN, tmp_path / "out"
    (plain / "state_90.pt").write_bytes((plain / "state_200.pt").read_bytes())
    for epoch in ("90", "latest", "latest"):
        assert main(["weights", "convert", str(plain), str(out), "--epoch", epoch]) == 0
    assert sorted(p.name for p in out.iterdir()) == ["checkpoint-200", "checkpoint-90", "config.json"]


def test_unveil_load_plans_with_the_originals_folder(logs, tmp_path):
    """As published, value and all, in normalised units; in the data's once the data set is given."""
    folder = logs / DATASET
    for extra in folder.glob("diffusion/attention*"):
        shutil.rmtree(extra)
    planner = load(folder, "cpu", batch_size=3)
    assert planner.settings.steps == 20 and planner.score is not None
    first = np.array([0.3, -0.2, 0.1])
    plans = planner.plan(first, normalized=True)
    assert plans.shape == (3, 8, 5)
    np.testing.assert_allclose(plans[:, 0, 2:], np.tile(first, (3, 1)), atol=1e-6)
    with pytest.raises(UnveilError, match="dataset=NAME"):
        planner.act(first[None])
    file = tmp_path / "recorded.hdf5"
    rows = recorded(file)
    planner = load(folder, "cpu", batch_size=3, dataset=str(file))
    observation = rows[:, 2:].mean(0) + 0.1
    np.testing.assert_allclose(planner.plan(observation)[:, 0, 2:], np.tile(observation, (3, 1)), atol=1e-5)
    assert np.abs(planner.act(observation[None])).max() <= 1.0


def test_a_folder_with_several_diffusions_is_refused(logs):
    with pytest.raises(UnveilError, match="holds 2 diffusions and 1 values"):
        load(logs / DATASET)
