"""Two recorded demonstrations of PushT; see demonstrations/README.md."""

from pathlib import Path

from unveil.policy.data.demonstrations import read_demonstrations_npz

TWO = Path(__file__).parent / "demonstrations" / "pusht_two.npz"


def recorded():
    return read_demonstrations_npz(TWO)
