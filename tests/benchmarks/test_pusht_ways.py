"""Both ways round the block, and scores of drawn chunks, against what is known of them."""

import numpy as np
import pytest
from scipy.stats import binom

from metrics.energy_score import energy_score
from metrics.multimodality import ACROSS, ALONG, sides, symmetric_state
from unveil.policy.worlds.pusht.block import GOAL
from unveil.policy.worlds.pusht.episodes import PushTEpisodes
from unveil.runs.statistics import paired_ci95

START = symmetric_state()


def path(*places):
    """(across, along) to the agent's positions."""
    return np.stack([START[2:4] + across * ACROSS + along * ALONG for across, along in places])


def test_the_start_mirrors_itself():
    """The drawn scene and its mirror image about the stem's axis are equal; 90 degrees off they are not."""
    world = PushTEpisodes(1, 0)
    world.reset_to(START[None])
    picture = world.pictures(128)[0].astype(int)
    np.testing.assert_allclose((START[:2] - np.array(GOAL[:2])) @ ACROSS, 0.0, atol=1e-9)
    mirrored = picture.transpose(1, 0, 2)[::-1, ::-1]  # about the axis (-1, 1): x' = S - y, y' = S - x
    different = (np.abs(picture - mirrored).max(-1) > 60).mean()
    assert different < 0.02 < (np.abs(picture - picture[:, ::-1]).max(-1) > 60).mean()
    assert 0 < world.coverage[0] < 0.9 and (START[:4] > 20).all() and (START[:4] < 492).all()


def test_sides_and_commitment_of_known_paths():
    left = path((0, 190), (50, 150), (80, 50), (60, -40))
    right = path((0, 190), (-50, 150), (-80, 50), (-60, -40))
    wavers = path((0, 190), (50, 180), (-50, 150), (-60, -40))
    late = path((0, 190), (50, 100), (50, -40), (-80, -60))  # crosses behind the bar, where it may
    stays = path((0, 190), (10, 180), (-30, 170), (0, 160))
    found = sides(np.stack([left, right, wavers, late, stays], axis=1), START)
    assert found.left == pytest.approx(3 / 5) and found.right == pytest.approx(1 / 5)
    assert found.committed == pytest.approx(3 / 4)
    assert np.isnan(sides(stays[:, None], START).committed)


@pytest.mark.parametrize("numbers", [1, 2, 8, 32])
def test_the_energy_score_of_two_ways(numbers):
    """Truth 1/2 sqrt(D), mean sqrt(D), independent signs E sqrt(Binomial(D, 1/2)): what mixes ways loses more
    with every number."""
    random, shape = np.random.default_rng(0), (24, 400, numbers, 1)
    done = np.broadcast_to(random.choice([-1.0, 1.0], (400, 1, 1)), shape[1:])
    truth = np.broadcast_to(random.choice([-1.0, 1.0], (24, 400, 1, 1)), shape)
    apart = random.choice([-1.0, 1.0], shape)
    wrong = float(binom.expect(np.sqrt, (numbers, 0.5)))
    assert energy_score(truth, done) == pytest.approx(0.5 * numbers**0.5, rel=0.06)
    assert energy_score(np.zeros(shape), done) == pytest.approx(numbers**0.5)
    assert energy_score(apart, done) == pytest.approx(wrong, rel=0.06)
    with pytest.raises(ValueError, match="2 draws"):
        energy_score(truth[:1], done)


def test_a_paired_interval_is_that_of_the_differences():
    """A constant difference has no width however much both vary; the t quantile of 3 differences 0, 1, 2 is
    4.303 / sqrt(3)."""
    values = np.random.default_rng(0).normal(size=50)
    assert paired_ci95(values + 0.25, values) == pytest.approx((0.25, 0.0), abs=1e-12)
    mean, half = paired_ci95(np.array([0.0, 1.0, 2.0]), np.zeros(3))
    assert (mean, half) == pytest.approx((1.0, 4.3027 / 3**0.5), rel=1e-4)
    with pytest.raises(ValueError, match="same episodes"):
        paired_ci95(np.zeros(3), np.zeros(4))
