"""Names, configs and tables of Stable Diffusion, beside diffusers and the rules of the reference."""

from dataclasses import replace

import pytest
import torch

pytest.importorskip("unveil.image.networks.clip")
pytest.importorskip("unveil.image.networks.autoencoder")

from stable_diffusion_pipelines import compvis_unet, compvis_vae, unet
from unveil.image.networks.autoencoder import KL_F8, AutoencoderShape
from unveil.image.networks.unet2d import UNet2dShape
from unveil.image.weights import stable_diffusion_autoencoder as autoencoders
from unveil.image.weights import stable_diffusion_unet as unets
from unveil.image.weights.stable_diffusion_description import predicted
from unveil.image.weights.stable_diffusion_writing import schedule_buffers
from unveil.process.schedule import scaled_linear_betas


@pytest.mark.parametrize(
    ("version", "use"),
    [("1", "text to image"), ("1", "inpainting"), ("2", "depth to image"), ("2", "x4 upscaler")],
)
def test_the_tables_of_the_unet_are_the_rules_of_the_reference(version, use):
    """Both tables cover diffusers' parameters, one name each; the config gives the shape, and the shape the
    config."""
    theirs = unet(version, use)
    shape = unets.shape_of_config(dict(theirs.config))
    ours, compvis = unets.diffusers_names(shape), unets.compvis_names(shape)
    assert set(ours.values()) == set(theirs.state_dict())
    assert {compvis[name]: name for name in compvis} == {compvis_unet(ours[name], use): name for name in ours}
    config = unets.config_of_shape(shape, 8)
    assert unets.shape_of_config(config) == shape
    again = type(theirs).from_config(config)
    assert {k: v.shape for k, v in again.state_dict().items()} == {
        k: v.shape for k, v in theirs.state_dict().items()
    }


@pytest.mark.parametrize(
    "shape", [KL_F8, AutoencoderShape(3, 32, (1, 2), 2, 4), AutoencoderShape(3, 8, (1, 2, 4), 1, 3, 4)]
)
def test_the_tables_of_the_autoencoder_are_the_rules_of_the_reference(shape):
    from diffusers import AutoencoderKL

    with torch.device("meta"):
        theirs = AutoencoderKL.from_config(autoencoders.config_of_shape(shape, 0.5, 64))
    state, names = theirs.state_dict(), autoencoders.diffusers_names(shape)
    assert set(names.values()) == set(state)
    levels, shapes = len(shape.multiples), autoencoders.parameters(shape)
    compvis = autoencoders.compvis_names(shape)
    for name, other in names.items():
        rule, value = compvis_vae(other, torch.empty(shapes[name], device="meta"), levels)
        assert compvis[name] == rule and shapes[name] == state[other].shape
        assert value.ndim == (4 if "attn_1" in rule and shapes[name][1:] else len(shapes[name]))
    assert autoencoders.shape_of_config(dict(theirs.config)) == (shape, 0.5)
    tensors = {rule: torch.empty(shapes[name], device="meta") for name, rule in compvis.items()}
    assert replace(autoencoders.shape_of_tensors(tensors), groups=shape.groups) == shape


def test_the_heads_of_diffusers_config_are_a_number_or_one_for_each_level():
    def heads(value):
        config = {"attention_head_dim": value, "cross_attention_dim": 1024}
        shape = unets.shape_of_config(config)
        return shape.heads, shape.head_width

    assert heads(8) == (8, 0) and heads([5, 10, 20, 20]) == (1, 64)
    with pytest.raises(ValueError, match="neither one number nor heads of one width"):
        heads([5, 10, 20, 10])


def test_stable_diffusion_2_is_the_default_config_with_its_three_fields():
    config = {
        "attention_head_dim": [5, 10, 20, 20],
        "cross_attention_dim": 1024,
        "use_linear_projection": True,
    }
    wanted = UNet2dShape(
        4, 320, (1, 2, 4, 4), 2, (0, 1, 2), 64, context=1024, linear_projection=True, time_width=320,
        cross="transformer", cosine_first=True, inclusive=False, norm_epsilon=1e-5,
    )  # fmt: skip
    assert unets.shape_of_config(config) == wanted


def test_what_a_single_file_predicts_and_why():
    def said(version=2, use="text to image", given=None, metadata=None, yaml="", scalars=None):
        return predicted(version, use, given, metadata or {}, yaml, scalars or {})

    assert said(1) == ("eps", "version 1") and said(1, given="v") == ("v", "given")
    assert said(metadata={"modelspec.prediction_type": "epsilon"})[0] == "eps"
    assert said(metadata={"modelspec.prediction_type": "v"})[0] == "v"
    assert said(yaml='model:\n  params:\n    parameterization: "v"\n')[0] == "v"
    assert said(yaml="model:\n  params:\n    parameterization: eps # v\n")[0] == "eps"
    assert said(scalars={"global_step": 875_000})[0] == "eps" and said(scalars={"global_step": 1})[0] == "v"
    assert said(use="inpainting")[0] == said(use="depth to image")[0] == "eps"
    assert said(use="x4 upscaler")[0] == "v" and "a guess" in said()[1]


def test_tables_are_those_of_ancestral_sampling():
    """q(x_{t-1} | x_t, x_0) in closed form, and the tables of CompVis as float32."""
    tables = {
        k: v.double()
        for k, v in schedule_buffers(tuple(scaled_linear_betas(1000, 0.00085, 0.012).tolist())).items()
    }
    assert len(tables) == 12 and all(v.shape == (1000,) for v in tables.values())
    bar = tables["alphas_cumprod"]
    assert abs(float(bar[0]) - 0.99915) < 1e-6 and abs(float(bar[-1]) - 0.00466) < 1e-5
    # the posterior's mean of x_t = sqrt(bar_t) x_0 is sqrt(bar_{t-1}) x_0
    mean = tables["posterior_mean_coef1"] + tables["posterior_mean_coef2"] * bar.sqrt()
    torch.testing.assert_close(mean, tables["alphas_cumprod_prev"].sqrt(), rtol=1e-4, atol=1e-5)
    # and its variance that of x_{t-1} given x_0, less what x_t explains
    spread = 1.0 - tables["alphas_cumprod_prev"] - tables["posterior_mean_coef2"] ** 2 * (1.0 - bar)
    torch.testing.assert_close(tables["posterior_variance"], spread, rtol=1e-2, atol=1e-6)
