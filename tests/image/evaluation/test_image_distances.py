"""Distances between sets of features, held against closed forms; features and Gaussian images as
described."""

import numpy as np
import pytest
import torch

from unveil.errors import UnveilError
from unveil.files.pictures import read_parameters, write_picture
from unveil.image.data.images import ImageSet
from unveil.image.evaluation.distances import (
    frechet_distance,
    kernel_distance,
    memorised_share,
    nearest,
    precision_recall,
)
from unveil.image.evaluation.features import Pixels, SqueezeNet, extractor
from unveil.image.evaluation.linear_probe import ridge_classifier
from unveil.image.evaluation.metrics import gaussian_images, image_metrics
from unveil.image.evaluation.pages import grid


def with_moments(mean, covariance, count, rng) -> np.ndarray:
    """Samples whose mean and covariance (divided by N - 1) are exactly these."""
    x = rng.standard_normal((count, len(mean)))
    x -= x.mean(0)
    x = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T).reshape(len(mean), -1))).T
    return x @ np.linalg.cholesky(covariance).T + mean


def root(matrix) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return vectors * np.sqrt(values) @ vectors.T


@pytest.mark.parametrize("count", [40, 4])
def test_frechet_distance_of_known_moments(count):
    """Any covariances, by the symmetric root; and the Gaussians in one dimension, (m - m')^2 + (s - s')^2."""
    rng = np.random.default_rng(0)
    a, b = (x @ x.T + np.eye(3) * 0.1 for x in rng.standard_normal((2, 3, 3)))
    m, n = rng.standard_normal((2, 3))
    expected = ((m - n) ** 2).sum() + np.trace(a + b - 2 * root(root(a) @ b @ root(a)))
    assert frechet_distance(with_moments(m, a, count, rng), with_moments(n, b, 50, rng)) == pytest.approx(
        expected, rel=1e-6
    )
    line = frechet_distance(with_moments([1.0], [[4.0]], count, rng), with_moments([3.0], [[0.25]], 9, rng))
    assert line == pytest.approx(4.0 + 2.25, rel=1e-6)
    same = with_moments(m, a, count, rng)
    assert frechet_distance(same, same) == pytest.approx(0.0, abs=1e-6)


def test_kernel_distance_is_unbiased_and_finds_a_shift():
    """Mean over many pairs of small samples of one distribution: 0 within its error; biased it would be far
    above."""
    rng = np.random.default_rng(0)
    none = [kernel_distance(rng.standard_normal((8, 4)), rng.standard_normal((8, 4))) for _ in range(400)]
    error = np.std(none) / 20
    assert abs(np.mean(none)) < 3 * error and error < 0.1 < kernel_distance(
        rng.standard_normal((50, 4)) + 1.0, rng.standard_normal((50, 4))
    )


def test_kernel_distance_is_the_formula():
    a, b = np.array([[1.0], [2.0]]), np.array([[0.0], [3.0]])
    assert kernel_distance(a, b) == pytest.approx(27.0 + 1.0 - 2.0 * (1.0 + 1.0 + 4.0**3 + 7.0**3) / 4)


def test_precision_and_recall_of_constructed_sets():
    """Reality is two clusters; one is made well, one not at all, and a third of what is made is nowhere."""
    rng = np.random.default_rng(0)
    here, there, nowhere = (rng.uniform(-1, 1, (30, 2)) + shift for shift in ((0, 0), (10, 0), (0, 50)))
    precision, recall = precision_recall(
        np.concatenate([here, there]), np.concatenate([here + 1e-3, here - 1e-3, nowhere])
    )
    assert precision == pytest.approx(2 / 3) and recall == pytest.approx(1 / 2)
    assert precision_recall(here, here) == (1.0, 1.0)
    line = np.arange(5.0)[:, None]  # with k = 1 balls reach 1
    assert precision_recall(line, np.array([[4.9], [5.1], [-0.5], [9.0]]), k=1)[0] == 0.5


def test_repeating_training_images_is_seen():
    rng = np.random.default_rng(0)
    train, held, fresh = (rng.standard_normal((200, 5)) for _ in range(3))
    assert memorised_share(train[:50] + 1e-6, train, held) == 1.0
    assert memorised_share(fresh, train, held) < 0.1
    assert nearest(np.array([[0.0], [5.0]]), np.array([[1.0], [7.0]])) == pytest.approx([1.0, 4.0])


def test_gaussian_images_have_the_mean_and_covariance_of_pixels():
    rng = np.random.default_rng(0)
    shared = rng.normal(120, 25, (400, 1, 1, 1)) + rng.normal(0, 5, (400, 1, 2, 2))
    train = shared.round().clip(0, 255).astype(np.uint8)
    made = gaussian_images(train, 4000, rng)
    a, b = (x.reshape(len(x), -1).astype(float) for x in (train, made))
    np.testing.assert_allclose(b.mean(0), a.mean(0), atol=2)
    np.testing.assert_allclose(np.cov(b.T), np.cov(a.T), rtol=0.1)


def test_scores_stand_beside_their_floor_and_ceiling():
    rng = np.random.default_rng(0)
    train, held = (
        rng.integers(0, 2, (200, 1, 4, 4)).astype(np.uint8) * 255,
        rng.integers(0, 2, (40, 1, 4, 4)).astype(np.uint8) * 255,
    )
    seen = []
    sets = ImageSet(train), ImageSet(held)
    metrics, references = image_metrics(
        train[:40], *sets, Pixels(), np.random.default_rng(1), lambda *at: seen.append(at)
    )
    assert set(references) == {"floor", "gaussian", "held_out"} and seen[-1] == (5, 5)
    assert metrics["memorised_share"] == 1.0 and metrics["n"] == 40 and "class_hit_rate" not in metrics
    with pytest.raises(ValueError, match="give `n` 100"):
        image_metrics(np.concatenate([train, train]), *sets, Pixels(), rng, lambda *_: None)


