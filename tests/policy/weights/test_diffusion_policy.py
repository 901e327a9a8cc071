"""Checkpoints of real-stanford/diffusion_policy compute under our names what they compute there, and what is
not one is refused.

How the files and numbers were made: `policies/README.md`.
"""

import copy
import pickle

import pytest
import torch

from foreign_policies import drawn, golden, hybrid, multi_image, saved, unpacked
from originals import Runs
from tolerance import golden_close
from unveil.errors import UnveilError
from unveil.files import omegaconf as hydra_config
from unveil.files.pickles import Symbol
from unveil.files.torch_save import read_torch
from unveil.network.condition import Condition
from unveil.policy.networks.observation import Part
from unveil.policy.weights.description import TransformerShape, UNetShape, model_of
from unveil.policy.weights.diffusion_policy import _FORM, read_policy

TIMES = torch.tensor([3.0, 77.0])


@pytest.mark.parametrize("name", ["cnn", "transformer"])
@pytest.mark.parametrize("weights", ["raw", "averaged"])
def test_states_to_actions_as_there(tmp_path, name, weights):
    read, wanted = read_policy(unpacked(name, tmp_path)), golden(name)
    model = model_of(read.described).eval()
    model.load_state_dict(getattr(read, weights))
    x, observed = drawn((2, 8, 2), (2, 2, 5))
    told = read.normalization["obs"].normalized(observed * 200 + 256)
    y = model["network"](x, TIMES, Condition(vector=told.flatten(1), tokens=told))
    golden_close(y, wanted[weights])
    golden_close(read.normalization["action"].raw(y), wanted[f"{weights}_action"])


def test_what_they_are_is_read_from_tensors_and_config(tmp_path):
    cnn, transformer = (read_policy(unpacked(name, tmp_path)) for name in ("cnn", "transformer"))
    assert cnn.described.network == UNetShape(2, 10, (8, 16), 5, 8, 4, scale=True)
    assert transformer.described.network == TransformerShape(2, 8, 5, 2, 16, 2, 2, 0.01, 0.0, causal=True)
    assert (cnn.described.condition, transformer.described.condition) == ("film", "tokens")
    for read in (cnn, transformer):
        it = read.described
        assert (it.horizon, it.observed, it.n_action, it.first, it.steps) == (8, 2, 4, 1, 100)
        assert (it.schedule, it.predicts, it.clip) == ("squaredcos_cap_v2", "eps", 1.0)
        assert it.parts == (Part("obs", (5,)),)
        assert read.notes == {"epoch": 550, "global_step": 1234}


def test_the_config_is_read_as_plain_data(tmp_path):
    cfg = read_torch(unpacked("cnn", tmp_path), _FORM)["cfg"]
    assert cfg["checkpoint"] == {"topk": {"monitor_key": "test_mean_score", "mode": "max", "k": 5}}
    assert cfg["optimizer"]["betas"] == [0.95, 0.999]
    assert cfg["training"]["max_train_steps"] is None and cfg["training"]["use_ema"] is True
    assert cfg["policy"]["horizon"] == 8  # an interpolation that was resolved


def test_images_and_states_to_actions_as_there(tmp_path):
    read, wanted = read_policy(saved(tmp_path / "h.ckpt", *hybrid())), golden("hybrid")
    assert read.described.parts == (Part("image", (3, 96, 96), 0, (84, 84)), Part("agent_pos", (2,)))
    assert read.averaged is None and read.notes == {"epoch": 3}
    model = model_of(read.described).eval()
    model.load_state_dict(read.raw)
    image, place, x = drawn((2, 2, 3, 96, 96), (2, 2, 2), (2, 8, 2))
    with torch.no_grad():
        features = model["observation"]({"image": image, "agent_pos": place})
        y = model["network"](x, TIMES, Condition(vector=features.flatten(1)))
    golden_close(features.flatten(0, 1), wanted["features"])
    golden_close(y, wanted["y"])


