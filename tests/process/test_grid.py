"""Grids: the published sub-sequences, and spacing in the quantity that is claimed."""

import pytest
import torch

from analytic import CONTINUOUS
from unveil.process.grid import (
    exponential,
    jumping,
    karras,
    latent_consistency,
    leading,
    linspace,
    quadratic,
    respaced,
    respaced_by,
    sgm_uniform,
    strided,
    trailing,
    uniform,
)
from unveil.process.schedule import Flow, Karras, ScaledLinearBeta, log_snr, scaled_linear_betas, tabulated


def test_uniform_and_trailing():
    torch.testing.assert_close(uniform(4), torch.tensor([1, 0.75, 0.5, 0.25, 0], dtype=torch.float64))
    torch.testing.assert_close(
        uniform(2, start=0.6, end=0.2), torch.tensor([0.6, 0.4, 0.2], dtype=torch.float64)
    )
    assert (trailing(1000, 4) * 1000).tolist() == [1000, 750, 500, 250, 0]
    assert (trailing(10, 3) * 10).round().tolist() == [10, 7, 3, 0]


@pytest.mark.parametrize("schedule", CONTINUOUS[:4])
def test_karras_spacing_holds_on_every_schedule(schedule):
    times = karras(schedule, 9, sigma_min=0.02, sigma_max=12.0)
    ratio = (-0.5 * log_snr(schedule, times[:-1])).exp()
    roots = ratio ** (1 / 7)
    torch.testing.assert_close(roots.diff(), roots.diff()[:1].expand(8), rtol=1e-6, atol=0)
    assert float(ratio[0]) == pytest.approx(12.0)
    assert float(ratio[-1]) == pytest.approx(0.02)
    assert float(times[-1]) == 0.0


@pytest.mark.parametrize("schedule", CONTINUOUS[:4])
def test_exponential_spacing_holds_on_every_schedule(schedule):
    times = exponential(schedule, 9, sigma_min=0.02, sigma_max=12.0)
    ratio = (-0.5 * log_snr(schedule, times[:-1])).exp()
    expected = [12.0 * (0.02 / 12.0) ** (i / 8) for i in range(9)]
    assert ratio.tolist() == pytest.approx(expected, rel=1e-9)
    assert float(times[-1]) == 0.0
    with pytest.raises(ValueError, match=r"exponential grid: sigma / alpha must run from 0\.02 to 2e"):
        exponential(tabulated(scaled_linear_betas()), 9, 0.02, 2e8)


def test_grids_of_stable_diffusion():
    """Entries counted from 0, as its code does; k-diffusion's lie between them."""

    def entries(times):
        return (times * 1000 - 1).tolist()

    assert entries(leading(1000, 50))[:3] == pytest.approx([981, 961, 941])
    assert entries(leading(1000, 50))[-2:] == pytest.approx([1, 0])
    assert entries(leading(1000, 30))[:2] == pytest.approx([958, 925])
    assert entries(leading(1000, 4, offset=0, end=0)) == pytest.approx([750, 500, 250, 0, -1])
    assert entries(linspace(1000, 4)) == pytest.approx([999, 666, 333, 0, -1])
    assert entries(linspace(1000, 3)) == pytest.approx([999, 499.5, 0, -1])
    assert entries(sgm_uniform(1000, 4)) == pytest.approx([999, 749.25, 499.5, 249.75, -1])
    assert entries(sgm_uniform(1000, 4, rounded=True)) == pytest.approx([999, 749, 500, 250, -1])
    assert entries(latent_consistency(1000, 4)) == pytest.approx([999, 759, 499, 259, -1])
    assert entries(latent_consistency(1000, 1)) == pytest.approx([999, -1])
    assert (latent_consistency(10, 2) * 10).tolist() == pytest.approx([10, 5, 0])


def test_respaced_takes_each_sections_own_count():
    places = (respaced(1000, (10, 15, 20)) * 1000).round().long().flip(0)[1:] - 1
    assert len(places) == 45
    assert [int(((places >= a) & (places < b)).sum()) for a, b in ((0, 334), (334, 667), (667, 1000))] == [
        10,
        15,
        20,
    ]
    assert int(places[0]) == 0
    assert int(places[-1]) == 999  # both ends of the last section are taken
    # improved-diffusion: space_timesteps(10, [2, 3]) = {0, 4, 5, 7, 9}
    assert (respaced(10, (2, 3)) * 10).round().tolist() == [10, 8, 6, 5, 1, 0]


def test_a_range_that_the_schedule_does_not_have_is_refused():
    for schedule in (tabulated(scaled_linear_betas()), ScaledLinearBeta()):
        with pytest.raises(ValueError, match=r"goes from about .* to 14\."):
            karras(schedule, 18)
    with pytest.raises(ValueError, match="sigma_min"):
        karras(Karras(), 18, sigma_min=0.0005)


@pytest.mark.parametrize(
    "call",
    [
        lambda: uniform(0),
        lambda: trailing(10, 11),
        lambda: respaced(10, (6, 5)),
        lambda: uniform(2, 0.2, 0.5),
        lambda: leading(1000, 1000),  # the offset leads beyond the table
        lambda: leading(1000, 50, offset=0),  # no step from the first entry to itself
        lambda: leading(10, 11, end=0),
        lambda: linspace(10, 11),
        lambda: sgm_uniform(10, 0),
        lambda: latent_consistency(1000, 51),
        lambda: latent_consistency(10, 11),
        lambda: exponential(Flow(), 0),
        lambda: exponential(Flow(), 4, 2.0, 1.0),
    ],
)
def test_impossible_grids_are_refused(call):
    with pytest.raises(ValueError, match="grid"):
        call()


def test_quadratic_times_are_ddims():
    """Of the released code for S = 10, T = 1000: floor(linspace(0, sqrt(800), 10)^2), counted from 0."""
    times = quadratic(1000, 10)
    assert ((times * 1000).round() - 1).int().tolist() == [800, 632, 483, 355, 246, 158, 88, 39, 9, 0, -1]
    with pytest.raises(ValueError, match="at least 2"):
        quadratic(1000, 1)


def test_respacing_by_text_is_improved_diffusions():
    """space_timesteps(10, "ddim5") = {0, 2, 4, 6, 8}, (1000, "ddim25") every 40th; (10, "2,3") as its
    counts."""
    assert (respaced_by(10, "ddim5") * 10).round().tolist() == [9, 7, 5, 3, 1, 0]
    assert (strided(1000, 25) * 1000).round().tolist() == [*range(961, 0, -40), 0]
    torch.testing.assert_close(respaced_by(10, "2,3"), respaced(10, (2, 3)), rtol=0, atol=0)
    for text, message in (
        ("ddim7", "no stride takes exactly 7 of 10"),
        ("5,x", "must be counts such as"),
        ("", "must be counts"),
        ("6,1", r"section 0 must lie in 1 \.\. 5, got 6"),
    ):
        with pytest.raises(ValueError, match=message):
            respaced_by(10, text)


def test_jumps_walk_each_stretch_as_often_as_asked():
    times = uniform(5)  # 1, .8, .6, .4, .2, 0
    assert jumping(times, 2, 1).tolist() == times.tolist()
    walked = [1, 0.8, 0.6, 1, 0.8, 0.6, 0.4, 0.2, 0.6, 0.4, 0.2, 0, 0.2, 0]
    assert jumping(times, 2, 2).tolist() == pytest.approx(walked)
    with pytest.raises(ValueError, match="at least 1"):
        jumping(times, 0, 2)
