"""The three commands on a tiny data set: train, train the value, plan; and what is refused in one line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from originals import forge
from unveil.cli import main
from unveil.loading import load
from unveil.planning import value_guidance as guidance_forms
from unveil.planning.data.d4rl import write_d4rl
from unveil.planning.data.episodes import Episodes
from unveil.planning.weights.diffuser import Original
from unveil.runs.flags import changed

TINY = ["--preset", "tiny", "--batch-size", "16", "--threads", "1", "--device", "cpu"]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A folder with hopper-tiny.hdf5 and the logs of the three commands on it."""
    folder = tmp_path_factory.mktemp("locomotion")
    rng = np.random.default_rng(0)
    count, length = 400, 20
    ends = np.zeros(count, bool)
    ends[length - 1 :: length] = True
    observations = rng.normal(size=(count, 11)).astype(np.float32)
    observations[:, 0] += 1.2
    actions = np.tanh(rng.normal(size=(count, 3))).astype(np.float32)
    episodes = Episodes(
        observations, actions, rng.normal(1, 1, count).astype(np.float32), ends, np.zeros(count, bool)
    )
    write_d4rl(folder / "hopper-tiny.hdf5", episodes)
    common = [
        *TINY,
        "--dataset",
        str(folder / "hopper-tiny.hdf5"),
        "--logbase",
        str(folder / "logs"),
        "--horizon",
        "8",
    ]
    assert (
        main(["train", "locomotion", *common, "--n-train-steps", "6", "--save-freq", "3", "--keep", "0"]) == 0
    )
    assert main(["train", "value", *common, "--n-train-steps", "4", "--save-freq", "4"]) == 0
    return folder


def evaluate(base: Path, *more: str) -> int:
    data = ["--dataset", str(base / "hopper-tiny.hdf5"), "--logbase", str(base / "logs"), "--horizon", "8"]
    quick = [
        "--episodes",
        "2",
        "--max-episode-length",
        "2",
        "--batch-size",
        "3",
        "--sampling-steps",
        "2",
        "--device",
        "cpu",
    ]
    chosen = [] if "--preset" in more else ["--preset", "default"]
    return main(["eval", "locomotion", *data, *quick, *chosen, *more])


def test_runs_are_where_the_original_has_them_and_the_next_command_is_told(base, capsys):
    logs = base / "logs" / "hopper-tiny"
    assert sorted(p.name for p in (logs / "diffusion" / "defaults_H8_T20").glob("checkpoint-*")) == [
        "checkpoint-3",
        "checkpoint-6",
    ]
    assert (logs / "values" / "defaults_H8_T20_d0.997" / "checkpoint-4" / "ema.safetensors").is_file()
    config = json.loads((logs / "diffusion" / "defaults_H8_T20" / "config.json").read_text())
    assert (config["recipe"], config["actions"], config["observations"], config["normalized"]) == (
        "locomotion",
        3,
        11,
        True,
    )


def test_planning_writes_a_result_beside_them(base, capsys):
    assert evaluate(base) == 0
    (file,) = (base / "logs" / "hopper-tiny" / "plans").glob("*/0/rollout.json")
    result = json.loads(file.read_text())
    assert result["recipe"] == "locomotion" and len(result["returns"]) == 2
    assert result["metrics"]["length_mean"] == 2.0 and result["metrics"]["n"] == 2
    assert (
        result["score"]["min"] == -20.272305
        and "D4RL" in result["score"]["source"]
        and result["mujoco"][0].isdigit()
    )
    assert "gymnasium Hopper-v5, mujoco" in capsys.readouterr().out


