"""Ours, denoising-diffusion-pytorch and a training loop of diffusers on the same images for the same minutes, each in its own process.

    pip install --no-deps --target PEERS denoising-diffusion-pytorch ema-pytorch einops diffusers accelerate    # 2.3.4, 0.8.3, ..
    PYTHONPATH=PEERS python benchmarks/images_duel.py --who lucidrains --minutes 20 --seed 0 --threads 2 --out runs/duel-lucidrains-s0
    PYTHONPATH=PEERS python benchmarks/images_duel.py --rates --threads 2 --out runs/duel-rates.json

`benchmarks/images.py` calls it twice and scores what it writes: a duellist learns (`averaged.safetensors`, `trained.json`), and then draws
(`samples.npz`: equal: DDIM, 50 steps, n 1024; default, n 256; `made.json`). All see the same batches of 64 Fashion-MNIST images,
unconditionally, in float32, with gradients cut at a norm of 1; the clock runs from the first batch to the last step and is that of the
wall, or with `--clock cpu` that of the processor, by threads, which other programs do not hasten. What each owes to its authors:

    ours          U-Net of `unveil train image --width 32`, 1.19 M parameters; the recipe's rate 1e-3, which falls with the time that is
                  spent, and its average of weights; default sampling: DPM-Solver++, 20 steps
    lucidrains    Unet(dim=28, dim_mults=(1, 2, 2)), 1.10 M; Adam at 8e-5, averages of 0.995 each tenth step, pred_v on a sigmoid schedule:
                  README ("Trainer") and the defaults of Trainer and GaussianDiffusion; default sampling: its README's 250 DDIM steps
    diffusers     UNet2DModel of 32, 64, 64 channels, one layer a block, attention at 7 x 7, 1.11 M; AdamW (0.95, 0.999), weight decay 1e-6,
                  1e-4 after 500 steps of warm-up, falling as a cosine, EMAModel(0.9999, warm-up, power 0.75):
                  examples/unconditional_image_generation (README and train_unconditional.py); default sampling: DDPM, 1000 steps

denoising-diffusion-pytorch imports torchvision for its Trainer, which is not used here: where there is none an empty module stands in.
"""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

BATCH, EQUAL_STEPS, EQUAL, DEFAULTS = 64, 50, 1024, 256
SIDE = 28


class Player(NamedTuple):
    """A program that learns.

    Args:
        parameters: of its network.
        step: learns from uint8 (B, 1, 28, 28) once the share of the time that is spent is given.
        averaged: draws; `settle` gives it the average of the weights that `step` learned.
        draw: (count, steps; None: by default) to uint8 images from averaged weights, and calls of the network for each.
    """

    parameters: int
    step: Callable[[Tensor, float], None]
    averaged: torch.nn.Module
    settle: Callable[[], object]
    draw: Callable[[int, int | None], tuple[Tensor, int]]


def numbers(network: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def ours(seed: int) -> Player:
    from unveil.image.data.images import ImageSet, RandomImages
    from unveil.image.generation import ImageSettings, generate
    from unveil.image.model import ImageModel
    from unveil.image.shape import ImageShape
    from unveil.image.training import image_batches, image_loss
    from unveil.training.ema import EMA
    from unveil.training.trainer import Training

    torch.manual_seed(seed)
    shape = ImageShape(SIDE, 1, width=32)
    model, averaged, random = ImageModel(shape), ImageModel(shape), torch.Generator().manual_seed(seed)
    training = Training(steps=1_000_000, warmup=100)
    average = EMA(model, training.ema, training.ema_power)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=training.learning_rate,
        betas=training.betas,
        weight_decay=training.weight_decay,
    )
    done = 0

    def step(pixels: Tensor, spent: float) -> None:
        nonlocal done
        batch = image_batches(RandomImages(ImageSet(pixels[:1].numpy())), shape, len(pixels))(
            random
        )._replace(pixels=pixels)
        loss, _ = image_loss(model, batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), training.clip)
        warm = min(1.0, (done + 1) / training.warmup)
        optimizer.param_groups[0]["lr"] = warm * training.rate(
            training.warmup + int(spent * (training.steps - training.warmup))
        )
        optimizer.step()
        done += 1
        average.update(model, done)

    def draw(count: int, steps: int | None) -> tuple[Tensor, int]:
        settings = ImageSettings() if steps is None else ImageSettings("ddim", steps)
        made = generate(averaged, None, count, settings, random, BATCH)
        return made.pixels, made.calls

    return Player(numbers(model), step, averaged, lambda: averaged.load_state_dict(average.weights), draw)


