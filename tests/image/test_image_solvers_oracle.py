"""Which `solver` and `grid` are which scheduler of diffusers, as it is configured for Stable Diffusion."""

import os

import pytest
import torch

from unveil.image.model import ImageModel
from unveil.image.settings import ImageSettings
from unveil.image.shape import ImageShape
from unveil.image.solvers import image_times, solver_of
from unveil.process.schedule import scaled_linear_betas
from unveil.sampling.loop import sample
from unveil.sampling.noise import Recorded

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is looked for
diffusers = pytest.importorskip("diffusers")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # of numpy, in diffusers

TABLE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}
ENTRIES = {"set_alpha_to_one": False, "timestep_spacing": "leading"}
MULTISTEP, EULER = "DPMSolverMultistepScheduler", "EulerDiscreteScheduler"
PAIRS = [
    ("ddim", "leading", "DDIMScheduler", ENTRIES | {"clip_sample": False}),
    ("pndm", "", "PNDMScheduler", ENTRIES | {"skip_prk_steps": True}),
    ("dpmpp", "linspace", MULTISTEP, {}),
    ("dpmpp", "leading", MULTISTEP, {"timestep_spacing": "leading"}),
    ("dpmpp", "trailing", MULTISTEP, {"timestep_spacing": "trailing"}),
    ("dpmpp_2m_sde", "linspace", MULTISTEP, {"algorithm_type": "sde-dpmsolver++"}),
    ("unipc", "", "UniPCMultistepScheduler", {}),
    ("unipc", "leading", "UniPCMultistepScheduler", {"timestep_spacing": "leading"}),
    ("euler", "", EULER, {}),
    ("euler", "leading", EULER, {"timestep_spacing": "leading"}),
    ("euler", "trailing", EULER, {"timestep_spacing": "trailing"}),
    ("euler", "karras", EULER, {"use_karras_sigmas": True}),
    ("euler", "exponential", EULER, {"use_exponential_sigmas": True}),
]


def model() -> ImageModel:
    torch.manual_seed(0)
    made = ImageModel(
        ImageShape(
            size=4,
            channels=1,
            width=8,
            multiples=(1,),
            attention=(),
            groups=4,
            stem=1,
            schedule="betas",
            betas=tuple(scaled_linear_betas().tolist()),
        )
    )
    with torch.no_grad():
        for weight in made.parameters():  # none is zero, as the last layer is when it is made
            weight.add_(0.05 * torch.randn(weight.shape))
    return made.eval()


@pytest.mark.parametrize(("solver", "grid", "kind", "options"), PAIRS)
@torch.no_grad()
def test_a_solver_and_a_grid_are_a_configured_scheduler(solver, grid, kind, options):
    """Their schedulers as they are, in single precision, on the same network. Euler's compute with x / alpha, and
    start from variance `init_noise_sigma`^2."""
    steps, ours = 11, model()
    scheduler = getattr(diffusers, kind)(**TABLE | options)
    scheduler.set_timesteps(steps)
    settings = ImageSettings(solver, steps, grid=grid)
    times, schedule = image_times(ours, settings), ours.denoiser.schedule
    noise, *draws = torch.randn((1 + steps, 2, 1, 4, 4), generator=torch.Generator().manual_seed(1))
    scale = float(scheduler.init_noise_sigma)
    x, stochastic = scale * noise, solver == "dpmpp_2m_sde"
    for i, t in enumerate(scheduler.timesteps):
        output = ours.denoiser.network(scheduler.scale_model_input(x, t), t.float().expand(2), None)
        told = {"variance_noise": draws[i]} if stochastic else {}
        x = scheduler.step(output, t, x, **told).prev_sample
    first = (float(schedule.alpha(times[0])) * scale if kind == EULER else 1.0) * noise
    recorded = Recorded(draws[:-1] if stochastic else [])
    got = sample(ours.denoiser, solver_of(ours, settings), first, times, generator=recorded)
    assert float((got - x).abs().max()) <= 2e-5 * float(x.abs().max())
