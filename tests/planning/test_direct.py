"""Direct trips are told from detours in a recording without marks."""

import numpy as np
import torch

from unveil.planning.data.episodes import Episodes
from unveil.planning.data.windows import PathWindows
from unveil.planning.direct_trips import direct_windows


def wanderer(steps: int, seed: int) -> Episodes:
    """A point on [0, 10] that walks 0.1 a step to one random goal after another; its goals are not
    recorded."""
    rng = np.random.default_rng(seed)
    place, goal, places = 5.0, 5.0, []
    for _ in range(steps):
        places.append(place)
        if abs(goal - place) < 0.1:
            goal = rng.uniform(0.0, 10.0)
        place += 0.1 * np.sign(goal - place)
    zeros = np.zeros(steps, dtype=bool)
    return Episodes(
        np.array(places, dtype=np.float32)[:, None],
        np.zeros((steps, 1), np.float32),
        np.zeros(steps, np.float32),
        zeros,
        zeros,
    )


def test_windows_that_turn_back_are_left_out():
    windows = PathWindows(wanderer(20_000, 0), 1, 2, to_end=0.0, longest=80)
    generator = torch.Generator(device="cpu").manual_seed(0)

    def straightness(first: torch.Tensor, strides: torch.Tensor) -> torch.Tensor:
        start, goal = windows.ends(first, strides)
        return (goal - start).abs()[:, 0] / (0.2 * strides)  # 1 for a window without a turn

    all_of_them = straightness(*windows.propose(20_000, generator))
    listed = direct_windows(windows, generator, steps=250, rows=512, proposals=140_000)
    kept = straightness(listed.first, listed.strides)
    assert (all_of_them > 0.9).float().mean() < 0.35
    assert (kept > 0.9).float().mean() > 0.9
    assert 7_000 < len(kept) < 70_000
    assert listed.strides.max() > 40  # long trips are kept too, not only short ones
    repeated = direct_windows(
        windows, torch.Generator(device="cpu").manual_seed(1), steps=5, rows=64, proposals=66_000
    )
    again = direct_windows(
        windows, torch.Generator(device="cpu").manual_seed(1), steps=5, rows=64, proposals=66_000
    )
    assert torch.equal(repeated.first, again.first)
