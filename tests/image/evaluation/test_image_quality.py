"""Decibels, medians and bicubic interpolation by hand."""

import numpy as np
import pytest

from unveil.image.evaluation.restoration import bicubic, median_filled, median_filtered, psnr


def test_decibels():
    """An error of 1 level everywhere is 48.13 dB, of 2 levels 6.02 dB less; nothing is infinite."""
    true = np.full((3, 1, 4, 4), 100, np.uint8)
    made = np.stack([true[0] + 1, true[0] - 2, true[0]])
    assert psnr(true, made).tolist() == pytest.approx([48.1308, 42.1102, np.inf], abs=1e-3)


def test_the_median_removes_single_errors_and_keeps_edges():
    page = np.zeros((1, 1, 6, 6), np.uint8)
    page[..., 3:] = 200
    wrong = page.copy()
    wrong[0, 0, 2, 1] = 255
    np.testing.assert_array_equal(median_filtered(wrong), page)


def test_holes_are_filled_from_the_rim_by_known_neighbours_alone():
    page = np.full((1, 1, 7, 7), 50, np.uint8)
    known = np.ones((1, 1, 7, 7), bool)
    known[0, 0, 1:6, 1:6] = False
    page[~known] = 255  # what is written there does not count
    np.testing.assert_array_equal(median_filled(page, known), np.full((1, 1, 7, 7), 50))
    np.testing.assert_array_equal(median_filled(page, np.zeros_like(known)), np.full((1, 1, 7, 7), 128))


def test_bicubic_is_exact_on_ramps_away_from_the_edges():
    ramp = np.broadcast_to(np.arange(0, 80, 8, dtype=np.uint8), (1, 1, 10, 10)).copy()
    large = bicubic(ramp, 2)
    assert large.shape == (1, 1, 20, 20)
    np.testing.assert_array_equal(large[0, 0, 10, 6:14], np.arange(6, 14) * 4 - 2)