@pytest.mark.parametrize(
    "flags",
    [
        ["--guidance", "ascend", "--select", "value", "--solver", "ancestral"],
        ["--guidance", "mean", "--select", "none", "--solver", "ancestral"],
        ["--guidance", "tilted", "--solver", "dpmpp"],
        ["--guidance", "tilted", "--scale", "auto"],
        ["--warm-steps", "1", "--plan-horizon", "4"],
        ["--diffusion-epoch", "3", "--version", "v4"],
    ],
)
def test_every_form_of_planning_runs(base, flags, tmp_path):
    assert evaluate(base, *flags, "--json", str(tmp_path / "r.json")) == 0
    assert np.isfinite(json.loads((tmp_path / "r.json").read_text())["returns"]).all()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--value-loadpath", "f:values/defaults_H{horizon}_T{step}"], "no field 'step'"),
        (["--diffusion-epoch", "last"], "epoch"),
        (["--scale", "big", "--guidance", "mean"], "--scale is a number or auto"),
        (["--horizon", "16"], "defaults_H16_T20: no such run; there: "),
        (["--logbase", "nowhere"], "train one: unveil train locomotion --dataset D --logbase nowhere"),
        (["--dataset", "no-such-set"], "body"),
        (["--logbase", ""], "--logbase is empty, or the folder here; give the folder of all runs"),
        (["--episodes", "0"], "--episodes must be a whole number of at least 1, got 0"),
        (["--n-guide-steps", "-1"], "--n-guide-steps must be a whole number of at least 0, got -1"),
        (["--scale", "big"], "--scale is a number or auto, got 'big'"),
        (["--diffusion-epoch", "5"], "defaults_H8_T20: no checkpoint of step 5; there: 3, 6"),
        (["--discount", "0.5"], "d0.5: no such run; there: "),
        (["--solver", "euler"], "unveil: Invalid choice invalid choice 'euler' for argument '--solver'"),
    ],
)
def test_mistakes_are_one_line(base, flags, message, capsys):
    assert evaluate(base, *flags) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error.splitlines()[-1]


def test_a_value_that_is_missing_is_hinted_at_by_values_alone(base, tmp_path, capsys):
    logs = tmp_path / "logs" / "hopper-tiny"
    shutil.copytree(
        base / "logs" / "hopper-tiny" / "diffusion" / "defaults_H8_T20",
        logs / "diffusion" / "defaults_H8_T20",
    )
    assert evaluate(base, "--logbase", str(tmp_path / "logs")) == 2
    assert (
        f"train one: unveil train value --dataset D --logbase {tmp_path / 'logs'}" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--model", "unet"],
            "--shortest 4 cannot be halved 3 times by the unet; give --shortest 8, or --shortest 0",
        ),
        (["--model", "unet", "--horizon", "12"], "--horizon 12 cannot be halved 3 times"),
        (["--dataset", "one.npz"], "one.npz is one episode, so none can be held out; give --hold-out 0"),
    ],
)
def test_impossible_trainings_are_one_line_and_leave_nothing(
    base, tmp_path, monkeypatch, flags, message, capsys
):
    monkeypatch.chdir(tmp_path)
    row = np.zeros((5, 11), np.float32)
    np.savez("one.npz", observations=row, actions=row[:, :3], rewards=row[:, 0], terminals=row[:, 0] > 0)
    data = ["--dataset", str(base / "hopper-tiny.hdf5"), "--logbase", "logs"]
    assert main(["train", "locomotion", *TINY, *data, *flags]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error
    assert not Path("logs").exists()


def test_a_value_of_another_schedule_is_refused(base, capsys):
    data = ["--dataset", str(base / "hopper-tiny.hdf5"), "--logbase", str(base / "logs"), "--horizon", "8"]
    assert (
        main(
            [
                "train",
                "value",
                *TINY,
                *data,
                "--n-diffusion-steps",
                "10",
                "--n-train-steps",
                "1",
                "--save-freq",
                "1",
            ]
        )
        == 0
    )
    assert evaluate(base, "--value-loadpath", "values/defaults_H8_T10_d0.997") == 2
    assert "diffusion_steps 10, the diffusion with 20" in capsys.readouterr().err


def test_a_value_of_another_horizon_and_another_body_are_refused(base, capsys):
    data = ["--dataset", str(base / "hopper-tiny.hdf5"), "--logbase", str(base / "logs"), "--horizon", "12"]
    assert main(["train", "value", *TINY, *data, "--n-train-steps", "1", "--save-freq", "1"]) == 0
    assert evaluate(base, "--value-loadpath", "values/defaults_H12_T20_d0.997") == 2
    assert "horizon 12, the diffusion with 8" in capsys.readouterr().err
    walker = base / "logs" / "walker2d-tiny"
    if not walker.exists():
        walker.symlink_to(base / "logs" / "hopper-tiny")
    assert evaluate(base, "--dataset", "walker2d-tiny") == 2
    assert "of 11 observations and 3 actions, but walker2d has 17 and 6" in capsys.readouterr().err


def test_weights_of_another_body_of_the_same_sizes_are_refused(base, tmp_path, capsys):
    run = tmp_path / "hopper-tiny" / "diffusion" / "defaults_H8_T20"
    shutil.copytree(base / "logs" / "hopper-tiny" / "diffusion" / "defaults_H8_T20", run)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"dataset": "walker2d-medium"}))
    assert evaluate(base, "--logbase", str(tmp_path), "--select", "none") == 2
    assert "these weights were trained on walker2d-medium, but" in capsys.readouterr().err


