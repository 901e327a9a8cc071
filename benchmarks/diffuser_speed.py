"""Guided planning with the published networks: ours against an eager implementation of the released algorithm, same weights, interleaved.

    python benchmarks/diffuser_speed.py                    # an idle machine, about 8 minutes; again: only what is missing
    python benchmarks/diffuser_speed.py --compile auto     # and with torch.compile where it is faster; first compilations are slow
    python benchmarks/diffuser_speed.py --returns 30       # paired returns of trained models (hours); see --logbase

Hopper's sizes: horizon 32, 11 + 3 features, 20 denoising steps, each after 2 ascents of the value. One call is one decision: from an
observation to an action, `batch` candidates. Rows of `results/diffuser-speed.json`, one for each number of threads and batch:

    parts            20 x (U-Net forward + 2 x value forward and backward), timed alone
    eager            the released algorithm written out below on the same modules; within 10 % of `parts`
    float32          our planner on the networks laid out for planning (`planning/networks/temporal_unet_inference.py`)
    bfloat16         the same, weights and features in bfloat16
    ..., compiled    the same, each network through torch.compile where that measures faster
    openvino         the U-Net's forward pass alone by OpenVINO, if that is installed (pip install openvino), beside eager and ours

Times are the shortest of the rounds; `error` is the largest difference of a finished plan (normalised) from the eager one under the same
noise, of weights that were not trained, and `forward_error` that of one U-Net pass; `of_peak` is the published networks' arithmetic over
the time, as a share of the largest matrix product's rate in the same run: less arithmetic for the same result may bring it above 1.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from unveil.network.compiled import Measured
from unveil.planning.guided_planner import GuidedPlanner, GuidedSettings, value_at
from unveil.planning.networks.temporal_unet import TemporalUNet
from unveil.planning.networks.temporal_unet_inference import FastUNet
from unveil.planning.trajectory_model import (
    TrajectoryModel,
    TrajectoryShape,
    ValueModel,
    fast_trajectories,
    fast_value,
)
from unveil.planning.value_guidance import ascent
from unveil.runs.machine import commit, machine

FILE = Path(__file__).resolve().parent / "results" / "diffuser-speed.json"
STEPS, ASCENTS, STOP, SCALE = 20, 2, 2, 0.1
SHAPE = TrajectoryShape(horizon=32, diffusion_steps=STEPS, actions=3, observations=11)
SECONDS = {1: 6.0, 64: 20.0, 512: 60.0}  # of a cell's rounds


class Eager:
    """The released algorithm, `n_step_guided_p_sample` of jannerm/diffuser, on the plain modules: all that does not change is made once."""

    def __init__(self, unet: nn.Module, value: nn.Module, batch: int) -> None:
        self.unet, self.value, self.batch = unet, value, batch
        self.generator = torch.Generator().manual_seed(0)
        bars = np.cos((np.linspace(0.0, 1.0, STEPS + 1) + 0.008) / 1.008 * np.pi / 2) ** 2
        betas = np.clip(1.0 - bars[1:] / bars[:-1], 0.0, 0.999)
        bar = np.cumprod(1.0 - betas)
        before = np.append(1.0, bar[:-1])
        self.variance = (betas * (1.0 - before) / (1.0 - bar)).tolist()
        self.of_x_0 = (betas * np.sqrt(before) / (1.0 - bar)).tolist()
        self.of_x_t = ((1.0 - before) * np.sqrt(1.0 - betas) / (1.0 - bar)).tolist()
        self.times = [torch.full((batch,), float(i)) for i in range(STEPS)]

    def plans(self, observation: np.ndarray) -> tuple[Tensor, Tensor]:
        """Finished plans, and the values of the last ascent."""
        known = torch.from_numpy(observation).float()
        x = torch.randn((self.batch, SHAPE.horizon, SHAPE.features), generator=self.generator)
        x[:, 0, SHAPE.actions :] = known
        worth = torch.zeros(self.batch)
        for i in reversed(range(STEPS)):
            for _ in range(ASCENTS):
                x = x.detach().requires_grad_()
                worth = self.value(x, self.times[i])
                (gradient,) = torch.autograd.grad(worth.sum(), x)
                gain = SCALE * self.variance[i] if i >= STOP else 0.0
                x = x.detach() + gain * gradient
                x[:, 0, SHAPE.actions :] = known
            with torch.no_grad():
                x = self.of_x_t[i] * x + self.of_x_0[i] * self.unet(x, self.times[i])
                if i > 0:
                    x = x + math.sqrt(self.variance[i]) * torch.randn(x.shape, generator=self.generator)
                x[:, 0, SHAPE.actions :] = known
        return x, worth.detach()

    def act(self, observation: np.ndarray) -> np.ndarray:
        """The first action of the plan of highest value."""
        x, worth = self.plans(observation)
        return x[worth.argmax(), 0, : SHAPE.actions].numpy()


def models() -> tuple[TrajectoryModel, ValueModel]:
    """Hopper's networks at random weights: time does not depend on them."""
    torch.manual_seed(0)
    model, value = TrajectoryModel(SHAPE).eval(), ValueModel(SHAPE).eval()
    model.normalization.learn(np.random.default_rng(0).normal(size=(1000, SHAPE.features)), "gaussian")
    return model, value


