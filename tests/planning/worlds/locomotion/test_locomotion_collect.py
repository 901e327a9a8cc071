"""D4RL-style locomotion data: whole episodes that really happened, marked as D4RL marks them, the same
whatever the batch."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from policies import write_actor, write_snapshots
from unveil.errors import UnveilError
from unveil.planning.worlds.locomotion.body import BODIES
from unveil.planning.worlds.locomotion.collect import Part, action_noise, collect, mixture
from unveil.planning.worlds.locomotion.episodes import LocomotionEpisodes

HOPPER = replace(BODIES["hopper"], steps=25)  # some fall before, some do not
ARRAYS = ("observations", "actions", "rewards", "terminals", "timeouts", "final_observations")


@dataclass(frozen=True)
class Shaking:
    """Noise around a constant torque."""

    torque: float
    name: str = "shaking"

    def act(self, observations, noise=None):
        return np.clip(
            self.torque + 0.3 * (0 if noise is None else noise) + np.zeros((len(observations), 3)), -1, 1
        ).astype(np.float32)


PARTS = [Part(Shaking(0.0), 200), Part(Shaking(0.7), 150)]


@pytest.fixture(scope="module")
def data():
    return collect(HOPPER, PARTS, 3)


def test_the_same_whatever_the_batch_and_another_for_another_seed(data):
    seen = []
    for batch in (1, 3):
        again = collect(HOPPER, PARTS, 3, batch=batch, progress=seen.append)
        for name in ARRAYS:
            assert getattr(again, name).tobytes() == getattr(data, name).tobytes(), name
        assert (again.infos["policy"] == data.infos["policy"]).all()
    assert seen[-1] == len(data) and seen[0] < len(data)
    assert collect(HOPPER, PARTS, 4).observations[0].tobytes() != data.observations[0].tobytes()
    more = collect(
        HOPPER, [replace(PARTS[0], steps=300), PARTS[1]], 3
    )  # a longer set begins with the shorter one
    first = int((data.infos["policy"] == 0).sum())
    assert more.observations[:first].tobytes() == data.observations[:first].tobytes()
    assert more.observations[more.infos["policy"] == 1].tobytes() == data.observations[first:].tobytes()


def test_episodes_that_were_rolled_but_not_needed_are_left_out():
    """At seed 6 a batch of the expected number of episodes holds one too many (one at a time never does)."""
    body, part = replace(HOPPER, steps=200), Part(Shaking(0.3), 300)
    for seed in (5, 6):
        together, single = (collect(body, [part], seed, batch=batch) for batch in (64, 1))
        lengths = together.ends - together.starts
        assert together.observations.tobytes() == single.observations.tobytes()
        assert lengths.sum() >= 300 > lengths[:-1].sum()


def test_marks_and_lengths(data):
    lengths = data.ends - data.starts
    last = data.ends - 1
    assert (data.terminals | data.timeouts).sum() == len(lengths) and (data.terminals ^ data.timeouts)[
        last
    ].all()
    assert (data.timeouts[last] == (lengths == 25))[~data.terminals[last]].all() and (lengths <= 25).all()
    assert data.timeouts[last].any() and data.terminals[last].any()
    for part, wanted in enumerate((200, 150)):
        mine = lengths[data.infos["policy"][data.starts] == part]
        assert (
            wanted <= mine.sum() and mine.sum() - mine[-1] < wanted
        )  # whole episodes, and not one more than needed


def test_every_step_happened(data):
    """The recorded actions, replayed from the recorded starts, give the recorded observations, rewards and
    ends, at float32."""
    world = LocomotionEpisodes(HOPPER, 1, int(np.random.SeedSequence((3, 0)).generate_state(1)[0]))
    for episode in range(3):
        world.reset(int(np.random.SeedSequence((3, 0)).generate_state(1)[0]) + episode)
        for t in range(data.starts[episode], data.ends[episode]):
            assert data.observations[t].tobytes() == world.observations[0].astype(np.float32).tobytes()
            world.step(data.actions[t : t + 1].astype(np.float64))
            assert data.rewards[t] == np.float32(world.rewards[0])
            assert data.terminals[t] == world.terminated[0] and (data.terminals[t] or data.timeouts[t]) == (
                not world.running[0]
            )
        assert data.final_observations is not None
        assert (
            data.final_observations[episode].tobytes() == world.observations[0].astype(np.float32).tobytes()
        )
        assert data.returns[episode] == pytest.approx(world.returns[0], abs=1e-4)
    assert data.rewards.dtype == data.observations.dtype == data.actions.dtype == np.float32


def test_noise_is_the_policys_and_measured(data):
    shares = data.infos["policy"]
    assert data.actions[shares == 0].mean() == pytest.approx(0.0, abs=0.04)
    assert action_noise(Shaking(0.0), data, 0) == pytest.approx(0.3, abs=0.03)
    assert action_noise(Shaking(0.7), data, 1) < 0.28  # what the clip cuts off does not count
    starts = data.actions[data.starts]
    assert len(np.unique(starts[:, 0])) > 0.8 * len(starts)  # no two episodes have the same noise


def test_mixtures(tmp_path):
    body = BODIES["walker2d"]
    write_snapshots(tmp_path, body, [0, 20, 40, 60, 80, 100])
    write_actor(tmp_path, body)
    names = {
        mix: [part.policy.name for part in mixture(tmp_path, body, mix, 1000)]
        for mix in ("medium", "medium-expert", "expert")
    }
    assert names == {"medium": ["trpo-080"], "medium-expert": ["trpo-080", "tqc"], "expert": ["tqc"]}
    replay = mixture(tmp_path, body, "medium-replay", 1001)
    assert [part.policy.name for part in replay] == [
        "trpo-000",
        "trpo-020",
        "trpo-040",
        "trpo-060",
        "trpo-080",
    ]
    assert {part.steps for part in replay} == {201}
    with pytest.raises(UnveilError, match=r"needed are trpo_Hopper.npz and tqc_Hopper.npz \(--policies DIR"):
        mixture(tmp_path / "nowhere", BODIES["hopper"], "medium", 1000)
    with pytest.raises(UnveilError, match=r"tqc_Hopper.npz: no such file"):
        mixture(tmp_path, BODIES["hopper"], "expert", 1000)


@pytest.mark.parametrize(
    ("parts", "seed", "batch"), [([], 0, 1), ([Part(Shaking(0.0), 0)], 0, 1), (PARTS, -1, 1), (PARTS, 0, 0)]
)
def test_what_is_refused(parts, seed, batch):
    with pytest.raises(ValueError, match="collect: parts of at least 1 step"):
        collect(HOPPER, parts, seed, batch=batch)