def test_plain_resnets_as_there(tmp_path):
    """`MultiImageObsEncoder`: images by name, then numbers by name; the mean over places; ImageNet's
    statistics after the normaliser."""
    read, wanted = read_policy(saved(tmp_path / "m.ckpt", *multi_image())), golden("multi_image")["features"]
    assert read.described.parts == (
        Part("front", (3, 64, 60), 0, (57, 52)),
        Part("side", (3, 64, 60), 1, (57, 52)),
        Part("grip", (1,)),
        Part("tip", (2,)),
    )
    model = model_of(read.described).eval()
    model.load_state_dict(read.raw)
    side, tip, front, grip = drawn((2, 3, 64, 60), (2, 2), (2, 3, 64, 60), (2, 1))
    raw = {"side": side, "tip": tip, "front": front, "grip": grip}
    with torch.no_grad():
        features = model["observation"](
            {key: read.normalization[key].normalized(x)[:, None] for key, x in raw.items()}
        )
    golden_close(features[:, 0], wanted)


def test_one_network_may_read_all_images(tmp_path):
    """Under `share_rgb_model` it is named `rgb`, whatever the images are."""
    cfg, tensors = multi_image()
    net = "obs_encoder.key_model_map"
    shared = {
        name.replace(f"{net}.front.", f"{net}.rgb."): value
        for name, value in tensors.items()
        if f"{net}.side." not in name
    }
    cfg["policy"]["obs_encoder"]["share_rgb_model"] = True
    both, one = (read_policy(saved(tmp_path / "m.ckpt", *it)) for it in (multi_image(), (cfg, shared)))
    assert [part.encoder for part in one.described.parts] == [0, 0, None, None]
    kept = {name: value for name, value in both.raw.items() if not name.startswith("observation.encoders.1.")}
    assert kept.keys() == one.raw.keys() and all(torch.equal(kept[name], one.raw[name]) for name in kept)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"_target_": "a.TimmObsEncoder"}, "encoded by a TimmObsEncoder; MultiImageObsEncoder is supported"),
        ({"rgb_model": {"name": "resnet50"}}, "its images are encoded by resnet50; resnet18 is supported"),
        ({"resize_shape": [32, 32]}, "its images are resized (resize_shape)"),
        ({"crop_shape": [57, 64]}, "cannot be cropped to [57, 64]"),
    ],
)
def test_other_image_encoders_are_named(tmp_path, change, reason):
    cfg, tensors = multi_image()
    cfg["policy"]["obs_encoder"].update(change)
    assert reason in refused(saved(tmp_path / "m.ckpt", cfg, tensors))


