"""Policies against their formulas, number by number; and the real ones against the returns measured by
others, where they are."""

import csv
from math import exp, tanh
from pathlib import Path

import numpy as np
import pytest

from policies import write_actor, write_snapshots
from unveil.errors import UnveilError
from unveil.files.places import found
from unveil.planning.worlds.locomotion.behaviour_policies import load_actor, load_snapshots
from unveil.planning.worlds.locomotion.body import BODIES
from unveil.planning.worlds.locomotion.episodes import LocomotionEpisodes

HOPPER, WALKER = BODIES["hopper"], BODIES["walker2d"]
REAL = found(Path("mujoco_policies"))


def numbers(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def affine(row, weight, bias) -> list[float]:
    """weight[i][o] from i to o."""
    return [
        float(b) + sum(float(x) * float(weight[i][o]) for i, x in enumerate(row)) for o, b in enumerate(bias)
    ]


@pytest.mark.parametrize("noisy", [False, True])
def test_trpos_formula(tmp_path, noisy):
    path = write_snapshots(tmp_path, HOPPER, [0, 20, 40])
    stored = np.load(path)
    observations, noise = numbers(1, 6, 11), numbers(2, 6, 3)
    got = load_snapshots(path, HOPPER, range(20, 21))[0].act(observations, noise if noisy else None)
    expected = []
    for row, shock in zip(observations, noise, strict=True):
        a = {name.partition("/")[2]: stored[name] for name in stored if name.startswith("iter020/")}
        h = [(x - m) / (s + 1e-6) for x, m, s in zip(row, a["obs_mean"], a["obs_std"], strict=True)]
        h = [tanh(x) for x in affine(h, a["W0"], a["b0"])]
        h = [tanh(x) for x in affine(h, a["W1"], a["b1"])]
        mean = affine(h, a["W2"], a["b2"])
        free = [m + exp(s) * e * noisy for m, s, e in zip(mean, a["log_std"], shock, strict=True)]
        expected.append([min(max(x, -1.0), 1.0) for x in free])
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=2e-5)
    assert (np.abs(got) == 1).any() and (np.abs(got) < 1).any()


@pytest.mark.parametrize("noisy", [False, True])
def test_sacs_formula(tmp_path, noisy):
    path = write_actor(tmp_path, WALKER, "sac")
    stored = dict(np.load(path))
    stored["log_std.bias"][:3] = [30.0, -50.0, 0.0]  # beyond both ends of the clip
    stored["log_std.weight"][:2] = 0.0
    np.savez(path, **stored)
    policy = load_actor(path, WALKER)
    assert policy.name == "sac"
    observations, noise = numbers(3, 4, 17), numbers(4, 4, 6) * 0.1
    expected = []
    for row, shock in zip(observations, noise, strict=True):
        h = [max(x, 0.0) for x in affine(row, stored["latent_pi.0.weight"].T, stored["latent_pi.0.bias"])]
        h = [max(x, 0.0) for x in affine(h, stored["latent_pi.2.weight"].T, stored["latent_pi.2.bias"])]
        mu = affine(h, stored["mu.weight"].T, stored["mu.bias"])
        log_std = affine(h, stored["log_std.weight"].T, stored["log_std.bias"])
        free = [
            m + exp(min(max(s, -20.0), 2.0)) * e * noisy for m, s, e in zip(mu, log_std, shock, strict=True)
        ]
        expected.append([tanh(x) for x in free])
    np.testing.assert_allclose(policy.act(observations, noise if noisy else None), expected, atol=2e-5)


def test_a_row_does_not_depend_on_its_neighbours(tmp_path):
    """To the last bit, at the size of the real networks."""
    observations, noise = numbers(5, 37, 11), numbers(6, 37, 3)
    snapshot = load_snapshots(write_snapshots(tmp_path, HOPPER, [0], hidden=64), HOPPER, range(1))[0]
    for policy in (snapshot, load_actor(write_actor(tmp_path, HOPPER, hidden=256), HOPPER)):
        together = policy.act(observations, noise)
        for rows in (slice(0, 1), slice(5, 6), slice(3, 20), slice(30, 37)):
            assert policy.act(observations[rows], noise[rows]).tobytes() == together[rows].tobytes()


def test_snapshots_are_chosen_by_iteration(tmp_path):
    path = write_snapshots(tmp_path, HOPPER, [60, 0, 40, 20])
    assert [policy.name for policy in load_snapshots(path, HOPPER, range(41))] == [
        "trpo-000",
        "trpo-020",
        "trpo-040",
    ]
    with pytest.raises(
        UnveilError, match=r"no snapshot of iterations 100 .. 499; the file has \[0, 20, 40, 60\]"
    ):
        load_snapshots(path, HOPPER, range(100, 500))


def test_foreign_and_damaged_files_are_one_line(tmp_path):
    snapshots, actor = write_snapshots(tmp_path, HOPPER, [0]), write_actor(tmp_path, HOPPER)

    def refusal(read, path, *rest) -> str:
        with pytest.raises(UnveilError) as caught:
            read(path, *rest)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)
        return str(caught.value)

    assert "are not a policy of a walker2d" in refusal(load_snapshots, snapshots, WALKER, range(1))
    assert "are not a policy of a walker2d" in refusal(load_actor, actor, WALKER)
    assert "no snapshot" in refusal(load_snapshots, actor, HOPPER, range(1))
    assert "'latent_pi.0.weight' is missing" in refusal(load_actor, snapshots, HOPPER)
    good = dict(np.load(actor))
    changes = {
        "mu.bias": np.zeros(4),
        "mu.weight": np.full((3, 5), np.nan),
        "latent_pi.2.weight": np.zeros((5, 6)),
        "log_std.bias": 1.0,
    }
    for name, values in changes.items():
        np.savez(actor, **good | {name: np.asarray(values)})
        refusal(load_actor, actor, HOPPER)
    good = dict(np.load(snapshots))
    for name, values in (
        ("obs_std", np.zeros(10)),
        ("log_std", np.zeros((3, 1))),
        ("W1", np.zeros(5)),
        ("b2", np.array(np.inf)),
    ):
        np.savez(snapshots, **good | {f"iter000/{name}": values})
        refusal(load_snapshots, snapshots, HOPPER, range(1))
    np.savez(snapshots, **{name: values for name, values in good.items() if "log_std" not in name})
    assert "'iter000/log_std' is missing" in refusal(load_snapshots, snapshots, HOPPER, range(1))


@pytest.mark.skipif(not REAL.is_dir(), reason="the trained policies are not on this machine")
def test_the_real_hopper_runs_as_far_as_others_measured():
    rows = csv.DictReader((REAL / "returns.csv").read_text().splitlines())
    published = next(
        float(row["return_v5"])
        for row in rows
        if row["env"] == "Hopper" and row["algo"] == "trpo_deterministic"
    )
    policy = load_snapshots(REAL / "trpo_Hopper.npz", HOPPER, range(500, 501))[0]
    world = LocomotionEpisodes(HOPPER, 5, 0)
    while world.running.any():
        world.step(policy.act(world.observations))
    assert world.returns.mean() == pytest.approx(published, abs=6.0) and (world.lengths == 1000).all()
