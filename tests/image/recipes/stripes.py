"""Grey images of 8 x 8 stripes in two classes, with captions, and of rings; the flags of the smallest networks."""

from pathlib import Path
from shlex import split

import numpy as np
from PIL import Image

SMALL = split("--width 8 --multiples 1 2 --groups 4 --attention 4 --diffusion-steps 25 --device cpu")

TINY = split("--preset tiny --bfloat16 False --batch-size 8 --warmup 2") + SMALL
WORDS = split("--captions txt --text-width 8 --text-layers 1 --text-heads 2 --text-length 6")
TUNED = split(  # of trainings on a few pictures
    "--bfloat16 False --device cpu --batch-size 2 --save-every 3 --keep 0 --steps 6 --no-samples "
    "--learning-rate 1e-1"
)


def write_stripes(folder: Path) -> Path:
    """Write 40 images into `stripes/lie` and `stripes/stand` of a folder; returns `stripes`."""
    rng = np.random.default_rng(0)
    for k in range(40):
        bright = np.where(np.arange(8) // 2 % 2 == 0, 220, 30) + rng.integers(-20, 20, (8, 8))
        kind = folder / "stripes" / ("stand" if k % 2 else "lie")
        kind.mkdir(parents=True, exist_ok=True)
        Image.fromarray((bright if k % 2 else bright.T).astype(np.uint8)).save(kind / f"{k}.png")
    return folder / "stripes"


def write_captioned(folder: Path) -> Path:
    """`write_stripes`, with a caption in a .txt beside each image."""
    stripes = write_stripes(folder)
    for file in stripes.rglob("*.png"):
        file.with_suffix(".txt").write_text(f"stripes that {file.parent.name}\n")
    return stripes


def write_rings(folder: Path, side: int) -> Path:
    """Write two pictures of rings into `rings` of a folder; returns it."""
    (folder / "rings").mkdir()
    for k in range(2):
        y, x = np.mgrid[:side, :side] - (side - 1) / 2
        ring = np.where(np.hypot(y, x).round() % 4 < 2, 250, 5 + k)
        Image.fromarray(ring.astype(np.uint8)).save(folder / "rings" / f"{k}.png")
    return folder / "rings"
