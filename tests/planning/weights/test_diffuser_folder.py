"""Folders of the original: what is found, which epoch, and configs that are data and nothing else."""

import pickle
import shutil

import pytest
import torch

from originals import ATTENTION, DATASET, PLAIN, VALUE, Runs, config_like, rewrite, unpacked
from unveil.cli import main
from unveil.errors import UnveilError
from unveil.loading import load
from unveil.planning.weights.diffuser_folder import (
    Checkpoint,
    epochs,
    experiments,
    read_checkpoint,
    read_configs,
)

DIFFUSION = {"horizon": 8, "observation_dim": 3, "action_dim": 2, "n_timesteps": 20, "predict_epsilon": False}


@pytest.fixture
def logs(tmp_path):
    return unpacked(tmp_path / "logs")


def refused(experiment) -> str:
    with pytest.raises(UnveilError) as error:
        read_checkpoint(experiment)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_experiments_are_found_from_every_height(logs):
    all_three = [logs / DATASET / e for e in (ATTENTION, PLAIN, VALUE)]
    assert experiments(logs) == experiments(logs / DATASET) == all_three
    assert experiments(logs / DATASET / "values") == experiments(logs / DATASET / VALUE) == all_three[2:]
    assert experiments(logs.parent / "none") == []


def test_what_it_is_comes_from_tensors_and_configs(logs):
    plain = read_checkpoint(logs / DATASET / PLAIN)
    it = plain.original
    assert (plain.epoch, plain.step) == (200, 200_007)
    assert (it.kind, it.horizon, it.diffusion_steps, it.actions, it.observations) == (
        "diffusion",
        8,
        20,
        2,
        3,
    )
    assert (it.width, it.multiples, it.attention, it.predicts) == (8, (1, 2), False, "x0")
    assert (it.normalizer, it.dataset, it.loader) == ("GaussianNormalizer", DATASET, "SequenceDataset")
    assert read_checkpoint(logs / DATASET / ATTENTION).original.attention
    value = read_checkpoint(logs / DATASET / VALUE).original
    assert (value.kind, value.multiples, value.discount, value.termination_penalty) == (
        "values",
        (1, 4),
        0.997,
        -100.0,
    )


def test_configs_are_classes_and_arguments(logs):
    found = read_configs(logs / DATASET / VALUE)
    assert {name: c.name for name, c in found.items()} == {
        "dataset": "ValueDataset", "render": "MuJoCoRenderer", "model": "ValueFunction", "diffusion": "ValueDiffusion",
        "trainer": "Trainer",
    }  # fmt: skip
    assert found["model"].arguments == {
        "horizon": 8,
        "transition_dim": 5,
        "cond_dim": 3,
        "dim": 8,
        "dim_mults": (1, 4),
    }
    assert found["trainer"].arguments["ema_decay"] == 0.995 and found["trainer"].arguments["bucket"] is None


def test_the_latest_epoch_is_the_largest_number(logs):
    folder = logs / DATASET / PLAIN
    for epoch in (0, 90):
        shutil.copy(folder / "state_200.pt", folder / f"state_{epoch}.pt")
    (folder / "state_best.pt").write_bytes(b"")
    assert list(epochs(folder)) == [0, 90, 200]
    assert read_checkpoint(folder).epoch == read_checkpoint(folder, "200").epoch == 200
    assert read_checkpoint(folder, "90").epoch == 90
    for wrong in ("7", "best", "-1", "", "²"):
        with pytest.raises(UnveilError, match="there are 0, 90, 200, or latest"):
            read_checkpoint(folder, wrong)
    with pytest.raises(UnveilError, match=r"no state_<epoch>\.pt"):
        read_checkpoint(logs)


def test_a_state_without_averaged_weights_is_read(logs):
    rewrite(logs / DATASET / PLAIN, lambda state: {"step": 3, "model": state["model"]})
    assert isinstance(found := read_checkpoint(logs / DATASET / PLAIN), Checkpoint) and found.averaged is None


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (lambda s: {"model": s["model"], "ema": s["ema"]}, "a dict with step, model and ema"),
        (lambda s: s["model"], "a dict with step, model and ema"),
        (lambda s: {**s, "step": 1.5}, "a dict with step, model and ema"),
        (lambda s: {"step": 1, "ema": s["ema"]}, "'model' is missing"),
        (lambda s: {**s, "ema": [1]}, "'ema' is missing, or no dict of tensors"),
        (lambda s: {**s, "model": {"a": 1}}, "'model' is missing, or no dict of tensors"),
        (lambda s: {**s, "model": {"a": torch.zeros(1)}}, "neither a TemporalUnet nor a ValueFunction"),
    ],
)
def test_other_states_are_refused(logs, state, message):
    rewrite(logs / DATASET / PLAIN, state)
    assert message in refused(logs / DATASET / PLAIN)


