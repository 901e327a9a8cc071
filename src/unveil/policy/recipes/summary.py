"""What a training will do, in words, before it begins."""

from __future__ import annotations

import os
import sys
from math import prod
from time import perf_counter

import numpy as np
import torch

from unveil.policy.data.chunks import Chunks
from unveil.policy.model import PolicyModel
from unveil.policy.recipes.fitting import Demonstrated
from unveil.policy.recipes.kept_frames import where_kept
from unveil.policy.recipes.own_data import Chosen, pictures_of
from unveil.policy.training import policy_batches, policy_loss
from unveil.runs.flags import RunFlags
from unveil.runs.progress import as_clock
from unveil.training.memory import step_bytes, training_bytes

MOST_NAMES = 8


def data_summary(source: str, it: Chosen, data: Demonstrated, chunks: Chunks) -> list[str]:
    """Lines about the demonstrations: episodes, steps, observations, actions, what is left out, windows."""
    demonstrations, hz = it.demonstrations, it.demonstrations.recording.hz
    lengths = demonstrations.episode_ends - demonstrations.starts
    trained, short = int(it.training.sum()), len(data.episode_ends) - chunks.episodes
    rate = f" at {hz:g} Hz, {as_clock(len(demonstrations) / hz)} in all" if hz else ""
    too_short = f", of which {short} are too short for a window" if short else ""
    rows = [
        (
            "episodes",
            f"{len(lengths)} of {it.total}; {trained} to train on{too_short}, "
            f"{len(lengths) - trained} held out",
        ),
        ("steps", f"{len(demonstrations):,}{rate}; {lengths.min()} to {lengths.max()} per episode"),
    ]
    first = 0
    for part in it.parts:
        if part.encoder is None:
            values = data.observations[:, first : (first := first + part.shape[0])]
            rows.append(("observed", f"{part.key}: {prod(part.shape)} numbers, {_range(values)}"))
    pictures = pictures_of(demonstrations)
    for part, camera in zip((it for it in it.parts if it.encoder is not None), data.cameras, strict=True):
        height, width = part.shape[1:]
        size = pictures[part.key].shape[1:]
        kind = (
            "bytes"
            if camera.dtype == np.uint8
            else f"numbers, {_range(camera.read(np.arange(1)))} in the first"
        )
        small = f", resized to {height} x {width}" if size[:2] != (height, width) else ""
        crop = f", crops of {part.crop[0]} x {part.crop[1]}" if part.crop else ""
        rows.append(
            (
                "observed",
                f"{part.key}: {' x '.join(map(str, size))} {kind}{small}{crop}, {where_kept(camera)}",
            )
        )
    names = it.action_names
    called = f" ({', '.join(names[:MOST_NAMES])}{' ...' if len(names) > MOST_NAMES else ''})" if names else ""
    rows.append(("actions", f"{data.actions.shape[1]} numbers{called}, {_range(data.actions)}"))
    rows += [("left out", f"{name}, which {why}") for name, why in sorted(it.left.items())]
    ahead = f" ({chunks.horizon / hz:.2g} s)" if hz else ""
    rows.append(("windows", f"{len(chunks):,} of {chunks.horizon} steps{ahead}, {chunks.n_obs} observed"))
    return [f"demonstrations of {source}", *(f"  {name:<9} {text}" for name, text in rows)]


def cost_summary(model: PolicyModel, chunks: Chunks, run: RunFlags, device: torch.device) -> list[str]:
    """Lines about the network, its memory and the time of the training, from one step that is thrown away."""
    weights = sum(p.numel() for p in model.parameters())
    need = training_bytes(
        model,
        step_bytes(model, lambda n: policy_batches(chunks, model.shape, n), policy_loss, run.batch_size),
    )
    model = model.to(device)
    draw = policy_batches(chunks, model.shape, run.batch_size)
    generator, spent = torch.Generator(device="cpu").manual_seed(0), 0.0
    for _ in range(2):  # the first one allocates
        began = perf_counter()
        loss, _ = policy_loss(model, draw(generator))
        loss.backward()
        loss.item()  # waits for an accelerator
        spent = perf_counter() - began
        model.zero_grad(set_to_none=True)
        if spent > 20.0:
            break
    steps = run.steps * run.accumulate
    return [
        f"  network   {weights:,} parameters on {device}",
        f"  memory    about {need / 2**20:,.0f} MB for steps of {run.batch_size} windows",
        f"  time      about {as_clock(spent * steps)} for {run.steps:,} steps",
    ]


def show(lines: list[str]) -> None:
    """Print lines on standard error; of several processes, only the first prints."""
    if os.environ.get("RANK", "0") == "0":
        sys.stderr.write("".join(f"{line}\n" for line in lines))


def _range(values: np.ndarray) -> str:
    return f"{values.min():.4g} .. {values.max():.4g}"
