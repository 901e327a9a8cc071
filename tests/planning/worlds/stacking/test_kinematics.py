"""Forward and inverse kinematics against MuJoCo and closed forms."""

import mujoco
import numpy as np
import pytest

from unveil.planning.worlds.stacking.kinematics import (
    chain,
    down,
    guess,
    inverse,
    rotation_vector,
    tip,
    turned,
    wrapped,
)
from unveil.planning.worlds.stacking.mjcf import scene
from unveil.planning.worlds.stacking.scene import FLANGE, HOME, LIMITS, LINKS, LOWER, SHOULDER, TOOL, UPPER


def test_lengths_are_those_of_the_iiwa_14():
    offsets = [link.offset for link in LINKS]
    assert sum(offsets[:2]) == pytest.approx(SHOULDER) and sum(offsets[2:4]) == pytest.approx(UPPER)
    assert sum(offsets[4:6]) == pytest.approx(LOWER)
    straight = tip(np.zeros(7))
    np.testing.assert_allclose(
        straight.position, [0, 0, SHOULDER + UPPER + LOWER + FLANGE + TOOL], atol=1e-12
    )
    forward = tip(np.array([0, np.pi / 2, 0, 0, 0, 0, 0]))
    np.testing.assert_allclose(forward.position, [UPPER + LOWER + FLANGE + TOOL, 0, SHOULDER], atol=1e-12)
    bent = tip(np.array([np.pi / 2, 0, 0, -np.pi / 2, 0, np.pi / 2, 0]))  # elbow forwards, tool down
    np.testing.assert_allclose(bent.position, [0, LOWER, SHOULDER + UPPER - FLANGE - TOOL], atol=1e-12)


def test_the_tip_and_its_jacobian_are_mujocos():
    model = mujoco.MjModel.from_xml_string(scene())
    data, rng = mujoco.MjData(model), np.random.default_rng(0)
    for _ in range(20):
        joints = rng.uniform(-LIMITS, LIMITS)
        data.qpos[:7] = joints
        mujoco.mj_forward(model, data)
        pose, origins, axes = chain(joints)
        np.testing.assert_allclose(pose.position, data.site("tip").xpos, atol=1e-12)
        np.testing.assert_allclose(pose.rotation, data.site("tip").xmat.reshape(3, 3), atol=1e-12)
        along, around = np.zeros((3, model.nv)), np.zeros((3, model.nv))
        mujoco.mj_jacSite(model, data, along, around, model.site("tip").id)
        np.testing.assert_allclose(np.cross(axes, pose.position - origins).T, along[:, :7], atol=1e-12)
        np.testing.assert_allclose(axes.T, around[:, :7], atol=1e-12)


def test_rotation_vectors_are_undone_by_rodrigues_formula():
    rng = np.random.default_rng(1)
    for angle in (0.0, 1e-12, 0.3, 2.0, np.pi - 1e-9, np.pi):
        axis = rng.normal(size=3)
        axis /= np.linalg.norm(axis)
        found = rotation_vector(turned(axis, angle))
        assert np.linalg.norm(found) == pytest.approx(angle, abs=1e-6)
        np.testing.assert_allclose(
            turned(found / (np.linalg.norm(found) or 1.0), angle), turned(axis, angle), atol=1e-6
        )


@pytest.mark.parametrize("start", ["guess", "home"])
def test_inverse_kinematics_reach_the_pose(start):
    rng = np.random.default_rng(2)
    for _ in range(30):
        angle, yaw = rng.uniform(-2.5, 2.5), rng.uniform(-0.8, 0.8)
        radius, height = rng.uniform(0.45, 0.65), rng.uniform(0.06, 0.4)
        place = np.array([radius * np.cos(angle), radius * np.sin(angle), height])
        turn = angle + yaw
        found = inverse(
            place, turn, None if start == "guess" else HOME + np.array([angle, 0, 0, 0, 0, 0, -yaw])
        )
        np.testing.assert_allclose(tip(found).position, place, atol=1e-8)
        np.testing.assert_allclose(tip(found).rotation, down(turn), atol=1e-7)
        assert (np.abs(found) <= LIMITS).all()
        assert wrapped(found[0] - found[6] - turn) == pytest.approx(0.0, abs=1e-6)


def test_a_place_out_of_reach_is_refused():
    assert tip(guess(np.array([2.0, 0.0, 0.2]), 0.0)).position[0] < 0.9
    with pytest.raises(ValueError, match="cannot reach"):
        inverse(np.array([0.9, 0.0, 0.1]), 0.0)
