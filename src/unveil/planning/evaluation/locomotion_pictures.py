"""Bodies that walk, drawn from the side; no OpenGL is needed."""

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

WIDTH, HEIGHT, FINER = 480, 240, 2  # pixels of a frame, and how much finer it is drawn
SCALE = 110.0  # pixels per metre
GROUND = 205  # pixels from the top
SKY, EARTH, MARK, LIMBS = (
    "#f4f6fa",
    "#d5dce6",
    "#8c9bb0",
    ("#1f5fbf", "#2a9d8f", "#e07b39", "#7c4dbe", "#264653"),
)


def side_frame(capsules: Float[np.ndarray, "G 5"], step: int) -> UInt8[np.ndarray, "Y X 3"]:
    """One frame; the camera follows the body, and marks on the ground are a metre apart.

    Args:
        capsules: as `LocomotionEpisodes.side_view` gives them.
        step: the number that is written at the corner.
    """
    size = (WIDTH * FINER, HEIGHT * FINER)
    image = Image.new("RGB", size, SKY)
    draw = ImageDraw.Draw(image)
    camera = float(capsules[0, [0, 2]].mean())
    scale, ground = SCALE * FINER, GROUND * FINER

    def across(x: float | int) -> float:
        return size[0] / 2 + (x - camera) * scale

    draw.rectangle((0, ground, *size), fill=EARTH)
    reach = WIDTH / 2 / SCALE
    for metre in range(int(np.floor(camera - reach)), int(np.ceil(camera + reach)) + 1):
        draw.line((across(metre), ground, across(metre), ground + 8 * FINER), fill=MARK, width=2 * FINER)
        draw.text((across(metre) + 4, ground + 9 * FINER), f"{metre} m", fill=MARK, font_size=10 * FINER)
    for k, (x0, z0, x1, z1, radius) in enumerate(capsules.tolist()):
        ends = [(across(x), ground - z * scale) for x, z in ((x0, z0), (x1, z1))]
        colour, thick = LIMBS[k % len(LIMBS)], radius * scale
        draw.line((*ends[0], *ends[1]), fill=colour, width=round(2 * thick))
        for x, y in ends:
            draw.ellipse((x - thick, y - thick, x + thick, y + thick), fill=colour)
    draw.text((8 * FINER, 6 * FINER), f"step {step}", fill="#4a5766", font_size=12 * FINER)
    return np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.BOX))
