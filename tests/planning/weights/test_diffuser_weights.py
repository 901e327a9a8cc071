"""Every parameter of both releases has its name here, outputs are the original's to float32, and what
disagrees is refused."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from originals import ATTENTION, DATASET, PLAIN, VALUE, golden, rewrite, unpacked
from tolerance import golden_close
from unveil.errors import UnveilError
from unveil.planning.trajectory_model import TrajectoryModel, TrajectoryShape, ValueModel
from unveil.planning.weights.diffuser import Original, names, parameters
from unveil.planning.weights.diffuser_folder import read_checkpoint
from unveil.planning.weights.diffuser_models import model_of

HOPPER = Original(
    "diffusion",
    32,
    20,
    3,
    11,
    32,
    (1, 2, 4, 8),
    False,
    "x0",
    "GaussianNormalizer",
    DATASET,
    "SequenceDataset",
    clip_denoised=False,
)


@pytest.fixture
def logs(tmp_path):
    return unpacked(tmp_path) / DATASET


def network(model: nn.Module) -> nn.Module:
    return model.denoiser.network if isinstance(model, TrajectoryModel) else model.network


@pytest.mark.parametrize(
    ("original", "published"),
    [
        (HOPPER, 3_956_302),
        (replace(HOPPER, actions=6, observations=17), 3_958_327),
        (
            replace(HOPPER, actions=6, observations=17, multiples=(1, 4, 8), attention=True, horizon=4),
            4_114_423,
        ),
        (replace(HOPPER, actions=2, observations=4, multiples=(1, 4, 8), horizon=384), 3_682_118),
        (replace(HOPPER, kind="values"), 2_294_817),
        (
            replace(HOPPER, kind="values", actions=6, observations=17, multiples=(1, 4, 8), horizon=4),
            2_180_833,
        ),
    ],
)
def test_the_table_covers_all_parameters_of_the_published_shapes(original, published):
    shape = TrajectoryShape(
        original.horizon,
        20,
        original.actions,
        original.observations,
        32,
        original.multiples,
        attention=original.attention,
    )
    model = ValueModel(shape) if original.kind == "values" else TrajectoryModel(shape)
    table = names(original)
    assert len(set(table.values())) == len(table)
    assert set(table.values()) == {name for name, _ in model.named_parameters()}
    assert parameters(original) == published == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("experiment", "key"), [(PLAIN, "plain"), (ATTENTION, "attention"), (VALUE, "value")]
)
def test_outputs_are_the_originals(logs, experiment, key):
    wanted, read = golden("networks"), read_checkpoint(logs / experiment)
    x, t = wanted[f"{key}_x"], wanted[f"{key}_t"].float()
    for weights, name in ((read.averaged, "out"), (read.raw, "raw_out")):
        got = network(model_of(read.original, weights).eval())(x, t)
        golden_close(got.reshape(wanted[f"{key}_{name}"].shape), wanted[f"{key}_{name}"])
    assert (wanted[f"{key}_out"] - wanted[f"{key}_raw_out"]).abs().max() > 0.05


def test_the_horizon_may_change(logs):
    wanted, read = golden("networks"), read_checkpoint(logs / PLAIN)
    got = network(model_of(read.original, read.averaged))(wanted["plain_long_x"], torch.tensor([3.0, 11.0]))
    golden_close(got, wanted["plain_long_out"])


def test_models_speak_our_times(logs):
    """t = (i + 1) / T is the original's index i."""
    wanted, at = golden("networks"), golden("networks")["plain_t"].double() + 1
    read = read_checkpoint(logs / PLAIN)
    belief = model_of(read.original, read.averaged).denoiser(wanted["plain_x"], at / 20)
    golden_close(belief.mean, wanted["plain_out"])
    read = read_checkpoint(logs / VALUE)
    value = model_of(read.original, read.averaged)(wanted["value_x"], at / 20)
    golden_close(value, wanted["value_out"][:, 0])


def test_the_maze2d_release_has_no_place_for_attention(logs):
    def older(state):
        move = lambda name: name.replace(".3.conv", ".2.conv")  # noqa: E731
        return {k: {move(n): t for n, t in v.items()} if isinstance(v, dict) else v for k, v in state.items()}

    now = read_checkpoint(logs / PLAIN)
    rewrite(logs / PLAIN, older)
    then = read_checkpoint(logs / PLAIN)
    assert then.original == now.original and then.averaged.keys() == now.averaged.keys()
    assert all(torch.equal(then.averaged[n], now.averaged[n]) for n in now.averaged)


