"""LeRobot's diffusion policies compute under our names what they compute there, with statistics inside the
model or beside it.

How the numbers were made: `policies/README.md`.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import unveil
from foreign_policies import drawn, filled, golden
from tolerance import golden_close
from unveil.cli import main
from unveil.errors import UnveilError
from unveil.network.condition import Condition
from unveil.policy.weights.description import model_of
from unveil.policy.weights.lerobot import lerobot_config, read_policy_folder

BUFFERS = ("normalize_inputs.", "normalize_targets.", "unnormalize_outputs.")


def written(folder: Path, name: str, beside: bool = False, **config) -> Path:
    """A policy's folder; `beside`: its statistics in files of their own, as since 0.4."""
    it = golden(name)
    tensors = filled(it["shapes"])
    if beside:
        keys = {
            key.replace(".", "_"): key
            for side in ("input_features", "output_features")
            for key in it["config"][side]
        }
        pre, post = dict[str, torch.Tensor](), dict[str, torch.Tensor]()
        for full in [full for full in tensors if full.startswith(BUFFERS)]:
            key, _, statistic = full.partition(".buffer_")[2].rpartition(".")
            (post if full.startswith("unnormalize") else pre)[f"{keys[key]}.{statistic}"] = tensors.pop(full)
        for kind, step, stats in (("pre", "3_normalizer", pre), ("post", "0_unnormalizer", post)):
            state = f"policy_{kind}processor_step_{step}_processor.safetensors"
            save_file(stats, folder / state)
            steps = [
                {"registry_name": "rename_observations_processor"},
                {"registry_name": f"{step[2:]}_processor", "state_file": state},
            ]
            (folder / f"policy_{kind}processor.json").write_text(
                json.dumps({"name": f"policy_{kind}processor", "steps": steps})
            )
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(it["config"] | config))
    return folder