def refused(path) -> str:
    with pytest.raises(UnveilError) as caught:
        read_policy(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def change(tmp_path, name, edit):
    """A checkpoint saved anew, with its config or tensors changed."""
    state = copy.deepcopy(read_torch(unpacked(name, tmp_path), _FORM))
    edit(state["cfg"], state["state_dicts"]["model"])
    return refused(saved(tmp_path / "changed.ckpt", state["cfg"], state["state_dicts"]["model"]))


@pytest.mark.parametrize(
    ("name", "edit", "reason"),
    [
        (
            "cnn",
            lambda cfg, _: cfg["policy"].update(_target_="a.DiffusionUnetVideoPolicy"),
            "it is a DiffusionUnetVideoPolicy",
        ),
        ("cnn", lambda cfg, _: cfg["policy"].update(pred_action_steps_only=True), "pred_action_steps_only"),
        ("cnn", lambda cfg, _: cfg["policy"].pop("horizon"), "horizon in its config is missing"),
        (
            "cnn",
            lambda cfg, _: cfg["policy"]["noise_scheduler"].update(prediction_type="v_prediction"),
            "it predicts v_prediction",
        ),
        ("cnn", lambda cfg, _: cfg["policy"]["model"].update(n_groups=3), "its network is not valid"),
        ("cnn", lambda _, t: t.pop("model.final_conv.1.bias"), "1 tensors are missing"),
        ("cnn", lambda _, t: t.update({"model.more": torch.ones(1)}), "1 are unknown ['model.more']"),
        (
            "cnn",
            lambda _, t: t.update({"model.final_conv.1.bias": torch.ones(3)}),
            "must have shape (2,), got (3,)",
        ),
        (
            "cnn",
            lambda _, t: t.update({"model.final_conv.1.bias": torch.tensor([0.0, torch.nan])}),
            "not finite",
        ),
        (
            "cnn",
            lambda _, t: t.update({"model.local_cond_encoder.0.bias": torch.ones(1)}),
            "obs_as_local_cond",
        ),
        ("cnn", lambda _, t: t.pop("normalizer.params_dict.obs.scale"), "its normaliser of obs is missing"),
        ("transformer", lambda _, t: t.pop("model.encoder.0.weight"), "n_cond_layers above 0"),
        ("transformer", lambda cfg, _: cfg["policy"]["model"].update(n_head=3), "3 heads do not divide"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, name, edit, reason):
    message = change(tmp_path, name, edit)
    assert message.startswith(
        f"{tmp_path / 'changed.ckpt'}: a checkpoint of real-stanford/diffusion_policy that cannot be used: "
    )
    assert reason in message


def test_an_encoder_with_batch_norm_is_named(tmp_path):
    cfg, tensors = hybrid()
    tensors["obs_encoder.obs_nets.image.nets.0.nets.1.running_mean"] = torch.zeros(64)
    assert "has BatchNorm, ours GroupNorm" in refused(saved(tmp_path / "h.ckpt", cfg, tensors))


def test_nothing_in_it_is_run(tmp_path):
    """A call in the tree, in the config, or in a pickle within the pickle is refused or left alone, and never
    made."""
    marker, (cfg, tensors) = tmp_path / "ran", ({"policy": {}}, {"a": torch.ones(1)})
    for more in (
        {"more": Runs(marker)},
        {"pickles": {"epoch": Runs(marker)}},
        {"state_dicts": {"optimizer": Runs(marker)}},
    ):
        assert "no code in it was run: it names posix.system" in refused(
            saved(tmp_path / "evil.ckpt", cfg, tensors, **more)
        )
    assert "no code in it was run: it names posix.system" in refused(
        saved(tmp_path / "evil.ckpt", {"policy": Runs(marker)}, tensors)
    )
    within = {"pickles": {"epoch": pickle.dumps(Runs(marker))}}
    assert "no code in it was run: it names posix.system" in refused(
        saved(tmp_path / "evil.ckpt", cfg, tensors, **within)
    )
    unread = {"pickles": {"_output_dir": pickle.dumps(Runs(marker))}}
    assert "cannot be used" in refused(saved(tmp_path / "evil.ckpt", cfg, tensors, **unread))
    assert not marker.exists()


class Evaluates:
    def __reduce__(self):
        return eval, ("1 + 1",)


@pytest.mark.parametrize("place", ["cfg", "pickles", "state_dicts", "beside"])
def test_functions_have_no_place_beside_the_weights(tmp_path, place):
    """Configs note down types by name; `builtins.eval` is none, wherever it stands."""
    evil = {"epoch": Evaluates()}
    cfg, tensors = (
        evil if place == "cfg" else {},
        {"a": torch.ones(1)} | (evil if place == "state_dicts" else {}),
    )
    file = saved(
        tmp_path / "evil.ckpt", cfg, tensors, **({place: evil} if place in ("pickles", "beside") else {})
    )
    assert "eval, which does not belong here" in refused(file)


NO_TYPES = [
    "builtins.exec",
    "builtins.getattr",
    "omegaconf.os.system",
    "typing.sys",
    "omegaconf.dictconfig.DictConfig.__init__",
]


@pytest.mark.parametrize("name", NO_TYPES)
def test_names_that_are_no_types_are_not_known(name):
    module, _, kind = name.partition(".")
    assert not hydra_config.knows(Symbol(module, kind))
    assert not hydra_config.knows(Symbol(name.rpartition(".")[0], name.rpartition(".")[2]))


def test_the_types_of_configs_are_known():
    for name in (
        "builtins dict",
        "builtins NoneType",
        "typing Any",
        "omegaconf.dictconfig DictConfig",
        "omegaconf.nodes AnyNode",
    ):
        assert hydra_config.knows(Symbol(*name.split()))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02}.", b"nothing at all"])
def test_what_is_no_checkpoint_is_one_line(tmp_path, content):
    file = tmp_path / "x.ckpt"
    file.write_bytes(content)
    assert str(file) in refused(file)
    assert "cannot be read" in refused(tmp_path / "missing.ckpt")


def test_other_files_of_torch_and_truncated_ones_are_named(tmp_path):
    torch.save({"step": 1}, tmp_path / "other.ckpt")
    assert "a dict with cfg, state_dicts and pickles" in refused(tmp_path / "other.ckpt")
    file = unpacked("cnn", tmp_path)
    file.write_bytes(file.read_bytes()[:-1000])
    assert "refused, no code in it was run" in refused(file)
