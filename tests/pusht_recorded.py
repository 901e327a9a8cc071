"""Two recorded demonstrations of PushT, and flags of small runs; see demonstrations/README.md."""

import shlex
from pathlib import Path

from unveil.policy.data.demonstrations import read_demonstrations_npz

TWO = Path(__file__).parent / "demonstrations" / "pusht_two.npz"
SMALL = shlex.split("--preset tiny --widths 8 16 --threads 1 --device cpu")  # a training
TINY = [*SMALL, "--data", str(TWO), "--batch-size", "8"]
QUICK = shlex.split(
    "--episodes 2 --max-steps 10 --decisions 2 --sampling-steps 2 --device cpu"
)  # an evaluation


def recorded():
    return read_demonstrations_npz(TWO)