def planner(model: TrajectoryModel, value: ValueModel, batch: int, choose: bool = True) -> GuidedPlanner:
    """Ours: the same algorithm from the library's pieces. Values that rank plans are of the finished ones, one forward pass more."""
    form = ascent(value, model.denoiser.schedule, STEPS, SCALE, ASCENTS, STOP)
    settings = GuidedSettings(candidates=batch, steps=STEPS, clip=False)
    return GuidedPlanner(model, form, value_at(value, 1.0 / STEPS) if choose else None, settings, seed=0)


def arithmetic(model: TrajectoryModel, value: ValueModel, batch: int) -> float:
    """Operations of one denoising step of the published networks; a backward pass to the input counts as a forward one."""
    counted = []
    for network in (model.denoiser.network, value.network):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(torch.zeros(batch, SHAPE.horizon, SHAPE.features), torch.zeros(batch))
        counted.append(float(counter.get_total_flops()))
    return counted[0] + 2 * ASCENTS * counted[1]


def peak(dtype: torch.dtype) -> float:
    """Operations a second of the largest of some matrix products."""
    best = 0.0
    for size in (1024, 2048):
        a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
        for _ in range(6):
            began = perf_counter()
            a @ b
            best = max(best, 2.0 * size**3 / (perf_counter() - began))
    return best


def shortest(calls: dict[str, Callable[[], object]], seconds: float) -> dict[str, list[float]]:
    """Seconds of each call, alternating, for at least two rounds; the calls have been made before."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    began = perf_counter()
    while perf_counter() - began < seconds or len(next(iter(times.values()))) < 2:
        for name, call in calls.items():
            start = perf_counter()
            call()
            times[name].append(perf_counter() - start)
    return times


def openvino(network: TemporalUNet, x: Tensor, time: Tensor) -> dict[str, Any]:
    """The U-Net's forward pass by OpenVINO in both precisions, beside eager and ours: it has no gradient, so no guided plan."""
    if find_spec("openvino") is None:
        return {"note": "not installed"}
    import openvino as ov  # pyright: ignore[reportMissingImports]

    core = ov.Core()
    core.set_property("CPU", {"INFERENCE_NUM_THREADS": torch.get_num_threads()})
    converted, given = ov.convert_model(network, example_input=(x, time)), [x.numpy(), time.numpy()]
    eager = network(x, time)
    calls: dict[str, Callable[[], object]] = {"eager": lambda: network(x, time)}
    row: dict[str, Any] = {}
    for dtype, name in ((torch.float32, "f32"), (torch.bfloat16, "bf16")):
        compiled, ours = (
            core.compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": name}),
            FastUNet(network, dtype),
        )
        row[f"error_{name}"] = float(np.abs(compiled(given)[0] - eager.numpy()).max())
        calls |= {name: partial(compiled, given), f"ours_{name}": partial(ours, x, time)}
    for call in calls.values():
        call()
    return {f"unet_forward_ms_{name}": 1e3 * min(times) for name, times in shortest(calls, 3.0).items()} | row


