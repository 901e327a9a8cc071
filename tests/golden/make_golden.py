"""Golden numbers: run the reference implementations on a toy network and store inputs and outputs as small
.npz files beside this file.

Runs OUTSIDE the test environment (the project never depends on diffusers or k-diffusion):

    python3 -m venv golden-env
    golden-env/bin/pip install torch==2.13.0 numpy scipy pillow safetensors torchdiffeq torchsde
    golden-env/bin/pip install diffusers==0.42.1
    golden-env/bin/pip install --no-deps k-diffusion==0.1.1.post1 dctorch einops
    golden-env/bin/python tests/golden/make_golden.py

Only public calls of the reference packages are made. Two adjustments, both for precision: diffusers keeps its
tables in float32, so unless a file says "shipped" `alphas_cumprod` is set to the cumulative product, in
float64, of the scheduler's own (float32) betas; and k-diffusion makes its sigmas in torch's default dtype,
which is float64 here while it does so. k-diffusion's training-only imports (torchvision) are replaced by
empty modules: `sampling` and `layers.Denoiser` never touch them.
"""

import sys
import types
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import diffusers
import numpy as np
import torch
from diffusers.training_utils import compute_snr
from diffusers.utils.torch_utils import randn_tensor

SHAPE = (2, 3, 4)
BETAS = {
    "linear": {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02},
    "scaled_linear": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
}


def k_diffusion_modules():
    """k_diffusion.sampling and k_diffusion.layers without what only its training needs."""
    package = types.ModuleType("k_diffusion")
    package.__path__ = list(find_spec("k_diffusion").submodule_search_locations)
    transforms = types.ModuleType("torchvision.transforms")
    transforms.functional = types.ModuleType("torchvision.transforms.functional")
    vision = types.ModuleType("torchvision")
    sys.modules.update({"k_diffusion": package, "torchvision": vision, "torchvision.transforms": transforms})
    from k_diffusion import layers, sampling

    return sampling, layers


def toy(x, t):
    """The "network": smooth, deterministic, no weights. t: a number or (B,)."""
    t = torch.as_tensor(t, dtype=torch.float64).reshape(-1, *[1] * (x.ndim - 1))
    return 0.7 * torch.sin(1.3 * x) + 0.1 * torch.cos(t / 137.0)


def toy_learned(x, t):
    """The toy with a second half of the channels for the variance, in [-1, 1]."""
    t_ = torch.as_tensor(t, dtype=torch.float64).reshape(-1, *[1] * (x.ndim - 1))
    return torch.cat([toy(x, t), torch.sin(x + t_ / 200.0)], dim=1)


