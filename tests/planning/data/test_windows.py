"""Windows of numbered paths: every position tells its episode and its step, so a window is read back
exactly."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unveil.planning.data.episodes import Episodes
from unveil.planning.data.windows import ListedWindows, PathWindows


def numbered(lengths: list[int]) -> Episodes:
    """Observations (episode, step of the file, -1), exact in float32."""
    count = sum(lengths)
    episode = np.repeat(np.arange(len(lengths)), lengths)
    ends = np.zeros(count, dtype=bool)
    ends[np.cumsum(lengths) - 1] = True
    observations = np.stack([episode, np.arange(count), np.full(count, -1)], axis=1).astype(np.float32)
    return Episodes(
        observations,
        np.zeros((count, 1), np.float32),
        np.zeros(count, np.float32),
        np.zeros(count, bool),
        ends,
    )


def seeded(seed: int) -> torch.Generator:
    return torch.Generator(device="cpu").manual_seed(seed)


def read(windows: PathWindows, count: int, generator: torch.Generator) -> list[tuple[int, list[int]]]:
    """Draw; returns (episode, steps) of each row after checking padding, validity and lengths."""
    values, valid, lengths = windows.draw(count, generator)
    assert values.shape == (count, int(lengths.max()), 2) and valid.shape == values.shape[:2]
    rows = []
    for row, real, length in zip(values, valid, lengths.tolist(), strict=True):
        assert real.tolist() == [k < length for k in range(len(real))]
        assert (row[length:] == row[length - 1]).all()
        assert len(row[:, 0].unique()) == 1
        rows.append((int(row[0, 0]), [int(step) for step in row[:length, 1]]))
    return rows


def possible(lengths: list[int], stride: int) -> dict[tuple[int, int], int]:
    """Strides ahead of each step that has any, by (episode, step)."""
    rooms, step = {}, 0
    for episode, length in enumerate(lengths):
        for k in range(length):
            if (length - 1 - k) // stride:
                rooms[episode, step] = (length - 1 - k) // stride
            step += 1
    return rooms


@given(
    st.lists(st.integers(1, 17), min_size=1, max_size=8),
    st.integers(1, 5),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.integers(1, 4),
    st.integers(0, 1000),
)
def test_every_window_lies_in_one_episode_at_the_stride(lengths, stride, to_end, pool, seed):
    rooms = possible(lengths, stride)
    if not rooms:
        with pytest.raises(ValueError, match=f"no episode has more than {stride} steps"):
            PathWindows(numbered(lengths), 2, stride)
        return
    windows = PathWindows(numbered(lengths), 2, stride, to_end, pool)
    assert windows.longest == max(rooms.values()) + 1
    starts = np.cumsum([0, *lengths])
    for episode, steps in read(windows, 12, seeded(seed)):
        assert steps == list(range(steps[0], steps[0] + stride * len(steps), stride)) and len(steps) >= 2
        assert starts[episode] <= steps[0] and steps[-1] < starts[episode + 1]
        if to_end == 1.0:
            assert steps[-1] == starts[episode + 1] - 1


@pytest.mark.parametrize(
    ("to_end", "lengths"), [(0.0, {2, 3, 4, 5}), (1.0, {2, 3, 4, 5}), (0.5, {2, 3, 4, 5})]
)
def test_lengths_cover_two_to_the_longest(to_end, lengths):
    windows = PathWindows(numbered([9, 13, 2]), 2, 3, to_end)
    assert windows.longest == 5
    generator = seeded(0)
    rows = [row for _ in range(40) for row in read(windows, 16, generator)]
    assert {len(steps) for _, steps in rows} == lengths and {episode for episode, _ in rows} == {0, 1}


def test_windows_to_the_end_move_their_start_by_less_than_a_stride():
    windows = PathWindows(numbered([23]), 2, 5, to_end=1.0)
    generator = seeded(0)
    starts = {steps[0] for _ in range(40) for _, steps in read(windows, 16, generator)}
    assert starts == {2, 7, 12, 17}  # 22 minus whole strides


def test_share_to_the_end():
    windows, generator = PathWindows(numbered([400]), 2, 1, to_end=0.3, pool=1), seeded(0)
    ended = np.mean([steps[-1] == 399 for _ in range(40) for _, steps in read(windows, 50, generator)])
    assert ended == pytest.approx(
        0.3 + 0.7 * 0.0075, abs=0.04
    )  # others stop at the end by chance, about once in 130


@pytest.mark.parametrize("pool", [1, 4])
def test_windows_are_as_likely_as_stated(pool):
    """First step: of two uniform ones that with more room; length uniform; sorting by length within the pool
    changes nothing."""
    lengths, stride, count, draws = [7, 4], 2, 4, 2500
    rooms = possible(lengths, stride)
    firsts = list(rooms)
    chance: dict[tuple[int, int, int], float] = {}
    for a in firsts:
        for b in firsts:
            first = a if rooms[a] >= rooms[b] else b
            for strides in range(1, rooms[first] + 1):
                key = (*first, strides)
                chance[key] = chance.get(key, 0.0) + 1 / len(firsts) ** 2 / rooms[first]
    assert sum(chance.values()) == pytest.approx(1.0)
    windows, generator = PathWindows(numbered(lengths), 2, stride, to_end=0.0, pool=pool), seeded(1)
    seen = {key: np.zeros(draws) for key in chance}
    for k in range(draws):
        for episode, steps in read(windows, count, generator):
            seen[episode, steps[0], len(steps) - 1][k] += 1 / count
    for key, share in seen.items():
        assert abs(share.mean() - chance[key]) < 4.5 * share.std() / draws**0.5 + 1e-4, (
            key,
            share.mean(),
            chance[key],
        )


def test_a_batch_holds_similar_lengths():
    lengths = [60] * 5
    spread = {}
    for pool in (1, 8):
        windows, generator = PathWindows(numbered(lengths), 2, 1, to_end=0.0, pool=pool), seeded(0)
        spread[pool] = np.mean([windows.draw(16, generator)[2].float().std() for _ in range(50)])
    assert spread[8] < 0.4 * spread[1]


def test_a_generator_fixes_the_draw():
    windows = PathWindows(numbered([30, 50]), 2, 4)
    one, two, other = (windows.draw(8, seeded(seed)) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not torch.equal(one[0][:, 0], other[0][:, 0])


def test_only_the_leading_numbers():
    episodes = numbered([20])
    values, _, _ = PathWindows(episodes, 1, 2).draw(4, seeded(0))
    assert values.shape[2] == 1 and (values == 0).all()
    values, _, _ = PathWindows(episodes, 3, 2).draw(4, seeded(0))
    assert (values[..., 2] == -1).all()


def test_no_window_is_longer_than_asked_and_all_shorter_ones_occur():
    windows = PathWindows(numbered([40, 7]), 2, 2, 0.0, 1, longest=5)
    assert windows.longest == 5
    lengths = {len(steps) for _, steps in read(windows, 500, seeded(0))}
    assert lengths == {2, 3, 4, 5}


def test_listed_windows_draw_what_is_listed_the_long_ones_more():
    windows = PathWindows(numbered([40]), 2, 2, 0.0, 1)
    listed = ListedWindows(windows, torch.tensor([3, 10, 20]), torch.tensor([1, 2, 9]))
    assert listed.longest == 10
    rows = [steps for _ in range(300) for _, steps in read(listed, 2, seeded(_))]
    counts = {
        tuple(steps): rows.count(steps) / len(rows)
        for steps in ([3, 5], [10, 12, 14], list(range(20, 39, 2)))
    }
    assert sum(counts.values()) == pytest.approx(1.0)
    for share, (_, got) in zip(
        (1 / 9, 3 / 9, 5 / 9), counts.items(), strict=True
    ):  # the larger of two uniform ones
        assert got == pytest.approx(share, abs=0.06)
    with pytest.raises(ValueError, match="empty"):
        ListedWindows(windows, torch.tensor([], dtype=torch.long), torch.tensor([], dtype=torch.long))
