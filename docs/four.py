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
from unveil.sampling.noise import generators
from unveil.text.recipes.display import SHOWN_MASK, partly

DOCS = Path(__file__).resolve().parent
SIDE, HEAD, GAP = 208, 22, 10  # pixels: a panel, the line above it, what is between panels
FRAMES, REST = 40, 12  # of the denoising, and of the finished result
FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
INK = (31, 36, 48)
START = 100_005  # of PushT
PROMPTS = (  # what the packaged model was trained on, and pairs of a concept and a style (lower half) that it was not
    *(
        "noto emoji of pizza",
        "twemoji emoji of red apple",
        "noto emoji of tiger face",
        "fluent emoji of koala",
    ),
    *(
        "twemoji emoji of spider",
        "noto emoji of panda",
        "fluent flat emoji of grinning face",
        "noto emoji of frog",
    ),
    *("noto emoji of sunflower", "noto v1 emoji of red heart", "fluent flat emoji of ghost"),
    *("fluent flat emoji of whale", "noto emoji of lady beetle", "fluent emoji of tiger face"),
    *("noto emoji of black cat", "noto v1 emoji of carrot"),
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
    """Pictures of sixteen prompts: the states x_t of DDIM under guidance, decoded."""
    model, count = unveil.load("emoji-text").eval(), len(PROMPTS)
    schedule, times = model.denoiser.schedule, uniform(STEPS)
    cond = Branch(model.condition(None, count, prompts=PROMPTS))
    denoise = cfg(model.denoiser, cond, Branch(model.condition(None, count)), 3.0)
    x = torch.stack([torch.randn(model.sides_of(None), generator=g) for g in generators(0, count)])
    states = [x * float(schedule.sigma(times[0]))]
    sample(denoise, DDIM(schedule), states[0], times, on_step=lambda x, _: states.append(x))
    # most of them late, where things appear
    picked = (STEPS * np.linspace(0.0, 1.0, FRAMES + 1) ** 0.6).round().astype(int)
    return [sheet(model.pixels(states[k])) for k in picked]


def sheet(pixels: torch.Tensor) -> Image.Image:
    """Sixteen images (16, 3, S, S) uint8 in four rows, as a panel."""
    cell, page = SIDE // 4, Image.new("RGB", (SIDE, SIDE), "white")
    for k, image in enumerate(pixels.permute(0, 2, 3, 1).numpy()):
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