def normal(seed, *shape):
    return randn_tensor(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def double(scheduler):
    """The scheduler with its own table in float64."""
    scheduler.alphas_cumprod = (1.0 - scheduler.betas.double()).cumprod(0)
    return scheduler


def save(name, arrays):
    path = Path(__file__).parent / f"{name}.npz"
    np.savez_compressed(path, **{key: np.asarray(value) for key, value in arrays.items()})
    print(f"{path.name}: {path.stat().st_size} bytes")


def follow(scheduler, network, x, **step):
    """Every state after x. A callable among `step` is called with the step's number."""
    states = []
    for i, t in enumerate(scheduler.timesteps):
        here = {key: value(i) if callable(value) else value for key, value in step.items()}
        x = scheduler.step(network(x, t), t, x, **here).prev_sample
        if (
            getattr(scheduler, "state_in_first_order", True) or i == len(scheduler.timesteps) - 1
        ):  # Heun reports its half steps, too
            states.append(x)
    return torch.stack(states)


def tables(sampling):
    out = {name: diffusers.DDPMScheduler(**arguments).betas for name, arguments in BETAS.items()}
    for steps in (7, 20, 30, 64):
        scheduler = diffusers.DDIMScheduler(timestep_spacing="trailing")
        scheduler.set_timesteps(steps)
        out[f"trailing_{steps}"] = scheduler.timesteps
    out["karras_18"] = sampling.get_sigmas_karras(18, 0.002, 80.0)
    save("tables", out)


def ddpm():
    x, steps = normal(0, *SHAPE), 20
    generator = torch.Generator().manual_seed(1)
    out = {
        "x": x,
        "noise": torch.stack(
            [randn_tensor(SHAPE, generator=generator, dtype=torch.float64) for _ in range(steps)]
        ),
    }
    for spacing in ("trailing", "leading"):
        for variance in ("fixed_small", "fixed_large", "learned_range"):
            scheduler = diffusers.DDPMScheduler(
                variance_type=variance, clip_sample=False, timestep_spacing=spacing, **BETAS["linear"]
            )
            shipped_also = (scheduler, double(diffusers.DDPMScheduler.from_config(scheduler.config)))
            for kind, scheduler in zip(("shipped_", ""), shipped_also, strict=True):
                if kind and (variance, spacing) != ("fixed_small", "trailing"):
                    continue
                scheduler.set_timesteps(steps)
                network = toy_learned if variance == "learned_range" else toy
                out[f"{spacing}_timesteps"] = scheduler.timesteps
                generator = torch.Generator().manual_seed(1)
                out[f"{kind}{spacing}_{variance}"] = follow(scheduler, network, x, generator=generator)
    save("ddpm", out)


def ddim():
    x, steps = normal(2, *SHAPE), 10
    noise = normal(3, steps, *SHAPE)
    out = {"x": x, "noise": noise}
    for name, arguments in BETAS.items():
        for prediction in ("epsilon", "v_prediction"):
            for eta in (0.0, 0.5, 1.0):
                scheduler = diffusers.DDIMScheduler(
                    prediction_type=prediction,
                    clip_sample=False,
                    set_alpha_to_one=True,
                    timestep_spacing="trailing",
                    **arguments,
                )
                double(scheduler).set_timesteps(steps)
                out["timesteps"] = scheduler.timesteps
                out[f"{name}_{prediction}_{eta}"] = follow(
                    scheduler, toy, x, eta=eta, variance_noise=lambda i: noise[i]
                )
    save("ddim", out)


def dpm():
    x = normal(4, *SHAPE)
    out = {"x": x}
    for name, prediction in (
        ("linear", "epsilon"),
        ("scaled_linear", "v_prediction"),
        ("cosine", "v_prediction"),
    ):
        scheduler = diffusers.DPMSolverMultistepScheduler(
            algorithm_type="dpmsolver++",
            solver_order=2,
            solver_type="midpoint",
            final_sigmas_type="zero",
            prediction_type=prediction,
            timestep_spacing="trailing",
            **BETAS[name],
        )
        double(scheduler).set_timesteps(20)
        out["timesteps"] = scheduler.timesteps
        out[f"{name}_{prediction}"] = follow(scheduler, toy, x)
    save("dpm", out)


def edm(sampling, layers):
    model = layers.Denoiser(lambda x, sigma: toy(x, 250.0 * sigma.log()), sigma_data=0.5)
    sigmas = sampling.get_sigmas_karras(18, 0.002, 80.0)
    x = sigmas[0] * normal(5, *SHAPE)
    torch.manual_seed(6)
    noise = torch.stack([torch.randn_like(x) for _ in range(18)])
    out = {"x": x, "sigmas": sigmas, "noise": noise}

    def run(sampler, **arguments):
        states = []
        torch.manual_seed(6)
        last = sampler(
            model, x, sigmas, callback=lambda info: states.append(info["x"]), disable=True, **arguments
        )
        return torch.stack(
            [*states[1:], last]
        )  # with churn, states after the first hold the added noise, too

    out["heun"] = run(sampling.sample_heun)
    out["euler"] = run(sampling.sample_euler)
    out["dpmpp_2m"] = run(sampling.sample_dpmpp_2m)
    for churn in (5.0, 40.0):
        out[f"heun_churn_{churn:g}"] = run(
            sampling.sample_heun, s_churn=churn, s_tmin=0.05, s_tmax=50.0, s_noise=1.003
        )[-1:]
    for eta in (0.5, 1.0):
        draws = iter(noise)
        sampler = {"eta": eta, "noise_sampler": lambda now, after, draws=draws: next(draws)}
        out[f"euler_ancestral_{eta}"] = run(sampling.sample_euler_ancestral, **sampler)
    levels = torch.tensor([0.002, 0.05, 0.5, 2.0, 10.0, 80.0], dtype=torch.float64)
    clean, added = normal(7, 6, 3, 4), normal(8, 6, 3, 4)
    out |= {
        "loss_x_0": clean,
        "loss_noise": added,
        "loss_sigma": levels,
        "loss": model.loss(clean, added, levels),
    }
    save("edm", out)


def flow():
    x = normal(9, *SHAPE)
    out = {"x": x}
    for name, scheduler in (
        ("euler", diffusers.FlowMatchEulerDiscreteScheduler(shift=1.0)),
        ("euler_shift_3", diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)),
        ("heun", diffusers.FlowMatchHeunDiscreteScheduler(shift=1.0)),
    ):
        scheduler.set_timesteps(20)
        out[f"{name}_sigmas"] = scheduler.sigmas
        out[name] = follow(scheduler, lambda x, t: toy(x, t.double()), x)
    save("flow", out)


def objective():
    clean, noise = normal(10, 6, 3, 4), normal(11, 6, 3, 4)
    timesteps = torch.tensor([0, 10, 100, 400, 800, 999])
    out = {"x_0": clean, "noise": noise, "timesteps": timesteps}
    for name, arguments in BETAS.items():
        scheduler = double(diffusers.DDPMScheduler(**arguments))
        x_t = scheduler.add_noise(clean, noise, timesteps)
        out[f"{name}_x_t"] = x_t
        for prediction, target in (
            ("epsilon", noise),
            ("v_prediction", scheduler.get_velocity(clean, noise, timesteps)),
        ):
            out[f"{name}_{prediction}"] = (
                torch.nn.functional.mse_loss(toy(x_t, timesteps), target, reduction="none").flatten(1).mean(1)
            )
        out[f"{name}_snr"] = compute_snr(scheduler, timesteps)
    save("objective", out)


def guidance():
    cond, null = normal(12, *SHAPE), normal(13, *SHAPE)
    out = {"cond": cond, "null": null}
    for scale in (1.0, 3.0, 7.5):
        for rescale in (0.0, 0.7, 1.0):
            guider = diffusers.ClassifierFreeGuidance(guidance_scale=scale, guidance_rescale=rescale)
            out[f"cfg_{scale}_{rescale}"] = guider.forward(cond, null).pred
    scheduler = diffusers.DDIMScheduler(
        prediction_type="sample",
        clip_sample=False,
        thresholding=True,
        dynamic_thresholding_ratio=0.9,
        sample_max_value=1e6,
    )
    scheduler.set_timesteps(10)
    for name, mean in (("threshold_far", 4.0 * cond), ("threshold_near", 0.1 * cond)):
        out[name] = scheduler.step(mean, scheduler.timesteps[0], null).pred_original_sample
    save("guidance", out)


if __name__ == "__main__":
    print({name: version(name) for name in ("torch", "numpy", "diffusers", "k-diffusion", "dctorch")})
    ddpm()
    ddim()
    dpm()
    flow()
    objective()
    guidance()
    sampling_module, layers_module = k_diffusion_modules()
    torch.set_default_dtype(torch.float64)  # k-diffusion's grids
    tables(sampling_module)
    edm(sampling_module, layers_module)