@pytest.mark.parametrize(
    ("file", "data", "message"),
    [
        (
            "diffusion",
            config_like("models.diffusion.GaussianDiffusion", {**DIFFUSION, "horizon": 16}),
            "horizon = 16",
        ),
        (
            "diffusion",
            config_like("models.diffusion.GaussianDiffusion", {**DIFFUSION, "action_dim": 3}),
            "3 actions and 3 observations",
        ),
        (
            "diffusion",
            config_like("models.diffusion.GaussianDiffusion", {**DIFFUSION, "n_timesteps": 100}),
            "n_timesteps = 100",
        ),
        (
            "diffusion",
            config_like("models.diffusion.GaussianDiffusion", {**DIFFUSION, "horizon": "8"}),
            "no number of this size",
        ),
        (
            "model",
            config_like("models.temporal.TemporalUnet", {"dim_mults": (1, 4)}),
            "dim_mults = (1, 4), the tensors (1, 2)",
        ),
        (
            "model",
            config_like("models.temporal.TemporalUnet", {"attention": True}),
            "attention = True, the tensors False",
        ),
        ("model", config_like("models.temporal.TemporalUnet", {"dim": 32}), "dim = 32, the tensors 8"),
        ("model", config_like("models.temporal.ValueFunction", {}), "model_config.pkl says ValueFunction"),
        ("model", pickle.dumps([1]), "not a Config of jannerm/diffuser"),
        (
            "model",
            b"cdiffuser.utils.config\nConfig\n)\x81}X\x01\x00\x00\x00aK\x01sb.",
            "not a Config of jannerm/diffuser",
        ),
        ("render", b"", "refused"),
        ("trainer", b"\x80\x04", "refused"),
        ("dataset", b" " * (2**20 + 1), "more than 1,048,576 bytes"),
    ],
)
def test_configs_that_disagree_or_are_damaged_are_refused(logs, file, data, message):
    (logs / DATASET / PLAIN / f"{file}_config.pkl").write_bytes(data)
    assert message in refused(logs / DATASET / PLAIN)


def test_what_only_the_configs_know_is_asked_for(logs):
    folder = logs / DATASET / PLAIN
    for file in folder.glob("*.pkl"):
        file.unlink()
    assert "are in diffusion_config.pkl" in refused(folder)
    (folder / "diffusion_config.pkl").write_bytes(
        config_like("models.diffusion.GaussianDiffusion", DIFFUSION)
    )
    assert read_checkpoint(folder).original.normalizer is None


def test_the_networks_output_is_noise_where_the_config_says_so_or_says_nothing(logs):
    folder = logs / DATASET / PLAIN
    for arguments in (
        {**DIFFUSION, "predict_epsilon": True},
        {k: v for k, v in DIFFUSION.items() if k != "predict_epsilon"},
    ):
        (folder / "diffusion_config.pkl").write_bytes(
            config_like("models.diffusion.GaussianDiffusion", arguments)
        )
        assert read_checkpoint(folder).original.predicts == "eps"


@pytest.mark.parametrize("name", ["dataset", "render", "model", "diffusion", "trainer"])
@pytest.mark.parametrize(
    "nest", [lambda x: x, lambda x: {"_class": 1, "_dict": {"a": [x]}}, lambda x: ((x,),)]
)
def test_config_payloads_are_refused_and_do_not_run(logs, tmp_path, name, nest):
    marker = tmp_path / "ran"
    (logs / DATASET / PLAIN / f"{name}_config.pkl").write_bytes(pickle.dumps(nest(Runs(marker))))
    assert "refused, no code in it was run: it names posix.system" in refused(logs / DATASET / PLAIN)
    assert not marker.exists()


def test_payloads_under_the_originals_own_names_are_data(logs, tmp_path):
    """`diffuser.utils.os.system` exists in the original: `utils` imports os. Here it is no class of theirs,
    and refused."""
    marker = tmp_path / "ran"
    text = f"touch {marker}".encode()
    argument = b"X" + len(text).to_bytes(4, "little") + text
    call = b"cdiffuser.utils.serialization\nos.system\n" + argument + b"\x85R"
    whole = config_like("models.temporal.TemporalUnet", {"dim": 8})
    inside = whole.replace(b"K\x08", call, 1)
    assert inside != whole
    file = logs / DATASET / PLAIN / "model_config.pkl"
    for data in (call + b".", b"\x80\x02" + call + b"}b.", inside):
        file.write_bytes(data)
        assert "it names diffuser.utils.serialization.os.system, which does not belong here" in refused(
            logs / DATASET / PLAIN
        )
    assert not marker.exists()


@pytest.mark.parametrize(
    "name",
    [
        "diffuser.utils.config.os",
        "diffuser.utils.arrays.np",
        "diffuser.evil.Config",
        "diffuser.Config",
        "other.utils.config.Config",
    ],
)
def test_names_in_the_originals_package_that_are_no_classes_of_its_configs_are_refused(logs, name):
    module, _, kind = name.rpartition(".")
    file = logs / DATASET / PLAIN / "model_config.pkl"
    file.write_bytes(
        config_like("models.temporal.TemporalUnet", {"a": 1}).replace(
            b"cdiffuser.models.temporal\nTemporalUnet", f"c{module}\n{kind}".encode()
        )
    )
    assert f"it names {name}, which does not belong here" in refused(logs / DATASET / PLAIN)


def test_a_state_alone_is_named_as_theirs_and_no_image_model(logs, tmp_path, capsys):
    state = logs / DATASET / PLAIN / "state_200.pt"
    alone = tmp_path / "weights.pt"
    alone.write_bytes(state.read_bytes())
    for file in (state, alone):
        for command in (
            ["weights", "inspect", str(file)],
            ["weights", "convert", str(file), str(tmp_path / "out")],
        ):
            assert main(command) == 2
            said = capsys.readouterr().err
            assert (
                "a checkpoint of jannerm/diffuser, no image model" in said
                and f"give its folder, with the *_config.pkl beside it ({file.parent})" in said
            )
        with pytest.raises(UnveilError, match="a checkpoint of jannerm/diffuser, no image model"):
            load(file)
    assert not (tmp_path / "out").exists()
