"""Solvers and grids of images by name: each pair that the settings allow makes images on every kind of model, or
says in one line why not."""

import re
from typing import get_args, get_type_hints

import pytest
import torch

from unveil.image.generation import generate
from unveil.image.model import ImageModel
from unveil.image.sampler_names import SAMPLERS, SCHEDULES, sampler_and_schedule, solver_and_grid
from unveil.image.settings import NOISY, ImageSettings
from unveil.image.shape import ImageShape
from unveil.image.solvers import image_times, solver_of
from unveil.process.grid import karras, leading, linspace, respaced, sgm_uniform, trailing, uniform
from unveil.process.schedule import log_snr
from unveil.sampling.gaussian import DDIM, PNDM, DPMpp2MSDE, DPMppSDE, EulerAncestral

SMALL = {
    "size": 4,
    "channels": 1,
    "width": 8,
    "multiples": (1,),
    "blocks": 1,
    "attention": (),
    "groups": 4,
    "stem": 1,
}
KINDS = {
    "table": {"schedule": "cosine", "predicts": "v", "diffusion_steps": 100},
    "flow": {"schedule": "flow", "predicts": "flow"},
    "edm": {"schedule": "karras", "predicts": "edm"},
}
HINTS = get_type_hints(ImageSettings)
SOLVERS, GRIDS = get_args(HINTS["solver"]), get_args(HINTS["grid"])


def model_of(kind: str, **changes) -> ImageModel:
    torch.manual_seed(0)
    return ImageModel(ImageShape(**SMALL | KINDS[kind] | changes))


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_every_pair_makes_images_or_says_why_not(solver, grid):
    for kind in KINDS:
        model, settings = model_of(kind), ImageSettings(solver, 3, grid=grid)
        refused = {
            "lcm": kind != "table" and "`solver=lcm` is for models that were distilled",
            "pndm": kind == "flow" and "`solver=pndm` mixes predictions of the noise at even times",
        }.get(solver) or (
            kind != "table"
            and grid not in ("", "karras", "exponential")
            and f"`grid={grid}` takes entries of a table of betas"
        )
        if refused:
            with pytest.raises(ValueError, match=re.escape(refused)) as caught:
                image_times(model, settings)
            assert "\n" not in str(caught.value)
            continue
        times = image_times(model, settings)
        assert len(times) == 4 and times.dtype == torch.float64 and bool((times.diff() < 0).all())
        if not grid or solver == "dpmpp_sde":
            made = generate(model, None, 2, settings, 0)
            two = {"heun", "dpmpp_sde"}
            assert made.calls == (5 if solver in two else 4 if solver == "pndm" else 3)
            assert torch.equal(made.pixels[1:], generate(model, None, 2, settings, 0, batch=1).pixels[1:])


def test_the_usual_times_are_those_of_before_or_stable_diffusions():
    table, flow = model_of("table", diffusion_steps=1000), model_of("flow")
    low, high = (
        (-0.5 * log_snr(table.denoiser.schedule, torch.tensor([0.001, 1.0], dtype=torch.float64)))
        .exp()
        .tolist()
    )
    spaced = karras(table.denoiser.schedule, 7, max(low, 0.002), min(high, 80.0))
    usual = {
        "ddim": respaced(1000, (7,)),
        "ddpm": respaced(1000, (7,)),
        "dpmpp": spaced,
        "heun": spaced,
        "dpmpp_sde": spaced,
        "euler": linspace(1000, 7),
        "euler_ancestral": linspace(1000, 7),
        "pndm": leading(1000, 7),
        "unipc": sgm_uniform(1000, 7, rounded=True),
    }
    for solver, times in usual.items():
        torch.testing.assert_close(image_times(table, ImageSettings(solver, steps=7)), times, rtol=0, atol=0)
    for solver in ("ddim", "ddpm", "heun", "euler", "euler_ancestral"):
        assert torch.equal(image_times(flow, ImageSettings(solver, steps=7)), uniform(7))
    levels = -0.5 * log_snr(flow.denoiser.schedule, image_times(flow, ImageSettings("dpmpp_2m_sde"))[:-1])
    torch.testing.assert_close(levels.diff(), levels.diff()[:1].expand(19))  # log(sigma / alpha)


