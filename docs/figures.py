"""Figures of the application pages: `python docs/figures.py locomotion pusht images text` writes PNG files.

Each takes less than a minute. `locomotion` uses the packaged planner, `pusht` the demonstrations below
$UNVEIL_DATA (`unveil data pusht` downloads others). `images` and `text` need no model: for a few images or
sentences the exact belief is known, and unveil's own solvers use it as they would use a network's.
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image, ImageDraw

DOCS = Path(__file__).resolve().parent
LINES = [
    "to be, or not to be",
    "the rest is silence",
    "what a piece of work",
    "to thine own self be",
    "the play's the thing",
]


def locomotion() -> plt.Figure:
    """Plans of the packaged Hopper at four decisions, and what it then did, planning again at every step."""
    import unveil
    from unveil.planning.evaluation.locomotion import roll
    from unveil.planning.worlds.locomotion.body import body_of
    from unveil.planning.worlds.locomotion.episodes import LocomotionEpisodes

    planner = unveil.load("hopper-medium-expert", preset="default", batch_size=16, plan_horizon=16)
    world, decisions, plans = LocomotionEpisodes(body_of("hopper"), 1, seed=1000), (60, 80, 100, 120), {}
    heights, torques = [], []

    def act(observations: np.ndarray) -> np.ndarray:
        if len(heights) in decisions:
            plans[len(heights)] = planner.plan(observations[0])
        heights.append(observations[0, 0])
        actions = planner.act(observations)
        torques.append(actions[0, 0])
        return actions

    roll(world, act, 140)
    figure, axes = plt.subplots(2, 1, figsize=(7.2, 4.2), sharex=True, layout="constrained")
    columns = (
        ("height of the torso, m", 3, heights),
        ("torque of the thigh, of 1", 0, torques),
    )  # rows are 3 torques, 11 observations
    for axis, (name, column, done) in zip(axes, columns, strict=True):
        for step, drawn in plans.items():
            x = step + np.arange(drawn.shape[1])
            axis.plot(x, drawn[1:, :, column].T, color="tab:blue", alpha=0.3, linewidth=0.8)
            axis.plot(x, drawn[0, :, column], color="tab:orange", linewidth=1.8)
            axis.axvline(step, color="lightgrey", linewidth=0.8, zorder=0)
        axis.plot(done, color="black", linewidth=1.2)
        axis.set(ylabel=name, xlim=(50, 140))
    for colour, label in (
        ("black", "what the body did"),
        ("tab:blue", "16 plans"),
        ("tab:orange", "the one of the highest value"),
    ):
        axes[0].plot([], [], color=colour, label=label)
    axes[0].legend(loc="lower right", fontsize=8)
    axes[1].set_xlabel("step; a decision is made at every one, four are drawn")
    return figure


def pusht() -> plt.Figure:
    """Four recorded situations, each with the next 16 recorded actions."""
    from unveil.policy.evaluation.pusht_pictures import tiled, with_chunk
    from unveil.policy.recipes.pusht.data import pusht_demonstrations
    from unveil.policy.worlds.pusht.episodes import PushTEpisodes

    demonstrations, pictures = pusht_demonstrations("pusht"), []
    for episode, step in ((3, 20), (3, 60), (40, 30), (110, 45)):
        row = int(demonstrations.starts[episode]) + step
        world = PushTEpisodes(1, 0)
        world.reset_to(demonstrations.observations["state"][row : row + 1].astype(np.float64))
        chunk = demonstrations.actions[row - 1 : row + 15].astype(
            np.float64
        )  # as trained on: one action before, one now, 14 to come
        pictures.append(
            with_chunk(world.pictures(288)[0], chunk, slice(1, 9), f"demonstration {episode}, step {step}")
        )
    sheet = tiled(np.stack(pictures))
    figure = plt.figure(figsize=(sheet.shape[1] / 100, sheet.shape[0] / 100), dpi=100)
    figure.add_axes((0, 0, 1, 1)).imshow(sheet)
    figure.axes[0].set_axis_off()
    return figure


def shapes(size: int = 32) -> torch.Tensor:
    """(6, 1, S, S) in -1 .. 1: drawings that are all the data there are."""
    pictures = []
    for k in range(6):
        image = Image.new("L", (size, size), 0)
        draw, a, b = ImageDraw.Draw(image), size // 5, size - size // 5
        match k:
            case 0:
                draw.ellipse((a, a, b, b), fill=255)
            case 1:
                draw.rectangle((a, a, b, b), outline=255, width=4)
            case 2:
                draw.polygon([(size // 2, a), (b, b), (a, b)], fill=255)
            case 3:
                draw.line((a, a, b, b), fill=255, width=5)
                draw.line((a, b, b, a), fill=255, width=5)
            case 4:
                draw.rectangle((a, a, b, a + 5), fill=255)
                draw.rectangle((size // 2 - 3, a, size // 2 + 2, b), fill=255)
            case _:
                draw.ellipse((a, a, b, b), outline=255, width=4)
        pictures.append(torch.from_numpy(np.asarray(image, dtype=np.float32).copy()) / 127.5 - 1.0)
    return torch.stack(pictures)[:, None]


def images() -> plt.Figure:
    """The states and the exact beliefs of one sample on its way, by DDIM on DDPM's table."""
    from unveil import DDIM, GaussianDenoised, sample
    from unveil.process.grid import uniform
    from unveil.process.schedule import linear_betas, tabulated

    data, schedule = shapes(), tabulated(linear_betas())
    shown: list[tuple[float, torch.Tensor, torch.Tensor]] = []

    def exact(x: torch.Tensor, t: torch.Tensor) -> GaussianDenoised:
        alpha, sigma = float(schedule.alpha(t[:1])), float(schedule.sigma(t[:1]))
        distance = (x[:, None] - alpha * data[None]).square().flatten(2).sum(2)
        weight = (-distance / (2.0 * sigma**2)).softmax(1)  # p(which picture | x_t), by Bayes
        mean = torch.einsum("bk,kcij->bcij", weight, data)
        shown.append((float(t[0]), x[0, 0], mean[0, 0]))
        return GaussianDenoised(mean)

    noise = torch.randn((1, *data.shape[1:]), generator=torch.Generator().manual_seed(2))
    sample(exact, DDIM(schedule), noise, uniform(40))
    picked = [shown[k] for k in (0, 6, 10, 14, 18, 22, 28, 39)]
    figure, axes = plt.subplots(2, len(picked), figsize=(8.4, 2.5), layout="constrained")
    for column, (t, state, mean) in enumerate(picked):
        for row, (picture, low) in enumerate(((state, -2.5), (mean, -1.0))):
            axes[row, column].imshow(picture, cmap="gray", vmin=low, vmax=-low)
            axes[row, column].set(xticks=[], yticks=[])
        axes[0, column].set_title(f"t = {t:.2f}", fontsize=8)
    axes[0, 0].set_ylabel("state $x_t$", fontsize=8)
    axes[1, 0].set_ylabel("belief $m$", fontsize=8)
    return figure