def test_hits_are_of_the_class_that_was_asked_by_a_judge_that_is_named_or_fitted():
    """Dark and bright images: asked as they are, all hit; asked the other way round, none, by either
    judge."""
    rng, noise = (
        np.random.default_rng(0),
        lambda n, kinds: 60 + 120 * kinds[:, None, None, None] + rng.integers(-20, 20, (n, 1, 4, 4)),
    )
    kinds = [rng.integers(0, 2, n) for n in (200, 40, 50)]
    train, held, made = (noise(len(k), k).astype(np.uint8) for k in kinds)
    sets = ImageSet(train, kinds[0], ("dark", "bright")), ImageSet(held, kinds[1], ("dark", "bright"))
    for judge in (None, lambda pixels: (pixels.mean((1, 2, 3)) > 120).astype(int)):
        for asked, rate in ((kinds[2], 1.0), (1 - kinds[2], 0.0)):
            metrics, references = image_metrics(
                made, *sets, Pixels(), np.random.default_rng(1), lambda *_: None, asked, judge
            )
            assert metrics["class_hit_rate"] == rate and references["held_out"]["class_hit_rate"] == 1.0
    assert "class_hit_rate" not in references["gaussian"] and references["floor"]["class_hit_rate"] == 1.0


@pytest.mark.parametrize("features", [3, 30])
def test_the_linear_judge_is_ridge_regression_of_indicators(features):
    """Against the least squares of rows that stand for the penalty, with more samples than features and
    fewer."""
    rng = np.random.default_rng(0)
    x, labels = rng.normal(2, 3, (20, features)), rng.integers(0, 3, 20)
    white = (x - x.mean(0)) / x.std(0)
    told = np.eye(3)[labels]
    rows = np.concatenate([white, np.sqrt(0.1 * 20) * np.eye(features)])
    weights = np.linalg.lstsq(
        rows, np.concatenate([told - told.mean(0), np.zeros((features, 3))]), rcond=None
    )[0]
    others = rng.normal(2, 3, (50, features))
    expected = ((others - x.mean(0)) / x.std(0) @ weights + told.mean(0)).argmax(1)
    assert (ridge_classifier(x, labels)(others) == expected).all() and len(set(expected)) == 3
    with pytest.raises(ValueError, match="as many classes"):
        ridge_classifier(x, labels[1:])


def squeezenet(change) -> SqueezeNet:
    shapes = {"conv1": (96, 3, 7)}
    for k, (inputs, squeeze, expand) in enumerate(
        (
            (96, 16, 64),
            (128, 16, 64),
            (128, 32, 128),
            (256, 32, 128),
            (256, 48, 192),
            (384, 48, 192),
            (384, 64, 256),
            (512, 64, 256),
        ),
        2,
    ):
        shapes |= {f"fire{k}.squeeze": (squeeze, inputs, 1), f"fire{k}.expand1x1": (expand, squeeze, 1)}
        shapes |= {f"fire{k}.expand3x3": (expand, squeeze, 3)}
    weights = {}
    for name, (out, inputs, side) in shapes.items():
        weights |= {f"{name}.weight": torch.zeros(out, inputs, side, side), f"{name}.bias": torch.zeros(out)}
    for name, _ in shapes.items():  # the first channel goes through all
        if name != "conv1" and not name.endswith("3x3"):
            weights[f"{name}.weight"][0, 0] = 1.0
    change(weights)
    return SqueezeNet(weights)


@pytest.mark.parametrize(("channel", "minus"), [(0, 104.0), (1, 117.0), (2, 123.0)])
def test_squeezenet_reads_blue_green_red_minus_caffes_mean(channel, minus):
    """A first filter that picks one channel shows what it is fed: the colour 2, 1, 0 of RGB."""
    net = squeezenet(lambda weights: weights["conv1.weight"][0, channel, 3, 3].fill_(1.0))
    colour = np.array([200, 180, 160], np.uint8)
    features = net(np.broadcast_to(colour[None, :, None, None], (2, 3, 8, 8)))
    assert features.shape == (2, 512) and features[0, 0] == pytest.approx(float(colour[2 - channel]) - minus)
    assert not features[:, 1:].any()


def test_features_that_are_not_there_are_said(monkeypatch, tmp_path):
    monkeypatch.setenv("UNVEIL_DATA", str(tmp_path))
    monkeypatch.setenv("UNVEIL_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert extractor("auto").name == "pixels"
    with pytest.raises(UnveilError, match="take `extractor=pixels`"):
        extractor("squeezenet")


def test_grids_lie_row_by_row_and_pictures_keep_what_made_them(tmp_path):
    pixels = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2), np.uint8)
    page = grid(pixels, columns=2, gap=1)
    assert page.shape == (7, 7, 1) and (page[1, 1, 0], page[1, 4, 0], page[4, 1, 0], page[4, 4, 0]) == (
        0,
        1,
        2,
        255,
    )
    assert grid(pixels, least=5).shape == (2 * 8 + 2, 2 * 8 + 2, 1)
    write_picture(tmp_path / "a.png", page, '{"seed": 3}')
    assert read_parameters(tmp_path / "a.png") == '{"seed": 3}'
    write_picture(tmp_path / "b.png", page)
    with pytest.raises(UnveilError, match="no parameters of unveil"):
        read_parameters(tmp_path / "b.png")