def test_a_checkpoint_without_averaged_weights_is_one_line(base, tmp_path, capsys):
    run = tmp_path / "hopper-tiny" / "diffusion" / "defaults_H8_T20"
    shutil.copytree(base / "logs" / "hopper-tiny" / "diffusion" / "defaults_H8_T20", run)
    for file in run.glob("checkpoint-*/ema.safetensors"):
        file.unlink()
    assert evaluate(base, "--logbase", str(tmp_path), "--select", "none") == 2
    error = capsys.readouterr().err.strip()
    assert (
        "ema.safetensors is missing" in error
        and "copy the run again, or train it again" in error
        and "\n" not in error
    )


def test_a_run_is_loaded_by_its_folder_and_plans(base):
    planner = load(
        base / "logs" / "hopper-tiny" / "diffusion" / "defaults_H8_T20",
        "cpu",
        sampling_steps=2,
        plan_horizon="auto",
    )
    observation = np.zeros(11)
    observation[0] = 1.25
    plans = planner.plan(observation)
    assert plans.shape == (1, 8, 14), "no more rows than were trained with"
    np.testing.assert_allclose(plans[0, 0, 3:], observation, atol=1e-5)


def test_a_folder_of_a_diffusion_and_a_value_is_one_planner(base, tmp_path, capsys):
    runs, pair = base / "logs" / "hopper-tiny", tmp_path / "pair"
    shutil.copytree(runs / "diffusion" / "defaults_H8_T20", pair / "diffusion" / "defaults_H8_T20")
    alone = [
        "--checkpoint",
        str(pair),
        "--logbase",
        str(tmp_path / "nowhere"),
        "--json",
        str(tmp_path / "r.json"),
    ]
    assert evaluate(base, *alone) == 2
    assert "name one (--value-loadpath)" in capsys.readouterr().err
    assert evaluate(base, *alone[:2], *alone[4:]) == 0, "the value below --logbase is found"
    value = runs / "values" / "defaults_H8_T20_d0.997"
    assert evaluate(base, *alone, "--value-loadpath", str(value.resolve())) == 0
    shutil.copytree(value, pair / "values" / "defaults_H8_T20_d0.997")
    assert evaluate(base, *alone) == 0
    planner = load(pair, "cpu", preset="default", sampling_steps=2)
    assert planner.score is not None and (planner.settings.candidates, planner.horizon) == (16, 8)
    assert load(pair, "cpu", preset="default", epoch=3).plan(np.zeros(11)).shape == (16, 8, 14)


