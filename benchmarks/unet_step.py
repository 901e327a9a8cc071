"""One step of Stable Diffusion 1.5's U-Net at 512 x 512 pixels beside diffusers': seconds in one process, memory of each in its own.

    python benchmarks/unet_step.py --threads 2                      # about 10 minutes where a step takes half a minute; 8 GB
    python benchmarks/unet_step.py --size tiny --out /tmp/step.json # in seconds

Both networks have the same random weights, in the same memory, so that their answers must agree; they are allocated
without being initialised, and filled with numbers whose variance is that of a trained network's. A step is one call
with the two halves of classifier-free guidance: latents (2, 4, 64, 64), texts (2, 77, 768). After a step of each that
is not counted, both take turns, every second round in reverse order; the table has medians of `--rounds`, by the
clock of the wall and of the processor (all threads), which other programs change less. `results/unet-step.json`.

    python benchmarks/unet_step.py --picture                        # memory of a whole picture; 4 minutes, 2 GB of disk

writes a folder of Stable Diffusion 1.5 with random weights, samples one picture of 512 x 512 from it by `unveil sample
image --prompt` in two steps with guidance, and adds the most memory that this took: text encoder, U-Net, autoencoder.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from torch import Tensor, nn

from unveil.image.networks.unet2d import UNet2d
from unveil.image.weights.stable_diffusion_unet import diffusers_names, shape_of_config
from unveil.network.condition import Condition
from unveil.runs.record import record_of

RESULT = Path(__file__).resolve().parent / "results" / "unet-step.json"
WHO = ("unveil", "diffusers")
DTYPES = ("float32", "bfloat16")
TIME = 500
FULL: dict[str, Any] = {  # runwayml/stable-diffusion-v1-5, unet/config.json
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "layers_per_block": 2,
    "attention_head_dim": 8,
    "cross_attention_dim": 768,
    "norm_num_groups": 32,
}
TINY: dict[str, Any] = FULL | {
    "sample_size": 16,
    "block_out_channels": (32, 64),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 64,
}
SIZES = {"full": FULL, "tiny": TINY}


class Inputs(NamedTuple):
    """Of one call: x (2, 4, S, S), its time (2,), texts (2, 77, D)."""

    x: Tensor
    t: Tensor
    tokens: Tensor


def empty(who: str, config: dict[str, Any]) -> nn.Module:
    """A network on the device meta: nothing is allocated."""
    with torch.device("meta"):
        if who == "unveil":
            return UNet2d(shape_of_config(config)).eval()
        from diffusers import UNet2DConditionModel

        return UNet2DConditionModel(**config).eval()


def fill(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Allocate a network of `empty`, with norms of 1, no biases, and weights N(0, 1 / inputs)."""
    network = nn.Module.to(network, dtype)  # diffusers' own method warns
    network = network.to_empty(device="cpu").requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for weight in network.parameters():
        if weight.ndim > 1:
            weight.normal_(0.0, weight[0].numel() ** -0.5, generator=generator)
    for module in network.modules():
        if isinstance(module, nn.GroupNorm | nn.LayerNorm):
            nn.init.ones_(module.weight)
        if isinstance(bias := getattr(module, "bias", None), Tensor):
            nn.init.zeros_(bias)
    return network


def pair(config: dict[str, Any], dtype: torch.dtype) -> dict[str, nn.Module]:
    """Both networks, with the same tensors as weights."""
    theirs, ours = fill(empty("diffusers", config), dtype), empty("unveil", config)
    tensors = theirs.state_dict()
    names = diffusers_names(shape_of_config(config))
    ours.load_state_dict({name: tensors[other] for name, other in names.items()}, assign=True)
    return {"unveil": ours.requires_grad_(False), "diffusers": theirs}


def inputs(config: dict[str, Any], dtype: torch.dtype, tokens: int = 77) -> Inputs:
    """Random inputs of a step."""
    generator, side = torch.Generator().manual_seed(1), config["sample_size"]
    x = torch.randn(2, config["in_channels"], side, side, generator=generator).to(dtype)
    texts = torch.randn(2, tokens, config["cross_attention_dim"], generator=generator).to(dtype)
    return Inputs(x, torch.full((2,), TIME), texts)


