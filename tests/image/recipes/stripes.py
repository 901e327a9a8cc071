"""Grey images of 8 x 8 stripes in two classes, and the flags of the smallest network for them."""

from pathlib import Path
from shlex import split

import numpy as np
from PIL import Image

SMALL = split("--width 8 --multiples 1 2 --groups 4 --attention 4 --diffusion-steps 25 --device cpu")


def write_stripes(folder: Path) -> Path:
    """Write 40 images into `stripes/lie` and `stripes/stand` of a folder; returns `stripes`."""
    rng = np.random.default_rng(0)
    for k in range(40):
        bright = np.where(np.arange(8) // 2 % 2 == 0, 220, 30) + rng.integers(-20, 20, (8, 8))
        kind = folder / "stripes" / ("stand" if k % 2 else "lie")
        kind.mkdir(parents=True, exist_ok=True)
        Image.fromarray((bright if k % 2 else bright.T).astype(np.uint8)).save(kind / f"{k}.png")
    return folder / "stripes"
