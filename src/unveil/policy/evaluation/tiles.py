"""Several pictures as one."""

import numpy as np
from jaxtyping import UInt8


def tiled(pictures: UInt8[np.ndarray, "N h w 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """Up to four pictures as one, two per row, with white gaps."""
    count, (high, wide) = len(pictures), pictures.shape[1:3]
    columns, rows = min(2, count), (count + 1) // 2
    sheet = np.full((rows * (high + 4) - 4, columns * (wide + 4) - 4, 3), 255, np.uint8)
    for k, picture in enumerate(pictures):
        top, left = (k // 2) * (high + 4), (k % 2) * (wide + 4)
        sheet[top : top + high, left : left + wide] = picture
    return sheet
