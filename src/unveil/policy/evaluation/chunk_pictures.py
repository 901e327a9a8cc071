"""Predicted chunks of actions of any robot, drawn: a panel for each number of an action, over the steps."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

WIDTH, HEIGHT, MARGIN, COLUMNS, MOST = 300, 120, 14, 3, 24  # pixels of a panel, panels per row, and in all
PREDICTED, EXECUTED, RECORDED = (142, 154, 175, 110), (231, 111, 81, 150), (31, 36, 48, 255)


def chunk_picture(
    chunks: Float[np.ndarray, "K H A"],
    recorded: Float[np.ndarray, "H A"],
    executed: slice,
    names: Sequence[str],
) -> UInt8[np.ndarray, "Y X 3"]:
    """Chunks beside the recorded actions: predicted grey, their executed part red, recorded black.

    Args:
        executed: the steps that are executed before the next decision.
        names: name of each number of an action.
    """
    count = min(MOST, chunks.shape[2])
    rows = -(-count // COLUMNS)
    sheet = Image.new("RGB", (min(count, COLUMNS) * WIDTH, rows * HEIGHT), (255, 255, 255))
    draw = ImageDraw.Draw(sheet, "RGBA")
    for i in range(count):
        left, top = (i % COLUMNS) * WIDTH + MARGIN, (i // COLUMNS) * HEIGHT + MARGIN
        wide, high = WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN
        both = np.concatenate([chunks[:, :, i].ravel(), recorded[:, i]])
        low, span = float(both.min()), float(np.ptp(both)) or 1.0

        def line(values: np.ndarray, first: int, colour: tuple[int, ...], width: int) -> None:
            x = left + wide * (first + np.arange(len(values))) / max(1, chunks.shape[1] - 1)  # noqa: B023
            y = top + high * (1.0 - (values - low) / span)  # noqa: B023
            points = list(zip(x.tolist(), y.tolist(), strict=True))
            draw.line(points * (1 if len(points) > 1 else 2), fill=colour, width=width)

        for chunk in chunks[:, :, i]:
            line(chunk, 0, PREDICTED, 1)
            line(chunk[executed], executed.start, EXECUTED, 2)
        line(recorded[:, i], 0, RECORDED, 2)
        draw.text((left, top - 12), f"{names[i]}  {low:.3g} .. {low + span:.3g}", fill=RECORDED)
    return np.asarray(sheet)