def cell(batch: int, compiled: bool) -> dict[str, Any]:
    """All rows of one batch at this process's number of threads."""
    model, value = models()
    unet, observation = model.denoiser.network, np.full(SHAPE.observations, 0.3)
    assert isinstance(unet, TemporalUNet)
    known = observation[None]
    x, time = torch.randn(batch, SHAPE.horizon, SHAPE.features), torch.full((batch,), 7.0)
    eager = Eager(unet, value.network, batch)
    rows: dict[str, dict[str, Any]] = {"eager": {}}
    calls: dict[str, Callable[[], object]] = {"eager": lambda: eager.act(observation)}
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.") + (", compiled" if compiled else "")
        quicker = partial(Measured, repeats=3) if compiled else None
        began = perf_counter()
        fast, faster = fast_trajectories(model, dtype, quicker), fast_value(value, dtype, quicker)
        plans = planner(fast, faster, batch, choose=False).plan(observation, normalized=True)
        first = perf_counter() - began
        expected = Eager(unet, value.network, batch).plans(observation)[0].numpy()
        ours = planner(fast, faster, batch)
        with torch.no_grad():
            forward_error = float((fast.denoiser.network(x, time) - unet(x, time)).abs().max())
        rows[name] = {
            "error": float(np.abs(plans - expected).max()),
            "forward_error": forward_error,
            "first_plan_s": first,
        }
        calls[name] = lambda ours=ours: ours.act(known)

    def parts() -> None:
        with torch.no_grad():
            unet(x, time)
        for _ in range(ASCENTS):
            leaf = x.clone().requires_grad_()
            torch.autograd.grad(value.network(leaf, time).sum(), leaf)

    calls["parts"] = lambda: [parts() for _ in range(STEPS)]
    for name in ("eager", "parts", *(n for n in calls if n not in ("eager", "parts"))):
        calls[name]()
    times = shortest(calls, SECONDS.get(batch, 30.0))
    load = os.getloadavg()[0]
    best = {name: min(taken) for name, taken in times.items()}
    work, peaks = (
        STEPS * arithmetic(model, value, batch),
        {d: peak(d) for d in (torch.float32, torch.bfloat16)},
    )
    rows["parts"] = {}
    for name, row in rows.items():
        most = peaks[torch.bfloat16 if "bfloat16" in name else torch.float32]
        row |= {
            "decision_ms": 1e3 * best[name],
            "decisions_per_second": 1.0 / best[name],
            "steps_per_second": STEPS / best[name],
        }
        row |= {"times_eager": best["eager"] / best[name], "of_peak": work / best[name] / most}
        row |= {"median_ms": 1e3 * float(np.median(times[name])), "rounds": len(times[name])}
    rows["eager"]["of_parts"] = best["eager"] / best["parts"]
    with torch.no_grad():
        rows["openvino"] = openvino(unet, x, time)
    described = {
        "threads": torch.get_num_threads(),
        "batch": batch,
        "compiled": compiled,
        "load": load,
        "commit": commit(),
    }
    return described | {
        "peak_gflops": {str(d).removeprefix("torch."): p / 1e9 for d, p in peaks.items()},
        "rows": rows,
    }


def returns(fast: str, episodes: int, logbase: Path, dataset: str, candidates: int) -> list[float]:
    """Returns of the published planner with trained networks in a layout, on the same episodes for each.

    Rows that are over are not planned for, so the noise is the same until the first episode ends.
    """
    from dataclasses import replace

    from unveil.planning.evaluation.locomotion import roll
    from unveil.planning.recipes.locomotion.config import EVAL_PRESETS, for_dataset
    from unveil.planning.recipes.locomotion.planner import planner_of
    from unveil.planning.worlds.locomotion.body import body_of
    from unveil.planning.worlds.locomotion.episodes import LocomotionEpisodes
    from unveil.runs.flags import changed

    config = changed(
        for_dataset(EVAL_PRESETS["paper"], dataset), dataset=dataset, logbase=logbase, candidates=candidates
    )
    world, acting = LocomotionEpisodes(body_of(dataset), episodes, 0), planner_of(replace(config, fast=fast))
    acting.reset()
    shown = partial(print, f"{dataset} fast {fast} step", flush=True)
    roll(world, acting.act, on_step=lambda t: shown(t) if t % 100 == 0 else None, only_running=True)
    return world.returns.tolist()