def lucidrains(seed: int) -> Player:
    empty = [ModuleType(name) for name in ("torchvision", "torchvision.transforms", "torchvision.utils")]
    try:
        import torchvision  # noqa: F401  # pyright: ignore[reportMissingImports, reportUnusedImport]
    except (ImportError, RuntimeError):
        for module in empty:
            sys.modules[module.__name__] = module
        empty[0].transforms, empty[0].utils = empty[1], empty[2]  # pyright: ignore[reportAttributeAccessIssue]
    try:
        from denoising_diffusion_pytorch import GaussianDiffusion, Unet  # pyright: ignore[reportMissingImports]
        from ema_pytorch import EMA  # pyright: ignore[reportMissingImports]
    finally:  # diffusers must not find them
        for module in empty:
            if sys.modules.get(module.__name__) is module:
                del sys.modules[module.__name__]
    torch.manual_seed(seed)
    diffusion = GaussianDiffusion(
        Unet(dim=28, dim_mults=(1, 2, 2), channels=1), image_size=SIDE, timesteps=1000, sampling_timesteps=250
    )
    optimizer = torch.optim.Adam(diffusion.parameters(), lr=8e-5, betas=(0.9, 0.99))
    average = EMA(diffusion, beta=0.995, update_every=10)
    averaged = average.ema_model.eval()

    def step(pixels: Tensor, spent: float) -> None:
        loss = diffusion(pixels.float() / 255.0)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(diffusion.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.update()

    def draw(count: int, steps: int | None) -> tuple[Tensor, int]:
        averaged.sampling_timesteps = 250 if steps is None else steps
        parts = [averaged.sample(batch_size=min(BATCH, count - i)) for i in range(0, count, BATCH)]
        return (torch.cat(parts) * 255.0).round().clamp(0, 255).to(torch.uint8), averaged.sampling_timesteps

    return Player(numbers(diffusion.model), step, averaged, lambda: None, draw)


def diffusers(seed: int) -> Player:
    from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel  # pyright: ignore[reportMissingImports]
    from diffusers.training_utils import EMAModel  # pyright: ignore[reportMissingImports]

    torch.manual_seed(seed)
    network = UNet2DModel(
        sample_size=SIDE,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(32, 64, 64),
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    )
    scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear")
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8
    )
    average = EMAModel(network.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
    averaged = deepcopy(network).eval()
    done = 0

    def step(pixels: Tensor, spent: float) -> None:
        nonlocal done
        clean = pixels.float() / 127.5 - 1.0
        noise, times = torch.randn_like(clean), torch.randint(0, 1000, (len(clean),))
        loss = torch.nn.functional.mse_loss(
            network(scheduler.add_noise(clean, noise, times), times).sample, noise
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = (
            1e-4 * min(1.0, done / 500) * 0.5 * (1.0 + math.cos(math.pi * spent))
        )
        optimizer.step()
        optimizer.zero_grad()
        done += 1
        average.step(network.parameters())

    @torch.no_grad()
    def draw(count: int, steps: int | None) -> tuple[Tensor, int]:
        solver: Any = scheduler if steps is None else DDIMScheduler.from_config(scheduler.config)
        solver.set_timesteps(steps or 1000)
        parts: list[Tensor] = []
        for i in range(0, count, BATCH):
            x = torch.randn(min(BATCH, count - i), 1, SIDE, SIDE)
            for t in solver.timesteps:
                x = solver.step(averaged(x, t).sample, t, x).prev_sample
            parts.append(x)
        return ((torch.cat(parts) + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8), len(solver.timesteps)

    return Player(numbers(network), step, averaged, lambda: average.copy_to(averaged.parameters()), draw)


PLAYERS: dict[str, Callable[[int], Player]] = {"ours": ours, "lucidrains": lucidrains, "diffusers": diffusers}


def images() -> Tensor:
    from unveil.image.data.reading import Reading
    from unveil.image.data.source import read_images

    return torch.from_numpy(np.array(read_images("fashion-mnist", Reading()).pixels))


def learn(who: str, seconds: float, seed: int, clock: Callable[[], float], out: Path) -> None:
    """Learn for so many seconds, and keep the average."""
    pixels, player, generator = images(), PLAYERS[who](seed), torch.Generator().manual_seed(seed)
    began, wall, steps = clock(), time.perf_counter(), 0
    while (spent := clock() - began) < seconds:
        player.step(pixels[torch.randint(len(pixels), (BATCH,), generator=generator)], spent / seconds)
        steps += 1
    said: dict[str, Any] = {
        "parameters": player.parameters,
        "steps": steps,
        "clock_seconds": spent,
        "seconds": time.perf_counter() - wall,
    }
    said |= {"training_images_per_second": steps * BATCH / spent, "batch_size": BATCH, "seed": seed}
    player.settle()
    out.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: tensor.contiguous() for name, tensor in player.averaged.state_dict().items()},
        out / "averaged.safetensors",
    )
    (out / "trained.json").write_text(json.dumps(said, indent=1) + "\n")
    print(f"{who}: {said}", flush=True)


def draw(who: str, seed: int, counts: tuple[int, int], out: Path) -> None:
    """Make images by equal settings and by default, from what was kept."""
    said, player, made = (
        json.loads((out / "trained.json").read_text()),
        PLAYERS[who](seed),
        dict[str, np.ndarray](),
    )
    player.averaged.load_state_dict(load_file(out / "averaged.safetensors"))
    torch.manual_seed(seed)
    for name, count, asked in (("equal", counts[0], EQUAL_STEPS), ("default", counts[1], None)):
        drawn, said[f"{name}_nfe"] = player.draw(count, asked)
        made[name] = drawn.numpy()
    np.savez_compressed(out / "samples.npz", **made)  # pyright: ignore[reportArgumentType]
    (out / "made.json").write_text(json.dumps(said, indent=1) + "\n")


def rates(clock: Callable[[], float], rounds: int, count: int, out: Path) -> None:
    """Medians over rounds in which all take turns: two training steps, DDIM in 10 steps, and in the last round each one's default."""
    pixels = images()[: 4 * BATCH]
    players: dict[str, Player] = {}
    absent: list[str] = []
    for who, make in PLAYERS.items():
        try:
            players[who] = make(0)
        except ImportError as error:
            absent.append(f"{who} ({error})")
    spent: dict[str, list[float]] = {}

    def timed(name: str, images_made: int, work: Callable[[], object]) -> None:
        began = clock()
        work()
        spent.setdefault(name, []).append(images_made / (clock() - began))

    for player in players.values():
        player.step(pixels[:BATCH], 0.0)  # the first is not like the others
        player.settle()
        player.draw(2, 2)
    for k in range(rounds):
        for who, player in players.items():
            timed(
                f"{who}_training_images_per_second",
                2 * BATCH,
                lambda p=player: [p.step(pixels[i * BATCH :][:BATCH], 0.0) for i in (0, 1)],
            )
            timed(f"{who}_equal_images_per_second", count, lambda p=player: p.draw(count, 10))
            if k == rounds - 1:
                timed(f"{who}_default_images_per_second", count, lambda p=player: p.draw(count, None))
    row: dict[str, Any] = {name: median(found) for name, found in spent.items()}
    for who in players:
        row[f"{who}_parameters"] = players[who].parameters
        for kind in ("training", "equal", "default"):
            ratio = row[f"ours_{kind}_images_per_second"] / row[f"{who}_{kind}_images_per_second"]
            row |= {} if who == "ours" else {f"ours_by_{who}_{kind}": ratio}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(row | {"absent": absent, "n": count, "rounds": rounds}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--who", choices=list(PLAYERS), default="ours")
    parser.add_argument("--rates", action="store_true")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument(
        "--counts",
        type=int,
        nargs=2,
        default=[EQUAL, DEFAULTS],
        help="images by equal settings, and by default",
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder; where it holds a trained one images are drawn"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    os.environ.setdefault("TQDM_DISABLE", "1")  # before a peer imports it
    clock = (
        time.perf_counter if arguments.clock == "wall" else lambda: time.process_time() / arguments.threads
    )
    try:
        if arguments.rates:
            rates(clock, arguments.rounds, 16, arguments.out)
        elif (arguments.out / "trained.json").is_file():
            draw(arguments.who, arguments.seed, tuple(arguments.counts), arguments.out)
        else:
            learn(arguments.who, 60.0 * arguments.minutes, arguments.seed, clock, arguments.out)
    except ImportError as error:
        sys.exit(
            f"{error}; pip install --no-deps --target PEERS denoising-diffusion-pytorch ema-pytorch einops diffusers accelerate, "
            "and PYTHONPATH=PEERS before the command"
        )


if __name__ == "__main__":
    main()
