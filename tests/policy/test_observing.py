"""What an environment gives, as rows: dicts and arrays, one environment or several, numpy, torch and lists."""

import numpy as np
import pytest
import torch

from unveil.policy.model import PolicyShape
from unveil.policy.networks.observation import Part
from unveil.policy.observing import rows_of

ARM = PolicyShape(9, 2, parts=(Part("joints", (7,)), Part("grip", (2,))))
EYE = PolicyShape(3 * 4 * 6, 2, parts=(Part("eye", (3, 4, 6), 0),))
BOTH = PolicyShape(
    1 + 3 * 4 * 6 + 20, 2, parts=(Part("x", (1,)), Part("eye", (3, 4, 6), 0), Part("far", (1, 4, 5), 1))
)
JOINTS, GRIP = np.arange(7.0), np.array([8.0, 9.0])
ROW = np.array([[*range(7), 8, 9]], np.float32)


@pytest.mark.parametrize(
    ("given", "single"),
    [
        (ROW[0], True),
        (ROW, False),
        (ROW[0].tolist(), True),
        (torch.from_numpy(ROW), False),
        (torch.from_numpy(ROW[0]).requires_grad_(), True),
        ({"grip": GRIP, "joints": JOINTS, "other": "word"}, True),
        ({"grip": GRIP[None], "joints": torch.from_numpy(JOINTS)[None]}, False),
    ],
    ids=["row", "batch", "list", "torch batch", "torch row", "dict", "dict of batches"],
)
def test_the_same_row_from_every_form(given, single):
    rows, one = rows_of(ARM, given)
    np.testing.assert_array_equal(rows, ROW)
    assert one is single and rows.dtype == np.float32


def test_pictures_of_any_order_and_scale_are_channels_first_rows():
    picture = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    row = picture.transpose(2, 0, 1).reshape(1, -1)
    for given, single in (
        (picture, True),
        (picture[None], False),
        ({"eye": picture.transpose(2, 0, 1)}, True),
        ({"eye": torch.from_numpy(picture / 255.0)[None]}, False),
        (row.astype(float), False),
    ):
        rows, one = rows_of(EYE, given)
        np.testing.assert_array_equal(rows, row)
        assert one is single
    depth = np.linspace(0.4, 1.8, 20).reshape(4, 5)
    rows, _ = rows_of(BOTH, {"x": 3.0, "eye": picture, "far": depth})
    np.testing.assert_allclose(rows[0, -20:], depth.reshape(-1), rtol=1e-6)
    assert rows[0, 0] == 3.0
    several = {"x": [[1.0], [2.0]], "eye": np.stack([picture] * 2), "far": np.stack([depth] * 2)}
    assert rows_of(BOTH, several)[0].shape == (2, 93)


@pytest.mark.parametrize(
    ("shape", "given", "said"),
    [
        (
            ARM,
            np.zeros(7),
            r"must have shape \(B, 9\), or \(9,\) for one environment, or a dict with joints \(7,\), grip",
        ),
        (ARM, np.zeros((2, 1, 9)), r"got \(2, 1, 9\)"),
        (
            ARM,
            {"joints": JOINTS},
            r"'grip' is missing; needed are joints \(7,\), grip \(2,\), got \['joints'\]",
        ),
        (ARM, {"joints": JOINTS, "grip": GRIP[None]}, "of different numbers of environments"),
        (ARM, {"joints": JOINTS * np.nan, "grip": GRIP}, "'joints' must be finite"),
        (ARM, {"joints": ["a"] * 7, "grip": GRIP}, "'joints' must be numbers"),
        (
            EYE,
            {"eye": np.zeros((4, 6))},
            r"'eye' must have shape \(B, h, w, 3\), or \(h, w, 3\) for one environment",
        ),
        (EYE, {"eye": np.zeros((1, 4, 6, 4))}, r"got \(1, 4, 6, 4\)"),
        (EYE, {"eye": np.full((4, 6, 3), -1.0)}, "'eye' has colours from -1"),
        (ARM, None, "policy: observations"),
        (
            PolicyShape(9, 2),
            {"joints": JOINTS},
            r"array of shape \(B, 9\), or \(9,\) for one environment, got a dict",
        ),
    ],
)
def test_anything_else_is_one_error_with_the_wanted_shape(shape, given, said):
    with pytest.raises(ValueError, match=said) as caught:
        rows_of(shape, given)
    assert "\n" not in str(caught.value)