def paired(played: dict[str, list[float]]) -> dict[str, Any]:
    """Mean return of the plain layout, and the differences of the others from it, with 95 % intervals."""
    from unveil.runs.statistics import mean_ci95

    found: dict[str, Any] = {}
    for fast, each in played.items():
        mean, half = mean_ci95(np.array(each) - (played["off"] if fast != "off" else 0.0))
        found[fast] = {"returns": each, "mean" if fast == "off" else "paired_difference": mean, "ci95": half}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 1, 512])
    parser.add_argument("--compile", choices=["off", "auto"], default="off")
    parser.add_argument("--minutes", type=float, default=14.0, help="no cell begins later")
    parser.add_argument("--again", action="store_true", help="measure cells anew that are there")
    parser.add_argument("--out", type=Path, default=FILE)
    parser.add_argument(
        "--returns", type=int, default=0, help="episodes of the paired returns, instead of timing"
    )
    parser.add_argument("--dataset", default="hopper-medium-expert")
    parser.add_argument("--logbase", type=Path, default=Path("runs/locomotion-paper"))
    parser.add_argument("--candidates", type=int, default=8)
    parser.add_argument("--cell", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads[0])
    if (
        arguments.cell
    ):  # a process of its own: what is compiled for one number of threads does not serve another
        print(json.dumps(cell(arguments.batches[0], arguments.compile == "auto")))
        return
    result: dict[str, Any] = (
        json.loads(arguments.out.read_text())
        if arguments.out.is_file()
        else {"recipe": "diffuser-speed", "cells": []}
    )
    if arguments.returns:
        settings = {"dataset": arguments.dataset, "candidates": arguments.candidates, "n": arguments.returns}
        before: dict[str, Any] = result.get("returns", {})
        if arguments.again or any(before.get(name) != value for name, value in settings.items()):
            before = dict(settings)
        for fast in [
            f for f in ("off", "bfloat16", "float32") if f not in before
        ]:  # each kept when it is done
            played: dict[str, list[float]] = {
                f: before[f]["returns"] for f in ("off", "bfloat16") if f in before
            }
            played[fast] = returns(
                fast, arguments.returns, arguments.logbase, arguments.dataset, arguments.candidates
            )
            before = result["returns"] = (
                settings | {"commit": commit(), "threads": torch.get_num_threads()} | paired(played)
            )
            arguments.out.write_text(json.dumps(result | machine(), indent=1) + "\n")
        return
    began, cells = perf_counter(), result["cells"]
    for compiled in [False, True][: 1 + (arguments.compile == "auto")]:
        for batch in arguments.batches:
            for threads in arguments.threads:
                same = [
                    c
                    for c in cells
                    if (c["threads"], c["batch"], c["compiled"]) == (threads, batch, compiled)
                ]
                label = f"batch {batch}, {threads} threads{', compiled' if compiled else ''}"
                if (same and not arguments.again) or perf_counter() - began > 60.0 * arguments.minutes:
                    print(f"{label}: {'there already' if same else 'not run'}", flush=True)
                    continue
                command = [
                    sys.executable,
                    __file__,
                    "--cell",
                    "--threads",
                    str(threads),
                    "--batches",
                    str(batch),
                ]
                command += ["--compile", "auto" if compiled else "off"]
                kernels = Path(tempfile.gettempdir()) / f"unveil-diffuser-speed-{os.getuid()}-{threads}"
                environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(kernels)}
                done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
                found = json.loads(done.stdout.splitlines()[-1])
                cells[:] = [c for c in cells if c not in same] + [found]
                arguments.out.write_text(json.dumps(result | machine(), indent=1) + "\n")
                for name, row in found["rows"].items():
                    shown = {k: float(f"{v:.3g}") for k, v in row.items() if isinstance(v, float)} or row
                    print(f"{label}: {name}: {shown}", flush=True)


if __name__ == "__main__":
    main()
