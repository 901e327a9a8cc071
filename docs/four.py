"""The README's picture: `python docs/four.py` writes docs/four.gif, the four applications side by side.

Packaged weights make every panel: a plan through the large maze, a policy that pushes a block onto its mark,
images out of noise and a passage out of masks. It takes about half a minute of one core.
"""

import sys
from functools import partial
from pathlib import Path
from textwrap import wrap

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

import unveil
from unveil import DDIM, Branch, TextSettings, cfg, sample
from unveil.files.pictures import write_gif
from unveil.process.grid import uniform
from unveil.sampling.guidance import clipped
from unveil.sampling.noise import generators
from unveil.text.recipes.display import SHOWN_MASK, partly

DOCS = Path(__file__).resolve().parent
SIDE, HEAD, GAP = 208, 22, 10  # pixels: a panel, the line above it, what is between panels
FRAMES, REST = 40, 12  # of the denoising, and of the finished result
FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
INK = (31, 36, 48)
START = 100_005  # of PushT
SENTENCES = (
    "a red circle left of a blue square",
    "a yellow cross above a purple triangle",
    "a green triangle right of a black circle",
    "a blue cross below a red square",
    "a purple square above a green circle",
    "a black triangle left of a yellow square",
    "a large red triangle in the centre",
    "a small blue circle at the top right",
)
STEPS = 60  # of DDIM
LENGTH = 80  # tokens


def plan() -> list[Image.Image]:
    """A plan through the large maze by way of a waypoint: all candidates, then the chosen one."""
    from unveil.planning.evaluation.maze_pictures import plan_frames
    from unveil.planning.recipes.maze.load import layout_of, read_maze_config
    from unveil.runs.checkpoints import find_checkpoint

    layout = layout_of(read_maze_config(find_checkpoint("maze-large")))
    planner = unveil.load("maze-large", seed=3, steps=FRAMES - 1, temperature=1.0, candidates=6)
    states: list[tuple[np.ndarray, float]] = []
    start, goal = np.array([1.0, 1.0]), np.array([7.0, 9.0])
    made = planner.plan(start, goal, on_state=lambda state, t: states.append((state, t)))
    frames = plan_frames(layout, states, made.lengths, made.chosen, start, goal)[: FRAMES + 1]
    return [fitted(Image.fromarray(frame).crop((0, 40, frame.shape[1], frame.shape[0]))) for frame in frames]


def push() -> list[Image.Image]:
    """The packaged policy, with the chunk that it executes, from a start that takes it about 100 steps."""
    from unveil.policy.evaluation.pusht import roll
    from unveil.policy.evaluation.pusht_pictures import with_chunk
    from unveil.policy.worlds.pusht.episodes import PushTEpisodes
    from unveil.policy.worlds.pusht.observations import seen

    policy, world = unveil.load("pusht-keypoints", seed=START), PushTEpisodes(1, START)
    frames: list[Image.Image] = []

    def on_step(_: int) -> None:
        scene = with_chunk(world.pictures(2 * SIDE)[0], policy.chunks[0], policy.executed)
        frames.append(fitted(Image.fromarray(scene)))

    roll(world, partial(seen, "keypoints"), policy.act, on_step)
    return [frames[k] for k in np.linspace(0, len(frames) - 1, FRAMES + 1).round().astype(int)]