def edited(name, change):
    def run(state):
        for part in ("model", "ema"):
            state[part] = dict(state[part])
            state[part][name] = change(state[part][name])
        return state

    return run


def removed(name):
    def run(state):
        return {
            k: {n: t for n, t in v.items() if n != name} if isinstance(v, dict) else v
            for k, v in state.items()
        }

    return run


def added(name, tensor):
    def run(state):
        return {k: {**v, name: tensor} if isinstance(v, dict) else v for k, v in state.items()}

    return run


def spoiled(t):
    t = t.clone()
    t.view(-1)[0] = float("nan")
    return t


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            removed("model.mid_block1.blocks.0.block.0.bias"),
            "1 tensors are missing ['model.mid_block1.blocks.0.block.0.bias']",
        ),
        (removed("posterior_variance"), "1 tensors are missing ['posterior_variance']"),
        (removed("model.final_conv.1.weight"), "neither a TemporalUnet nor a ValueFunction"),
        (removed("model.time_mlp.3.bias"), "model.time_mlp.3.bias is missing"),
        (
            removed("model.downs.1.0.blocks.0.block.0.bias"),
            "the configs say dim_mults = (1, 2), the tensors (1,)",
        ),
        (
            added("model.downs.0.0.cond_mlp.1.weight", torch.zeros(2)),
            "1 are foreign ['model.downs.0.0.cond_mlp.1.weight']",
        ),
        (added("normalizer.means", torch.zeros(5)), "1 are foreign ['normalizer.means']"),
        (
            edited("model.final_conv.1.weight", spoiled),
            "model.final_conv.1.weight holds numbers that are not finite",
        ),
        (edited("betas", lambda t: t * 0.5), "betas is not the cosine schedule in 20 steps"),
        (edited("betas", lambda t: t[:-1]), "the configs say n_timesteps = 20, the tensors 19"),
        (
            edited("alphas_cumprod", lambda t: t.flip(0)),
            "alphas_cumprod is not the cosine schedule in 20 steps",
        ),
        (
            edited("posterior_mean_coef1", lambda t: t[None]),
            "posterior_mean_coef1 has shape (1, 20), needed is (20,)",
        ),
        (edited("loss_fn.weights", lambda t: t[:4]), "loss_fn.weights has shape (4, 5)"),
        (
            edited("model.mid_block1.blocks.0.block.0.weight", lambda t: t[:, :, :3].contiguous()),
            "has shape (16, 16, 3), needed is (16, 16, 5)",
        ),
        (
            edited("model.mid_block2.time_mlp.1.weight", lambda t: t[None]),
            "has shape (1, 16, 8), needed is (16, 8)",
        ),
        (
            edited("model.downs.0.0.blocks.0.block.0.weight", lambda t: t[:, :4].contiguous()),
            "loss_fn.weights has shape (8, 5), but horizon and features are 8 and 4",
        ),
        (
            edited("model.downs.0.0.blocks.0.block.0.bias", lambda t: t[:4]),
            "not a network of jannerm/diffuser",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_refused(logs, change, message):
    rewrite(logs / PLAIN, change)
    with pytest.raises(UnveilError) as error:
        read_checkpoint(logs / PLAIN)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_nan_in_the_averaged_weights_only_is_refused_too(logs):
    def change(state):
        state["ema"]["model.final_conv.1.bias"] = spoiled(state["ema"]["model.final_conv.1.bias"])
        return state

    rewrite(logs / PLAIN, change)
    with pytest.raises(UnveilError, match=r"model\.final_conv\.1\.bias holds numbers that are not finite"):
        read_checkpoint(logs / PLAIN)


def test_a_value_that_flattens_several_places_is_refused(logs):
    rewrite(logs / VALUE, edited("model.final_block.0.weight", lambda t: torch.cat([t, t[:, :8]], dim=1)))
    with pytest.raises(UnveilError, match="it flattens several positions"):
        read_checkpoint(logs / VALUE)


def test_attention_is_in_the_tensors_or_not(logs):
    rewrite(logs / ATTENTION, removed("model.ups.0.2.fn.norm.g"))
    with pytest.raises(UnveilError, match=r"1 tensors are missing \['model.ups.0.2.fn.norm.g'\]"):
        read_checkpoint(logs / ATTENTION)