@torch.inference_mode()
def step(who: str, network: nn.Module, it: Inputs) -> Tensor:
    """One call."""
    if who == "unveil":
        return network(it.x, it.t.to(it.x.dtype), Condition(tokens=it.tokens))
    return network(it.x, it.t, encoder_hidden_states=it.tokens).sample


def timed(
    calls: dict[str, Callable[[], object]],
    rounds: int,
    clocks: tuple[Callable[[], float], ...] = (time.perf_counter, time.process_time),
) -> dict[str, list[tuple[float, ...]]]:
    """Seconds of each call by each clock, in rounds in which they take turns."""
    spent: dict[str, list[tuple[float, ...]]] = {who: [] for who in calls}
    for call in calls.values():
        call()
    for k in range(rounds):
        for who in list(calls)[:: -1 if k % 2 else 1]:
            began = [clock() for clock in clocks]
            calls[who]()
            spent[who].append(tuple(clock() - then for clock, then in zip(clocks, began, strict=True)))
    return spent


def speed(config: dict[str, Any], dtype: torch.dtype, rounds: int) -> dict[str, Any]:
    """Medians of both, their ratios (above 1: ours is faster), and how far the answers differ."""
    networks, it = pair(config, dtype), inputs(config, dtype)
    made: dict[str, Tensor] = {}

    def call(who: str) -> Callable[[], object]:
        return lambda: made.__setitem__(who, step(who, networks[who], it))

    spent = timed({who: call(who) for who in WHO}, rounds)
    found: dict[str, Any] = {"rounds": rounds}
    for k, clock in enumerate(("seconds", "core_seconds")):
        for who in WHO:
            found[f"{who}_{clock}"] = median(each[k] for each in spent[who])
            found[f"{who}_{clock}_all"] = [round(each[k], 3) for each in spent[who]]
        ratios = [a[k] / b[k] for a, b in zip(spent["diffusers"], spent["unveil"], strict=True)]
        found[f"{clock}_ratio"] = found[f"diffusers_{clock}"] / found[f"unveil_{clock}"]
        found |= {f"{clock}_ratio_min": min(ratios), f"{clock}_ratio_max": max(ratios)}
    ours, theirs = (made[who].double() for who in WHO)
    found["largest_difference"] = float((ours - theirs).abs().max())
    found["largest_answer"] = float(theirs.abs().max())
    found["parameters"] = sum(weight.numel() for weight in networks["unveil"].parameters())
    return found


def memory(who: str, config: dict[str, Any], dtype: torch.dtype) -> dict[str, float]:
    """GB of this process: before a step, with the weights in memory, and at most during it."""
    network, it = fill(empty(who, config), dtype), inputs(config, dtype)
    before = _status("VmRSS")
    step(who, network, it)
    peak = _status("VmHWM")  # not getrusage's, which begins with that of the process that started this one
    return {"peak_gb": peak / 2**30, "step_gb": max(0.0, peak - before) / 2**30}


def _status(name: str) -> int:
    """Bytes of this process in memory: now (VmRSS), or at most so far (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1]) * 2**10


def write_folder(folder: Path, config: dict[str, Any], dtype: torch.dtype) -> None:
    """Write a folder of Stable Diffusion 1.5 in diffusers' layout, with random weights and a vocabulary of bytes."""
    from diffusers import AutoencoderKL, PNDMScheduler
    from transformers import CLIPTextConfig, CLIPTextModel

    fill(empty("diffusers", config), dtype).save_pretrained(folder / "unet")
    sides = config["block_out_channels"] if config is TINY else (128, 256, 512, 512)
    with torch.device("meta"):
        parts = {"down_block_types": ("DownEncoderBlock2D",) * len(sides), "latent_channels": 4}
        parts |= {"up_block_types": ("UpDecoderBlock2D",) * len(sides), "layers_per_block": 2}
        codes = AutoencoderKL(block_out_channels=sides, sample_size=8 * config["sample_size"], **parts).eval()
        width = config["cross_attention_dim"]
        shape = {"hidden_size": width, "intermediate_size": 4 * width, "vocab_size": 49_408}
        heads = {"num_hidden_layers": 12, "num_attention_heads": width // 64, "projection_dim": width}
        text = CLIPTextModel(CLIPTextConfig(max_position_embeddings=77, **shape, **heads)).eval()
    fill(codes, dtype).save_pretrained(folder / "vae")
    fill(text, dtype).save_pretrained(folder / "text_encoder")
    table = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    PNDMScheduler(**table, skip_prk_steps=True, steps_offset=1).save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    letters = [chr(k) for k in (*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324))]
    words = {word: k for k, word in enumerate([*letters, *(f"{letter}</w>" for letter in letters)])}
    words |= {"<|startoftext|>": 49_406, "<|endoftext|>": 49_407}
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps(words))
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")