def test_linspace_leading_and_trailing_depend_on_diffusers_scheduler():
    model = model_of("table", diffusion_steps=1000)

    def entries(solver: str, grid: str, steps: int = 4) -> list[int]:
        return (image_times(model, ImageSettings(solver, steps, grid=grid)) * 1000).round().int().tolist()

    assert entries("ddim", "leading") == entries("pndm", "leading") == [752, 502, 252, 2, 1]
    assert entries("euler", "leading") == entries("dpmpp_sde", "leading") == [752, 502, 252, 2, 0]
    assert entries("dpmpp", "leading") == entries("unipc", "leading") == [802, 602, 402, 202, 0]
    assert entries("dpmpp", "linspace") == [1000, 750, 501, 251, 0]
    assert entries("euler", "linspace") == entries("ddim", "linspace") == [1000, 667, 334, 1, 0]
    assert entries("dpmpp_2m_sde", "trailing") == [1000, 750, 500, 250, 0]
    assert entries("pndm", "trailing") == [1000, 750, 500, 250, 1]
    assert torch.equal(image_times(model, ImageSettings("heun", 4, grid="trailing")), trailing(1000, 4))
    with pytest.raises(ValueError, match="take fewer `steps`"):
        entries("ddim", "leading", 1000)


def test_eta_has_a_default_for_each_solver():
    model = model_of("table")
    made = {name: solver_of(model, ImageSettings(name)) for name in (*NOISY, "pndm")}
    assert [made[name].eta for name in NOISY] == [0.0, 1.0, 1.0, 1.0]
    kinds = (DDIM, EulerAncestral, DPMpp2MSDE, DPMppSDE)
    for name, kind in zip(NOISY, kinds, strict=True):
        chosen = solver_of(model, ImageSettings(name, eta=0.25))
        assert isinstance(chosen, kind) and chosen.eta == 0.25
    assert isinstance(made["pndm"], PNDM) and made["pndm"].mixes == "eps"  # of a model that predicts v
    with pytest.raises(ValueError, match="`eta` needs `solver` ddim or euler_ancestral"):
        ImageSettings("unipc", eta=0.5)
    assert ImageSettings("unipc", eta=0.0).eta == 0.0  # as older PNG files say


def test_a_grid_excludes_what_else_chooses_times():
    with pytest.raises(ValueError, match="`grid` and `spacing` both choose the times"):
        ImageSettings("ddim", grid="karras", spacing="quadratic")
    with pytest.raises(ValueError, match="`grid` and `respacing` both choose the times"):
        ImageSettings("ddim", grid="karras", respacing="ddim25")


def test_a1111s_names_and_back():
    assert solver_and_grid("Euler a") == ("euler_ancestral", "")
    assert solver_and_grid("DPM++ 2M", "Karras") == solver_and_grid("DPM++ 2M Karras") == ("dpmpp", "karras")
    assert solver_and_grid("DPM++ 2M SDE Exponential") == ("dpmpp_2m_sde", "exponential")
    assert solver_and_grid("DPM++ 2M SDE", "automatic") == ("dpmpp_2m_sde", "")
    assert solver_and_grid("dpm++ sde", "sgm_uniform") == ("dpmpp_sde", "sgm_uniform")
    assert solver_and_grid("DDIM") == ("ddim", "leading")
    assert solver_and_grid("Euler", "Uniform") == ("euler", "uniform")
    assert sampler_and_schedule("dpmpp", "") == ("DPM++ 2M", "Automatic")
    assert sampler_and_schedule("ddim", "leading") == ("DDIM", "Automatic")
    assert sampler_and_schedule("ddim", "") == ("DDIM", "Default")
    for solver in SOLVERS:
        for grid in GRIDS:
            assert solver_and_grid(*sampler_and_schedule(solver, grid)) == (solver, grid)
    assert {solver for solver, _ in SAMPLERS.values()} == set(SOLVERS)
    assert set(SCHEDULES.values()) == set(GRIDS)
    for call, message in (
        (lambda: solver_and_grid("DPM fast"), "sampler 'DPM fast' is not known; there are Euler a, "),
        (
            lambda: solver_and_grid("Euler", "Beta"),
            "schedule type 'Beta' is not known; there are Automatic, ",
        ),
        (lambda: solver_and_grid("Euler Karras", "Uniform"), "sampler 'Euler Karras' is not known"),
        (lambda: sampler_and_schedule("rk45", ""), "`solver=rk45` with `grid=` has no name"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            call()