def inputs(name: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    x, state, environment, images = drawn((2, 8, 2), (2, 2, 2), (2, 2, 5), (2, 2, 2, 3, 96, 96))
    keys = [key for key in golden(name)["config"]["input_features"] if "image" in key]
    found = {"observation.state": state, "observation.environment_state": environment}
    return x, found | {key: images[:, :, i] for i, key in enumerate(keys)}


@pytest.mark.parametrize("name", ["lerobot_state", "lerobot_image", "lerobot_cameras"])
def test_observations_to_actions_as_there(tmp_path, name):
    read, wanted = read_policy_folder(written(tmp_path, name)), golden(name)
    model = model_of(read.described).eval()
    model.load_state_dict(read.raw)
    x, observations = inputs(name)
    with torch.no_grad():
        vector = model["observation"](observations).flatten(1)
        y = model["network"](x, torch.tensor([3.0, 77.0]), Condition(vector=vector))
    golden_close(vector, wanted["vector"])
    golden_close(y, wanted["y"])


@pytest.mark.parametrize("beside", [False, True], ids=["inside", "beside"])
def test_statistics_become_linear_maps(tmp_path, beside):
    """MIN_MAX to [-1, 1], MEAN_STD to mean 0 and deviation 1, of each channel of an image."""
    read = read_policy_folder(written(tmp_path, "lerobot_image", beside))
    given = {
        name: value
        for name, value in filled(golden("lerobot_image")["shapes"]).items()
        if name.startswith(BUFFERS)
    }
    assert read.normalization.keys() == {"observation.state", "observation.image", "action"}
    low, high = (given[f"unnormalize_outputs.buffer_action.{end}"] for end in ("min", "max"))
    if beside:  # what is under both names is the preprocessor's
        low, high = (given[f"normalize_targets.buffer_action.{end}"] for end in ("min", "max"))
    else:
        low, high = (given[f"unnormalize_outputs.buffer_action.{end}"] for end in ("min", "max"))
    action = read.normalization["action"]
    torch.testing.assert_close(
        action.normalized(torch.stack([low, high, (low + high) / 2])),
        torch.tensor([[-1.0], [1.0], [0.0]]).expand(3, 2),
    )
    torch.testing.assert_close(action.raw(torch.tensor([[-1.0, -1.0], [1.0, 1.0]])), torch.stack([low, high]))
    mean, std = (given[f"normalize_inputs.buffer_observation_image.{end}"] for end in ("mean", "std"))
    torch.testing.assert_close(
        read.normalization["observation.image"].normalized(mean + std).expand(3, 2, 2), torch.ones(3, 2, 2)
    )


def test_what_they_are(tmp_path):
    it = read_policy_folder(written(tmp_path, "lerobot_cameras")).described
    assert [(part.key, part.encoder) for part in it.parts] == [
        ("observation.state", None),
        ("observation.images.a", 0),
        ("observation.images.b", 1),
    ]
    assert it.parts[1].crop == (84, 84) and it.keypoints == 32
    assert (it.horizon, it.observed, it.n_action, it.first, it.steps, it.predicts, it.clip) == (
        8,
        2,
        4,
        1,
        100,
        "eps",
        1.0,
    )
    assert lerobot_config(tmp_path)
    (tmp_path / "config.json").write_text('{"type": "act"}')
    assert lerobot_config(tmp_path) is None
    assert lerobot_config(tmp_path / "nowhere") is None


@pytest.mark.parametrize("name", ["lerobot_image", "lerobot_state"])
def test_configs_of_before_kinds_and_types_say_the_same(tmp_path, name):
    """As the first published policies have them, `lerobot/diffusion_pusht` and
    `lerobot/diffusion_pusht_keypoints`."""
    now = read_policy_folder(written(tmp_path, name))
    it = golden(name)["config"]
    inputs, outputs = it.pop("input_features"), it.pop("output_features")
    del it["type"], it["normalization_mapping"], it["use_separate_rgb_encoder_per_camera"]
    shapes = {"input_shapes": {key: told["shape"] for key, told in inputs.items()}}
    shapes["output_shapes"] = {key: told["shape"] for key, told in outputs.items()}
    modes = {key: "mean_std" if "image" in key else "min_max" for key in inputs}
    old = (
        it
        | shapes
        | {"input_normalization_modes": modes, "output_normalization_modes": {"action": "min_max"}}
    )
    (tmp_path / "config.json").write_text(json.dumps(old))
    assert lerobot_config(tmp_path)
    before = read_policy_folder(tmp_path)
    assert before.described == now.described
    for key, linear in now.normalization.items():
        torch.testing.assert_close(before.normalization[key].scale, linear.scale)
        torch.testing.assert_close(before.normalization[key].offset, linear.offset)
    (tmp_path / "config.json").write_text(json.dumps(old | {"input_normalization_modes": {}}))
    assert read_policy_folder(tmp_path).normalization["observation.state"].scale.tolist() == [
        1.0,
        1.0,
    ]  # not named: left as it is


def refused(folder: Path) -> str:
    with pytest.raises(UnveilError) as caught:
        read_policy_folder(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"type": "act"}, "it is of type act"),
        ({"use_group_norm": False}, "tensors are missing"),
        ({"vision_backbone": "resnet34"}, "tensors are missing"),
        ({"vision_backbone": "resnet50"}, "resnet50 (vision_backbone); resnet18 and resnet34 are known"),
        ({"resize_shape": 64}, "cannot be resized to 64 (resize_shape)"),
        ({"resize_shape": [64, 64]}, "cannot be cropped to [84, 84]"),
        ({"input_features": None}, "no input_features"),
        ({"input_features": {"observation.state": {"shape": []}}}, "has an invalid shape"),
        ({"input_features": {"observation.state": {"shape": 2}}}, "has an invalid shape"),
        ({"crop_shape": [84, "84"]}, "cannot be cropped to [84, '84']"),
        ({"crop_shape": [97, 84]}, "cannot be cropped to [97, 84]"),
        ({"clip_sample_range": [1]}, "clip_sample_range in its config is missing or invalid"),
        ({"n_groups": 0}, "n_groups in its config is missing or invalid"),
        ({"horizon": "8"}, "horizon in its config is missing or invalid"),
        ({"prediction_type": "velocity"}, "it predicts velocity"),
        ({"normalization_mapping": {"STATE": "QUANTILES"}}, "by QUANTILES"),
        ({"crop_shape": [64, 64], "spatial_softmax_num_keypoints": 16}, "must have shape"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, config, reason):
    message = refused(written(tmp_path, "lerobot_image", **config))
    assert message.startswith(f"{tmp_path}: a policy of LeRobot that cannot be used: ") and reason in message


