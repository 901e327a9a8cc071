"""Diffusion Policy on PushT: the configs, and policies from run folders. Presets `paper` are those of real-stanford/diffusion_policy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class TrainPushT:
    """Train a diffusion policy on human demonstrations of PushT.

    Example: unveil train pusht --preset tiny --out runs/pusht-tiny
    """

    preset: Literal["tiny", "default", "paper"] = "default"
    """tiny proves learning in minutes; default takes about an hour on a laptop; paper is as published; other flags change single fields"""
    data: str = "pusht"
    """what `unveil data pusht` wrote, or the path or https address of demonstrations in any format that it reads"""
    out: Path = Path("runs/pusht")
    """the run folder"""
    observation: Literal["keypoints", "state", "pixels"] = "keypoints"
    """nine keypoints of the block and the agent's place (20 numbers), both places and the angle (5), or a picture and the agent's place"""
    network: Literal["cnn", "transformer"] = "cnn"
    """the conditional U-Net, or the transformer"""
    condition: Literal["auto", "film", "tokens", "inpainting"] = "auto"
    """how it is told observations: by film (cnn), tokens (transformer), or as known rows of what it denoises (inpainting, cnn)"""
    n_obs: int = 2
    """observations that a decision sees"""
    horizon: int = 16
    """actions that are predicted"""
    n_action: int = 8
    """actions that are executed of them"""
    prefix: int = 0
    """largest number of actions that are known and clean, for acting while the next chunk is computed; 0: none, as published"""
    diffusion_steps: int = 100
    """T, of the squared-cosine schedule"""
    predicts: Literal["eps", "x0", "v", "flow"] = "v"
    """what the network says: noise (eps, as published), clean actions (x0), both (v: good in few steps), or flow matching's velocity"""
    widths: tuple[int, ...] = (64, 128, 224)
    """channels of the CNN's levels"""
    kernel: int = 5
    """of the CNN's convolutions"""
    step_width: int = 128
    """of the CNN's embedded time"""
    width: int = 192
    """of the transformer"""
    depth: int = 6
    """blocks of the transformer"""
    heads: int = 4
    """attention heads of the transformer"""
    dropout: float = 0.01
    """of the transformer's attention and blocks"""
    crop: int = 84
    """side of what is cut from pictures of 96, at random in training"""
    image_width: int = 16
    """channels of the image encoder's first level; 64 is the published ResNet-18"""
    image_keypoints: int = 32
    """places that the image encoder's spatial softmax looks for"""
    distill: str = ""
    """train a student of this run instead, for `--solver consistency`: its shape and network, from its weights on; of a run that says v or
    flow, for a student says v, and weights that say noise begin as another function"""
    distill_steps: int = 6
    """DDIM steps of the teacher's samples, whose ends the student learns; a multiple of the calls that it is to be asked for"""
    start_from: Path | None = None
    """run or checkpoint whose network, shape and weights a new run begins with, such as a converted one; by default they are random"""
    steps: int = 10_000
    """optimizer steps"""
    batch_size: int = 256
    """windows a step; with --distill, states of the teacher's trajectories, four of each"""
    learning_rate: float = 5e-4
    """peak; warm-up, then cosine; students want about 1e-4"""
    warmup: int = 500
    """steps until the peak"""
    weight_decay: float = 1e-6
    """of AdamW"""
    ema_decay: float = 0.9999
    """largest decay of the average of weights"""
    ema_power: float = 0.75
    """how fast that is reached: the decay of step k is 1 - (1 + k)^-power"""
    hold_out: float = 0.02
    """share of episodes that are not trained on, drawn as published"""
    episodes: int = 0
    """at most so many episodes are trained on, drawn as published; 0: all others"""
    split_seed: int = 42
    """of both draws"""
    save_every: int = 1000
    """steps between checkpoints"""
    keep: int = 2
    """newest checkpoints that are kept; 0 keeps all"""
    bfloat16: bool | None = None
    """train under bfloat16 autocast; by default where that is measured faster when the run begins"""
    log: Literal["none", "tensorboard", "trackio", "wandb"] = "none"
    """where metrics go besides metrics.jsonl"""
    resume: bool = False
    """go on from the newest good checkpoint of the run folder"""
    new_data: bool = False
    """with --resume: go on although there are more or fewer data than before; averages and statistics stay those of the checkpoint"""
    seed: int = 0
    """of weights, batches and noise"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:0 or mps"""
    threads: int = 0
    """CPU threads; 0 lets torch decide"""