def draw() -> list[Image.Image]:
    """Eight classes of Fashion-MNIST above pictures of eight sentences: the states x_t of DDIM under guidance."""
    pages = []
    for name, labels, prompts, seed in (
        ("fashion-mnist", torch.tensor((1, 3, 5, 7, 8, 9, 0, 4)), None, 0),
        ("shapes-text", None, SENTENCES, 20),
    ):
        model = unveil.load(name).eval()
        schedule, times = model.denoiser.schedule, uniform(STEPS)
        cond = Branch(model.condition(labels, 8, prompts=prompts))
        null = Branch(model.condition(None, 8))
        denoise = clipped(cfg(model.denoiser, cond, null, 2.5), -1.0, 1.0)
        shape = (model.shape.channels, model.shape.size, model.shape.size)
        x = torch.stack([torch.randn(shape, generator=g) for g in generators(seed, 8)])
        states = [x * float(schedule.sigma(times[0]))]
        sample(denoise, DDIM(schedule), states[0], times, on_step=lambda x, _, to=states: to.append(x))
        picked = (
            (STEPS * np.linspace(0.0, 1.0, FRAMES + 1) ** 0.6).round().astype(int)
        )  # most of them late, where shapes appear
        pages.append([sheet(states[k]) for k in picked])
    frames = []
    for top, bottom in zip(*pages, strict=True):
        frame = Image.new("RGB", (SIDE, SIDE), "white")
        frame.paste(top, (0, 0))
        frame.paste(bottom, (0, SIDE // 2))
        frames.append(frame)
    return frames


def sheet(x: torch.Tensor) -> Image.Image:
    """Eight images (8, C, S, S) of -1 .. 1 in two rows, half a panel high."""
    cell, page = SIDE // 4, Image.new("RGB", (SIDE, SIDE // 2), "white")
    pixels = (
        ((x.clamp(-1.0, 1.0) + 1.0) * 127.5).round().byte().expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()
    )
    for k, image in enumerate(pixels):
        picture = Image.fromarray(image).resize((cell - 4, cell - 4), Image.Resampling.BICUBIC)
        page.paste(picture, (k % 4 * cell + 2, k // 4 * cell + 2))
    return page


def write() -> list[Image.Image]:
    """A passage out of masks, in the random order of the model's own process."""
    from unveil.text.generation import prompt_canvas
    from unveil.text.generation import write as fill

    model, rows = unveil.load("text-shakespeare"), []
    canvas = prompt_canvas([model.tokens.encode("ROMEO:\n")], LENGTH, model.tokens, model.device)
    settings = TextSettings(LENGTH, steps=LENGTH, order="first-hitting", temperature=0.6, may_end=False)
    fill(model, canvas, settings, generators(9, 1), lambda state: rows.append(state[0].tolist()))
    rows.insert(0, canvas.ids[0].tolist())
    picked = np.linspace(0, len(rows) - 1, FRAMES + 1).round().astype(int)
    return [passage(partly(model, rows[k])) for k in picked]


def passage(text: str) -> Image.Image:
    """Text, with a grey cell for each token that is still masked."""
    page = Image.new("RGB", (SIDE, SIDE), "white")
    brush, font = ImageDraw.Draw(page), ImageFont.truetype(str(FONTS / "DejaVuSansMono.ttf"), 11)
    lines = [
        part for line in text.split("\n") for part in wrap(line, SIDE // 7, drop_whitespace=False) or [""]
    ]
    for y, line in enumerate(lines[: SIDE // 14]):
        for x, sign in enumerate(line):
            if sign == SHOWN_MASK:
                brush.rectangle((x * 7 + 1, y * 14 + 3, x * 7 + 6, y * 14 + 11), fill=(214, 219, 229))
            else:
                brush.text((x * 7, y * 14), sign, fill=INK, font=font)
    return page


def fitted(image: Image.Image) -> Image.Image:
    """The image within a panel, its sides in proportion."""
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    page = Image.new("RGB", (SIDE, SIDE), "white")
    page.paste(image, ((SIDE - image.width) // 2, (SIDE - image.height) // 2))
    return page


def main(out: Path = DOCS / "four.gif") -> None:
    torch.set_num_threads(1)
    panels = [("plan", plan()), ("control", push()), ("draw", draw()), ("write", write())]
    font = ImageFont.truetype(str(FONTS / "DejaVuSans-Bold.ttf"), 13)
    frames: list[np.ndarray] = []
    for k in [*range(FRAMES + 1), *[FRAMES] * REST]:
        page = Image.new("RGB", (4 * SIDE + 5 * GAP, SIDE + HEAD + 2 * GAP), "white")
        for column, (name, made) in enumerate(panels):
            left = GAP + column * (SIDE + GAP)
            ImageDraw.Draw(page).text((left, GAP // 2), name, fill=INK, font=font)
            page.paste(made[k], (left, HEAD + GAP))
        frames.append(np.asarray(page))
    write_gif(out, frames, 90)
    print(f"{out}: {len(frames)} frames, {out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