def text() -> plt.Figure:
    """One canvas as it fills, letter by letter, with the exact beliefs of five lines."""
    from unveil.process.denoised import MaskedDenoised
    from unveil.process.grid import uniform
    from unveil.process.schedule import Flow
    from unveil.sampling.loop import sample
    from unveil.sampling.masked import FirstHittingUnmask

    letters = sorted(set("".join(LINES)))
    mask, length = len(letters), max(map(len, LINES))
    data = torch.tensor([[letters.index(c) for c in line.ljust(length)] for line in LINES])

    def exact(x: torch.Tensor, t: torch.Tensor) -> MaskedDenoised:
        fits = (
            ((x[:, None] == mask) | (x[:, None] == data)).all(2).double()
        )  # lines that the letters so far allow
        share = torch.einsum("bk,klv->blv", fits, torch.nn.functional.one_hot(data, mask + 1).double())
        return MaskedDenoised((share / fits.sum(1)[:, None, None]).clamp(min=1e-30).log())

    rows: list[torch.Tensor] = [torch.full((length,), mask)]
    sample(
        exact,
        FirstHittingUnmask(Flow(), mask),
        rows[0][None],
        uniform(10),
        generator=torch.Generator().manual_seed(5),
        on_step=lambda x, s: rows.append(x[0].clone()),
    )
    figure, axis = plt.subplots(figsize=(7.2, 2.9), layout="constrained")
    for k, row in enumerate(rows):
        axis.text(-1.2, k, f"t = {1 - k / 10:.1f}", ha="right", va="center", fontsize=8, color="grey")
        for place, token in enumerate(row.tolist()):
            hidden = token == mask
            new = not hidden and k > 0 and int(rows[k - 1][place]) == mask
            colour = "tab:orange" if new else "black"
            style = {"ha": "center", "va": "center", "family": "monospace", "fontsize": 11}
            sign, shade = ("■", "lightgrey") if hidden else (letters[token], colour)
            axis.text(place, k, sign, color=shade, **style)
    axis.set(xlim=(-3.5, length), ylim=(len(rows) - 0.4, -0.6))
    axis.set_axis_off()
    return figure


FIGURES = {"locomotion": locomotion, "pusht": pusht, "images": images, "text": text}


def main() -> None:
    for name in sys.argv[1:] or list(FIGURES):
        out = DOCS / f"{name}.png"
        FIGURES[name]().savefig(out, dpi=100)
        Image.open(out).convert("RGB").quantize(64).save(out, optimize=True)
        print(out, out.stat().st_size)


if __name__ == "__main__":
    main()
