"""PushT's scenes with predicted chunks drawn over them."""

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from unveil.policy.worlds.pusht.block import SIDE

EXECUTED, PREDICTED = (231, 111, 81), (142, 154, 175)


def with_chunk(
    picture: UInt8[np.ndarray, "S S 3"], chunk: Float[np.ndarray, "H 2"], executed: slice, text: str = ""
) -> UInt8[np.ndarray, "S S 3"]:
    """The picture with a chunk's positions: a line, and dots, warm and fading for executed actions."""
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image, "RGBA")
    positions = chunk * (len(picture) / SIDE)
    radius = max(1.5, len(picture) / 110)
    draw.line([tuple(p) for p in positions.tolist()], fill=(*PREDICTED, 200), width=max(1, round(radius / 2)))
    numbers = range(*executed.indices(len(positions)))
    for k, (x, y) in enumerate(positions.tolist()):
        colour = (*EXECUTED, 255 - 14 * (k - numbers.start)) if k in numbers else (*PREDICTED, 200)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    if text:
        draw.text((6, 4), text, fill=(31, 36, 48, 255))
    return np.asarray(image)