def test_training_resumes_and_refuses_other_flags(base, capsys):
    common = ["--dataset", str(base / "hopper-tiny.hdf5"), "--logbase", str(base / "logs"), "--horizon", "8"]
    again = ["train", "locomotion", *TINY, *common, "--save-freq", "3", "--keep", "0"]
    assert main([*again, "--n-train-steps", "6"]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main([*again, "--n-train-steps", "8", "--resume", "--depth", "3"]) == 2
    assert "was started with --depth 2" in capsys.readouterr().err


def test_the_published_overrides_of_single_data_sets():
    from unveil.planning.recipes.locomotion.config import EVAL_PRESETS, TRAIN_PRESETS, for_dataset

    cheetah = for_dataset(TRAIN_PRESETS["paper"], "halfcheetah-medium-v2")
    shared = cheetah.shared
    assert (shared.horizon, shared.multiples, cheetah.attention) == (4, (1, 4, 8), True)
    hopper = for_dataset(EVAL_PRESETS["paper"], "hopper-medium-expert-v2")
    assert (hopper.settings.scale, hopper.settings.t_stopgrad, hopper.loadpaths.horizon) == (0.0001, 4, 32)
    assert for_dataset(EVAL_PRESETS["paper"], "walker2d-medium-v2") == EVAL_PRESETS["paper"]
    assert for_dataset(TRAIN_PRESETS["default"], "halfcheetah-medium") == TRAIN_PRESETS["default"]


def test_observation_plans_with_inverse_dynamics_train_and_act(base, tmp_path):
    data = [
        "--dataset",
        str(base / "hopper-tiny.hdf5"),
        "--logbase",
        str(tmp_path),
        "--horizon",
        "8",
        "--inverse",
    ]
    assert main(["train", "locomotion", *TINY, *data, "--n-train-steps", "2", "--save-freq", "2"]) == 0
    assert main(["train", "value", *TINY, *data, "--n-train-steps", "2", "--save-freq", "2"]) == 0
    quick = [
        "--episodes",
        "2",
        "--max-episode-length",
        "2",
        "--batch-size",
        "3",
        "--sampling-steps",
        "2",
        "--device",
        "cpu",
    ]
    paths = ["--dataset", str(base / "hopper-tiny.hdf5"), "--logbase", str(tmp_path), "--horizon", "8"]
    assert main(["eval", "locomotion", *paths, *quick, "--json", str(tmp_path / "r.json")]) == 0
    metrics = [
        json.loads(line)
        for line in (tmp_path / "hopper-tiny/diffusion/defaults_H8_T20/metrics.jsonl")
        .read_text()
        .splitlines()
    ]
    assert metrics[-1]["inverse_loss"] > 0.0
    assert torch.isfinite(torch.tensor(json.loads((tmp_path / "r.json").read_text())["returns"])).all()


def test_every_data_set_has_a_folder_of_its_own(tmp_path):
    from unveil.planning.recipes.locomotion.config import (
        EvalLocomotion,
        TrainLocomotion,
        TrainValue,
        folder_name,
    )
    from unveil.planning.recipes.locomotion.evaluate import record_path
    from unveil.planning.recipes.locomotion.pair import folder_of
    from unveil.planning.recipes.locomotion.train import run_folder

    names = {
        "mujoco/hopper/medium-v0": "mujoco-hopper-medium-v0",
        "mujoco/walker2d/medium-v0": "mujoco-walker2d-medium-v0",
        "hopper-medium-v2": "hopper-medium-v2",
        "/data/sets/hopper.hdf5": "hopper",
        "sets/hopper-v2.hdf5": "hopper-v2",
        "/data/mujoco/hopper/medium-v0": "medium-v0",
    }
    for dataset, name in names.items():
        assert folder_name(dataset) == name
        evaluated = EvalLocomotion(dataset=dataset, logbase=tmp_path)
        assert record_path(evaluated).is_relative_to(tmp_path / name / "plans")
        for trained, path in (
            (TrainLocomotion, evaluated.loadpaths.diffusion_loadpath),
            (TrainValue, evaluated.loadpaths.value_loadpath),
        ):
            assert folder_of(evaluated, path) == run_folder(
                changed(trained(), dataset=dataset, logbase=tmp_path)
            )


def test_the_scale_is_chosen_for_a_checkpoint_and_the_end_of_the_grid_is_told(
    base, tmp_path, monkeypatch, capsys
):

    run = base / "logs" / "hopper-tiny" / "diffusion" / "defaults_H8_T20"
    flags = [
        "--checkpoint",
        str(run),
        "--guidance",
        "tilted",
        "--scale",
        "auto",
        "--json",
        str(tmp_path / "r.json"),
    ]
    for found, message in (
        (10.0, "chose 10: the end of the grid"),
        (0.0, "chose 0: plans at every scale"),
        (0.1, None),
    ):
        monkeypatch.setattr(guidance_forms, "largest_unsurprising", lambda *_, found=found: (found, {}))
        assert evaluate(base, *flags) == 0
        told = capsys.readouterr().err
        assert told.count("--scale auto") == bool(message) and (message or "") in told
        assert json.loads((tmp_path / "r.json").read_text())["metrics"]["guidance_scale"] == found


def test_the_published_three_commands_run_as_they_are_hinted(base, tmp_path, capsys):
    """The original's sequence with its own network and guidance; each command is the hint of the one before
    it."""
    small = ["--batch-size", "2", "--device", "cpu"]
    trained = [
        "--horizon",
        "8",
        "--dim",
        "8",
        "--dim-mults",
        "1",
        "4",
        "--n-train-steps",
        "2",
        *small,
        "--threads",
        "1",
    ]
    common = ["--dataset", str(base / "hopper-tiny.hdf5"), "--logbase", str(tmp_path)]
    assert main(["train", "locomotion", "--preset", "paper", *common, *trained]) == 0
    words = capsys.readouterr().out.split("next: unveil ")[1].split()
    assert words == ["train", "value", "--preset", "paper", *common, "--horizon", "8"]
    assert main([*words, *trained[2:], "--discount", "0.99"]) == 0
    words = capsys.readouterr().out.split("next: unveil ")[1].split()
    assert words == [
        "eval",
        "locomotion",
        *common,
        "--preset",
        "paper",
        "--horizon",
        "8",
        "--discount",
        "0.99",
    ]
    assert main([*words, *small, "--episodes", "1", "--max-episode-length", "2"]) == 0
    (file,) = (tmp_path / "hopper-tiny" / "plans").glob(
        "paper_H8_T20_d0.99_K2_ascend_value_S20/0/rollout.json"
    )
    result = json.loads(file.read_text())
    assert np.isfinite(result["returns"]).all() and result["metrics"]["sampling_steps"] == 20
    assert main([*words, *small, "--plan-horizon", "3"]) == 2
    assert "plans of 3 rows cannot be halved 1 times" in capsys.readouterr().err


def test_the_hint_holds_the_same_episodes_out():
    """Other episodes have another normalisation, with which the value is refused."""
    from unveil.planning.recipes.locomotion.config import TRAIN_PRESETS, TrainLocomotion
    from unveil.planning.recipes.locomotion.next_step import after_diffusion

    run = Path("run")
    assert after_diffusion(changed(TrainLocomotion(), hold_out=0.3), run).endswith("--hold-out 0.3")
    assert "--hold-out" not in after_diffusion(TrainLocomotion(), run) + after_diffusion(
        TRAIN_PRESETS["paper"], run
    )


def test_the_hint_after_values_elsewhere_names_their_place(monkeypatch):
    from unveil.planning.recipes.locomotion import next_step
    from unveil.planning.recipes.locomotion.config import TrainValue

    monkeypatch.setattr(next_step, "has_body", lambda *_: True)
    line = next_step.after_value(
        changed(TrainValue(), dataset="my set.npz", prefix="values/mine"), Path("run")
    )
    path = "'f:values/mine_H{horizon}_T{n_diffusion_steps}_d{discount}'"
    assert line == f"unveil eval locomotion --dataset 'my set.npz' --logbase logs --value-loadpath {path}"


def test_the_originals_logs_of_hopper_are_evaluated_as_they_lie(base, tmp_path):
    """A diffusion and a value of the original's file format and of hopper's size, by --logbase and by
    --checkpoint, raw or averaged."""
    common = (
        8,
        20,
        3,
        11,
        8,
        (1, 4),
        False,
        "x0",
        "GaussianNormalizer",
        "hopper-medium-v2",
        "SequenceDataset",
        False,
    )
    logs = tmp_path / "logs" / "hopper-tiny"
    forge(logs / "diffusion" / "defaults_H8_T20", Original("diffusion", *common))
    forge(
        logs / "values" / "defaults_H8_T20_d0.997",
        Original("values", *common[:-2], "ValueDataset", False, 0.997, -100.0),
    )
    found = []
    for place in (
        ["--logbase", str(tmp_path / "logs")],
        ["--checkpoint", str(logs)],
        ["--logbase", str(tmp_path / "logs"), "--raw"],
    ):
        flags = ["--preset", "paper", "--json", str(tmp_path / "r.json")]
        assert evaluate(base, *flags, *place) == 0
        found.append(json.loads((tmp_path / "r.json").read_text())["returns"])
    assert np.isfinite(found[0]).all() and found[0] == found[1] == found[2]
