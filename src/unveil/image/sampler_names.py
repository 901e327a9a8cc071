"""Samplers and schedule types by the names of A1111's web UI, for infotext and servers; free of torch."""

from __future__ import annotations

from unveil.checks import shown
from unveil.image.settings import GridName, SolverName

SAMPLERS: dict[str, tuple[SolverName, GridName]] = {
    "Euler a": ("euler_ancestral", ""),
    "Euler": ("euler", ""),
    "Heun": ("heun", "uniform"),
    "DPM++ 2M": ("dpmpp", ""),
    "DPM++ SDE": ("dpmpp_sde", ""),
    "DPM++ 2M SDE": ("dpmpp_2m_sde", ""),
    "DDIM": ("ddim", "leading"),
    "PLMS": ("pndm", ""),
    "UniPC": ("unipc", ""),
    "LCM": ("lcm", ""),
    "DDPM": ("ddpm", ""),
}
"""`solver`, and `grid` of the schedule type "Automatic". DDPM is a name of ours. UniPC has order 2 here and
in diffusers, 3 in A1111's web UI."""

SCHEDULES: dict[str, GridName] = {
    "Uniform": "uniform",
    "Karras": "karras",
    "Exponential": "exponential",
    "SGM Uniform": "sgm_uniform",
    "Linspace": "linspace",
    "Leading": "leading",
    "Trailing": "trailing",
    "Default": "",
}
"""`grid` of the other schedule types; the last four are names of ours, and "Default" is written only where it
differs from "Automatic"."""


def solver_and_grid(sampler: str, schedule: str = "Automatic") -> tuple[SolverName, GridName]:
    """`solver` and `grid` of a sampler and a schedule type.

    Capital letters do not matter, nor whether words are separated by spaces or underscores. Sampler names of
    A1111's web UI before 1.9 end with the schedule type, such as "DPM++ 2M Karras".

    Raises:
        ValueError: a name that is not known here.
    """
    samplers = {_plain(name): pair for name, pair in SAMPLERS.items()}
    schedules: dict[str, GridName] = {_plain(name): grid for name, grid in SCHEDULES.items()}
    name, kind = _plain(sampler), _plain(schedule)
    if name not in samplers:
        ending = next((it for it in schedules if name.endswith(f" {it}")), "")
        if ending and kind == "automatic":
            name, kind = name.removesuffix(f" {ending}"), ending
    if name not in samplers:
        raise ValueError(f"sampler {shown(sampler)} is not known; there are {', '.join(SAMPLERS)}")
    if kind not in ("automatic", *schedules):
        raise ValueError(
            f"schedule type {shown(schedule)} is not known; there are Automatic, {', '.join(SCHEDULES)}"
        )
    solver, usual = samplers[name]
    return solver, usual if kind == "automatic" else schedules[kind]


def sampler_and_schedule(solver: str, grid: str) -> tuple[str, str]:
    """Sampler and schedule type of `solver` and `grid`: the inverse of `solver_and_grid`.

    Raises:
        ValueError: a name that is not known here.
    """
    sampler = next((name for name, (known, _) in SAMPLERS.items() if known == solver), None)
    schedule = next((name for name, known in SCHEDULES.items() if known == grid), None)
    if sampler is None or schedule is None:
        raise ValueError(f"`solver={solver}` with `grid={grid}` has no name in A1111's web UI")
    return sampler, "Automatic" if SAMPLERS[sampler][1] == grid else schedule


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").split())