def picture_memory(folder: Path, dtype: str, threads: int) -> dict[str, float]:
    """GB of this process at most, and seconds, for a picture from a folder."""
    from unveil.cli import main as unveil

    began, flags = time.perf_counter(), ["--prompt", "a cat", "--steps", "2", "--threads", str(threads)]
    out = ["--dtype", dtype, "--out", str(folder / "samples"), "--device", "cpu"]
    if unveil(["sample", "image", "--checkpoint", str(folder), *flags, *out]):
        raise SystemExit("no picture was made")
    return {"picture_peak_gb": _status("VmHWM") / 2**30, "picture_seconds": time.perf_counter() - began}


def pictures(size: str, dtypes: list[str], threads: int) -> dict[str, dict[str, float]]:
    """`picture_memory` of each precision, in processes of their own."""
    with TemporaryDirectory() as name:
        write_folder(Path(name) / "model", SIZES[size], torch.bfloat16)
        flags = ["--threads", str(threads), "--picture-of", str(Path(name) / "model"), "--dtypes"]
        return {dtype: child(*flags, dtype) for dtype in dtypes}


def child(*flags: str) -> dict[str, float]:
    """What this program prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), *flags], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=list(SIZES), default="full")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--memory", choices=WHO, help="print the memory of one of them, and stop")
    parser.add_argument("--picture", action="store_true", help="only the memory of a whole picture")
    parser.add_argument(
        "--picture-of", type=Path, help="print the memory of a picture from a folder, and stop"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    config = SIZES[arguments.size]
    if arguments.memory:
        print(json.dumps(memory(arguments.memory, config, getattr(torch, arguments.dtypes[0]))))
        return
    if arguments.picture_of:
        print(json.dumps(picture_memory(arguments.picture_of, arguments.dtypes[0], arguments.threads)))
        return
    began = time.perf_counter()
    old = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
    same = (old.get("config", {}).get("size"), old.get("threads")) == (arguments.size, arguments.threads)
    metrics: dict[str, Any] = old.get("metrics", {}) if same else {}
    whole = pictures(arguments.size, arguments.dtypes, arguments.threads) if arguments.picture else {}
    for dtype in arguments.dtypes:
        flags = ["--size", arguments.size, "--threads", str(arguments.threads), "--dtypes", dtype]
        row: dict[str, Any] = {**metrics.get(dtype, {}), **whole.get(dtype, {})}
        if not whole:
            row |= speed(config, getattr(torch, dtype), arguments.rounds)
        for who in WHO if not whole else ():
            row |= {f"{who}_{name}": value for name, value in child(*flags, "--memory", who).items()}
        metrics[dtype] = row
        print(f"{dtype}: { ({k: round(v, 3) for k, v in row.items() if isinstance(v, float)}) }", flush=True)
        settings = {"size": arguments.size, "rounds": arguments.rounds, "seed": 0}
        command = f"python benchmarks/unet_step.py --size {arguments.size} --threads {arguments.threads}"
        said = {"metrics": metrics, "command": command, "protocol": "see benchmarks/unet_step.py"}
        result = record_of("unet step", settings, said, time.perf_counter() - began)
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