@dataclass(frozen=True)
class EvalPushT:
    """Score a policy by the published protocol: the mean over episodes of the largest reward.

    Example: unveil eval pusht --checkpoint runs/pusht --episodes 50 --seed 100000 --json pusht.json --video pusht.gif
    """

    preset: Literal["default", "fast", "paper"] = "default"
    """default: ten deterministic steps; fast: five; paper: all steps of DDPM; other flags change single fields"""
    checkpoint: str = "runs/pusht"
    """a zoo name, a run or checkpoint folder, or others' policy: a .ckpt of real-stanford/diffusion_policy, a folder of LeRobot"""
    episodes: int = 50
    """number of episodes; episode i starts as the published environment does for seed + i"""
    seed: int = 100_000
    """of starts and noise; the published episodes are 100000 .. 100049"""
    solver: Literal["ddim", "euler", "ddpm", "dpmpp", "heun", "consistency"] | None = None
    """by default ddim, which on policies of flow matching is euler; consistency for distilled students, which know no other"""
    sampling_steps: int | None = None
    """denoising steps for a decision; by default 10, for students 2"""
    n_action: int | None = None
    """actions to execute of each chunk; by default as trained, or as many as the chunk holds with the delay"""
    delay: int = 0
    """control steps of 0.1 s between seeing and acting"""
    asynchronous: Literal["wait", "naive", "prefix", "soft", "hard"] = "wait"
    """meanwhile: hold the last target; go on with the last chunk; and tell the next of it, as trained (prefix), softly, or hard"""
    temperature: float = 1.0
    """factor on the initial noise"""
    max_steps: int = 300
    """of an episode"""
    decisions: int = 40
    """how many are timed, one environment at a time"""
    video: Path | None = None
    """write an animation of the first four episodes here, with the predicted actions: .gif, or .mp4 where imageio-ffmpeg is installed"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:0 or mps"""
    threads: int = 1
    """CPU threads"""
    json: str | None = None
    """write the result here; - is standard output"""


@dataclass(frozen=True)
class SamplePushT:
    """Predict chunks of actions from one start and draw them.

    Example: unveil sample pusht --checkpoint runs/pusht --start 100003 --candidates 32 --out chunks.png
    """

    checkpoint: str = "runs/pusht"
    """a zoo name, a run or checkpoint folder, or others' policy: a .ckpt of real-stanford/diffusion_policy, a folder of LeRobot"""
    start: int = 100_000
    """seed of the published environment's start"""
    candidates: int = 32
    """chunks to draw"""
    solver: Literal["ddim", "euler", "ddpm", "dpmpp", "heun", "consistency"] | None = None
    """as of `unveil eval pusht`"""
    sampling_steps: int | None = None
    """denoising steps, as there"""
    out: Path = Path("chunks.png")
    """picture: .png"""
    seed: int = 0
    """of the noise"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:0 or mps"""
    json: str | None = None
    """write the chunks here; - is standard output"""


TRAIN_PRESETS = {
    "default": TrainPushT(),
    "tiny": TrainPushT(
        preset="tiny",
        widths=(32, 64, 128),
        step_width=64,
        width=96,
        depth=3,
        steps=1_500,
        warmup=100,
        batch_size=128,
        learning_rate=1e-3,
        save_every=500,
    ),
    "paper": TrainPushT(
        preset="paper",
        predicts="eps",
        widths=(256, 512, 1024),
        image_width=64,
        step_width=256,
        width=256,
        depth=8,
        steps=205_000,  # 5000 epochs of 41 batches of 256: 90 episodes have about 10,600 windows
        learning_rate=1e-4,
        episodes=90,
        bfloat16=False,
    ),
}
EVAL_PRESETS = {
    "default": EvalPushT(),
    "fast": EvalPushT(preset="fast", sampling_steps=5),
    "paper": EvalPushT(preset="paper", solver="ddpm", sampling_steps=100),
}


def for_network(config: Any, network: str) -> Any:
    """The published settings of the transformer, on the preset `paper`."""
    if network == "transformer" and isinstance(config, TrainPushT) and config.preset == "paper":
        return replace(config, network="transformer", weight_decay=0.1, warmup=1000, steps=328_000)
    return config
