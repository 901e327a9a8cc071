"""diffusers itself as the oracle: its networks of many options, and its samplers, beside what we read from
its folders."""

import os

import pytest
import torch

from tolerance import golden_close

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is looked for

from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel

from unveil.image.recipes.convert import load_images
from unveil.network.condition import Condition
from unveil.sampling.gaussian import DDIM, Ancestral
from unveil.sampling.guidance import clipped
from unveil.sampling.loop import sample

SMALL = {
    "sample_size": 16,
    "in_channels": 3,
    "out_channels": 3,
    "norm_num_groups": 8,
    "attention_head_dim": 8,
}
KINDS = {
    "two levels": {
        "block_out_channels": (16, 32),
        "down_block_types": ("DownBlock2D",) * 2,
        "up_block_types": ("UpBlock2D",) * 2,
    },
    "attention on top, three blocks": {
        "block_out_channels": (16, 16),
        "layers_per_block": 3,
        "down_block_types": ("AttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "AttnUpBlock2D"),
    },
    "classes, scale and shift": {
        "block_out_channels": (16, 32),
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "num_class_embeds": 5,
        "resnet_time_scale_shift": "scale_shift",
        "flip_sin_to_cos": False,
        "freq_shift": 1,
    },
    "grey, halved by blocks": {
        "in_channels": 1,
        "out_channels": 1,
        "block_out_channels": (8, 16, 16),
        "layers_per_block": 1,
        "down_block_types": ("ResnetDownsampleBlock2D",) * 3,
        "up_block_types": ("ResnetUpsampleBlock2D",) * 3,
        "norm_eps": 1e-6,
    },
}


def theirs(kind: str) -> UNet2DModel:
    """One of random weights; none is zero, as layers at the end are when they are made."""
    torch.manual_seed(0)
    network = UNet2DModel(**(SMALL | KINDS[kind])).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.05 * torch.randn(weight.shape))
    return network


@pytest.mark.parametrize("kind", KINDS)
def test_networks_of_many_options_compute_what_theirs_do(kind, tmp_path):
    network = theirs(kind)
    DDPMPipeline(network, DDPMScheduler()).save_pretrained(tmp_path)
    model = load_images(tmp_path, "cpu")
    x = torch.randn(3, network.config.in_channels, 16, 16, generator=torch.Generator().manual_seed(1))
    times, labels = torch.tensor([0, 17, 999]), torch.tensor([4, 0, 2])
    told = {"class_labels": labels} if network.config.num_class_embeds else {}
    with torch.no_grad():
        wanted = network(x, times, **told).sample
        found = model.denoiser.network(x, times.float(), Condition(label=labels) if told else None)
    golden_close(found, wanted)


@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("betas", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_ddim_walks_the_table_as_theirs_does(predicts, betas, tmp_path):
    """From one state through the last forty of a thousand entries, the noise taken anew from the clipped
    picture."""
    network = theirs("two levels")
    table = {
        "num_train_timesteps": 1000,
        "prediction_type": predicts,
        "clip_sample": True,
        "beta_schedule": betas,
    }
    DDPMPipeline(network, DDPMScheduler(**table)).save_pretrained(tmp_path)
    model = load_images(tmp_path, "cpu")
    begin = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    scheduler = DDIMScheduler(**table)
    scheduler.alphas_cumprod = (1.0 - scheduler.betas.double()).cumprod(
        0
    )  # in single precision the clean end loses 1 - alpha
    scheduler.set_timesteps(1000)
    x = begin
    with torch.no_grad():
        for t in scheduler.timesteps[-40:]:
            x = scheduler.step(network(x, t).sample, t, x, eta=0.0, use_clipped_model_output=True).prev_sample
    times = torch.arange(40, -1, -1, dtype=torch.float64) / 1000
    ours = sample(clipped(model.denoiser, -1.0, 1.0), DDIM(model.denoiser.schedule), begin, times)
    golden_close(ours, x, 2048)  # forty steps


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_a_step_of_ddpm_has_their_mean_and_variance(variance, tmp_path):
    """With the same noise, at five entries of the table."""
    network = theirs("two levels")
    scheduler = DDPMScheduler(clip_sample=True, variance_type=variance)
    DDPMPipeline(network, scheduler).save_pretrained(tmp_path)
    model = load_images(tmp_path, "cpu")
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    solver = Ancestral(model.denoiser.schedule, variance.removeprefix("fixed_"))
    for k in (1, 5, 300, 700, 999):
        with torch.no_grad():
            theirs_drawn = scheduler.step(
                network(x, k).sample, k, x, generator=torch.Generator().manual_seed(3)
            ).prev_sample
        times = torch.tensor([(k + 1) / 1000, k / 1000], dtype=torch.float64)
        ours, _ = solver.step(
            clipped(model.denoiser, -1.0, 1.0), x, times[0], times[1], None, torch.Generator().manual_seed(3)
        )
        golden_close(ours, theirs_drawn, 1024)  # their table is float32