def test_missing_statistics_and_files_are_named(tmp_path):
    folder = written(tmp_path, "lerobot_state", beside=True)
    (folder / "policy_preprocessor.json").write_text(
        '{"steps": [{"state_file": "../normalizer.safetensors"}]}'
    )
    assert "names a file in another folder" in refused(folder)
    (folder / "policy_preprocessor.json").unlink()
    assert "its observation.state.min is neither in the model nor beside it" in refused(folder)
    (folder / "model.safetensors").write_bytes(b"12345678 not it")
    assert "not the weights that are needed" in refused(folder)
    (folder / "config.json").write_text("[" * 100_000)
    assert "config.json: damaged" in refused(folder)
    (folder / "config.json").unlink()
    assert "config.json: cannot be read" in refused(folder)


@pytest.mark.parametrize("told", [{"type": "act"}, {"type": None, "noise_scheduler_type": None}])
def test_policies_of_other_types_are_named_as_lerobots(tmp_path, told, capsys):
    """By every command, before their weights are looked at."""
    folder = written(tmp_path, "lerobot_state")
    config = json.loads((folder / "config.json").read_text()) | told
    (folder / "config.json").write_text(
        json.dumps({name: value for name, value in config.items() if value is not None})
    )
    (folder / "model.safetensors").unlink()
    said = "a policy of LeRobot that cannot be used: it" + (
        " is of type act" if told["type"] else "s config.json has no type"
    )
    with pytest.raises(UnveilError, match=f"{said}.*; diffusion is supported"):
        unveil.load(folder, device="cpu")
    for command in (
        ["weights", "convert", str(folder), str(tmp_path / "out")],
        ["weights", "inspect", str(folder)],
    ):
        assert main(command) == 2
        assert said in capsys.readouterr().err


def test_a_policy_whose_type_was_lost_and_one_in_shards_are_the_same(tmp_path):
    wanted = read_policy_folder(written(tmp_path, "lerobot_state"))
    config = json.loads((tmp_path / "config.json").read_text())
    del config["type"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert read_policy_folder(tmp_path).described == wanted.described
    whole = tmp_path / "model.safetensors"
    tensors = filled(golden("lerobot_state")["shapes"])
    whole.unlink()
    names = sorted(tensors)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, mine in shards.items():
        save_file({name: tensors[name] for name in mine}, tmp_path / file)
    index = {name: file for file, mine in shards.items() for name in mine}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    read = read_policy_folder(tmp_path)
    assert read.raw.keys() == wanted.raw.keys() and all(
        torch.equal(read.raw[name], wanted.raw[name]) for name in wanted.raw
    )
    save_file({name: tensors[name] for name in names}, tmp_path / "b.safetensors")
    with pytest.raises(UnveilError, match="is in two of its shards"):
        read_policy_folder(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": dict.fromkeys(names, "../a.safetensors")})
    )
    with pytest.raises(UnveilError, match="does not say which file"):
        read_policy_folder(tmp_path)


def test_a_training_of_lerobots_is_looked_into(tmp_path):
    steps = [tmp_path / "checkpoints" / step / "pretrained_model" for step in ("000100", "000200")]
    for folder in steps:
        folder.mkdir(parents=True)
        written(folder, "lerobot_state")
    (tmp_path / "checkpoints" / "last").symlink_to("000200")
    with pytest.raises(
        UnveilError, match=r"2 policies are there \(.*checkpoints/000100/pretrained_model, .*the path of one"
    ):
        unveil.load(tmp_path, device="cpu")
    assert unveil.load(steps[1].parent, device="cpu").model.shape.horizon == 8
