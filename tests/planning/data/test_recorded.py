"""Sources of any environment: dictionaries, Minari's format arrow, OGBench, discrete actions, no rewards."""

import json

import h5py
import numpy as np
import pytest

from unveil.errors import UnveilError
from unveil.planning.data.fields import Reading
from unveil.planning.data.recorded import read_for, read_recorded
from unveil.planning.data.source import read_episodes

T = 6
RNG = np.random.default_rng(0)
SEEN = RNG.normal(size=(2, T + 1, 4)).astype(np.float32)  # two episodes
GOAL = RNG.normal(size=(2, T + 1, 2)).astype(np.float32)
CHOSEN = RNG.integers(0, 3, (2, T))
SPEC = json.dumps({"id": "Own-v0"})


def minari_hdf5(folder, picture=False):
    (folder / "data").mkdir(parents=True)
    with h5py.File(folder / "data" / "main_data.hdf5", "w") as file:
        for i in range(2):
            group = file.create_group(f"episode_{i}")
            group["observations/observation"], group["observations/desired_goal"] = SEEN[i], GOAL[i]
            group["observations/achieved_goal"] = SEEN[i][:, :2]
            if picture:
                group["observations/camera"] = np.zeros((T + 1, 8, 8, 3), np.uint8)
            group["actions"], group["rewards"] = CHOSEN[i], np.ones(T)
            group["terminations"], group["truncations"] = np.zeros(T, bool), np.arange(T) == T - 1
    (folder / "data" / "metadata.json").write_text(json.dumps({"env_spec": SPEC}))
    return str(folder)


def minari_arrow(folder, flat_picture=False):
    pa = pytest.importorskip("pyarrow")

    def box(values):
        return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])

    box_of = {"type": "Box", "dtype": "float32"}
    inside = {"observation": [4], "achieved_goal": [2], "desired_goal": [2]}
    space = {"type": "Dict", "subspaces": {name: box_of | {"shape": n} for name, n in inside.items()}}
    if flat_picture:
        space = box_of | {"shape": [2, 2]}
    for i in range(2):
        place = folder / "data" / str(i)
        place.mkdir(parents=True)
        pad = np.append(CHOSEN[i], 0)
        parts = [SEEN[i], SEEN[i][:, :2].copy(), GOAL[i]]
        seen = pa.StructArray.from_arrays([box(v) for v in parts], names=list(inside))
        columns = {
            "episode_id": pa.array(np.full(T + 1, i)),
            "observations": box(SEEN[i]) if flat_picture else seen,
            "actions": pa.array(pad),
            "rewards": pa.array(np.append(np.ones(T), 0.0)),
            "terminations": pa.array(np.zeros(T + 1, bool)),
            "truncations": pa.array(np.append(np.arange(T) == T - 1, False)),
        }
        batch = pa.RecordBatch.from_pydict(columns)
        with pa.ipc.new_file(str(place / "part-0.arrow"), batch.schema) as writer:
            writer.write_batch(batch)
    (folder / "data" / "metadata.json").write_text(
        json.dumps({"env_spec": SPEC, "observation_space": json.dumps(space)})
    )
    return str(folder)


@pytest.mark.parametrize("write", [minari_hdf5, minari_arrow])
def test_minari_in_both_formats_is_goals_and_one_hot_actions(write, tmp_path):
    source = write(tmp_path / "set")
    episodes, interface = read_recorded(source)
    assert interface.fields == ("observation",) and interface.goal == (0, 1)
    assert interface.choices == 3 and interface.environment == "Own-v0"
    np.testing.assert_array_equal(episodes.observations, SEEN[:, :-1].reshape(-1, 4))
    np.testing.assert_array_equal(episodes.final_observations, SEEN[:, -1])
    np.testing.assert_array_equal(episodes.actions.argmax(1), CHOSEN.reshape(-1))
    np.testing.assert_array_equal(episodes.infos["goal"], GOAL[:, :-1].reshape(-1, 2))
    np.testing.assert_array_equal(episodes.ends, [T, 2 * T])
    again = read_for(interface, source)
    np.testing.assert_array_equal(again.observations, episodes.observations)
    np.testing.assert_array_equal(again.actions, episodes.actions)


def test_fields_are_chosen_by_name_in_the_given_order(tmp_path):
    source = minari_hdf5(tmp_path / "set", picture=True)
    episodes, interface = read_recorded(source, observe=("achieved_goal", "observation"), goal="none")
    assert interface.fields == ("achieved_goal", "observation") and interface.goal == ()
    np.testing.assert_array_equal(episodes.observations[:, :2], SEEN[:, :-1, :2].reshape(-1, 2))
    assert episodes.observations.shape[1] == 6
    with pytest.raises(UnveilError, match=r"names camera, which is an array of shape \(8, 8, 3\)"):
        read_recorded(source, observe=("camera",))
    with pytest.raises(UnveilError, match=r"names speed, but .* they have achieved_goal, desired_goal"):
        read_recorded(source, observe=("speed",))


def test_pictures_are_refused_with_the_reason(tmp_path):
    np.savez(
        tmp_path / "p.npz",
        observations=np.zeros((4, 8, 8, 3), np.uint8),
        actions=np.zeros((4, 1)),
        terminals=np.zeros(4, bool),
    )
    with pytest.raises(UnveilError, match=r"shape \(8, 8, 3\) per step, such as pictures"):
        read_recorded(str(tmp_path / "p.npz"))
    with pytest.raises(UnveilError, match=r"shape \(2, 2\) per step, such as a picture"):
        read_recorded(minari_arrow(tmp_path / "set", flat_picture=True))


def test_ogbench_has_no_rewards_so_whole_observations_are_goals(tmp_path, capsys):
    ends = np.arange(2 * T) % T == T - 1
    np.savez(
        tmp_path / "og.npz",
        observations=SEEN[:, :-1].reshape(-1, 4),
        actions=np.zeros((2 * T, 2), np.float32),
        terminals=ends.astype(np.float32),
        qpos=np.zeros((2 * T, 7)),
    )
    source = str(tmp_path / "og.npz")
    episodes, interface = read_recorded(source)
    assert interface.goal == (0, 1, 2, 3) and "no rewards" in capsys.readouterr().err
    assert not episodes.origin.rewarded and not episodes.rewards.any() and len(episodes.ends) == 2
    assert read_recorded(source, goal="0:2")[1].goal == (0, 1)
    with pytest.raises(UnveilError, match="neither rewards nor goals"):
        read_recorded(source, goal="none")
    with pytest.raises(UnveilError, match="'rewards' is missing"):
        read_episodes(source)  # `unveil train locomotion` needs them


def test_dictionaries_in_npz_and_in_d4rls_layout(tmp_path):
    count = 2 * T
    parts = {"b": np.arange(count), "a": SEEN[:, :-1].reshape(-1, 4), "name": np.array(["x"] * count)}
    flat = {"actions": np.zeros((count, 1)), "rewards": np.ones(count), "terminals": np.zeros(count, bool)}
    np.savez(tmp_path / "d.npz", **{f"observations/{k}": v for k, v in parts.items()}, **flat)
    with h5py.File(tmp_path / "d.hdf5", "w") as file:
        for name, value in flat.items():
            file[name] = value
        for name in ("a", "b"):
            file[f"observations/{name}"] = parts[name]
    for source in ("d.npz", "d.hdf5"):
        episodes, interface = read_recorded(str(tmp_path / source))
        assert interface.fields == ("a", "b")
        np.testing.assert_array_equal(episodes.observations[:, 4], np.arange(count))
        swapped, _ = read_recorded(str(tmp_path / source), observe=("b", "a"))
        np.testing.assert_array_equal(swapped.observations[:, 0], np.arange(count))


@pytest.mark.parametrize("damage", ["cut", "column"])
def test_damaged_arrow_files_are_one_line(damage, tmp_path):
    pa = pytest.importorskip("pyarrow")
    source = minari_arrow(tmp_path / "set")
    file = tmp_path / "set" / "data" / "0" / "part-0.arrow"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:200])
    else:
        batch = pa.RecordBatch.from_pydict({"observations": pa.array([1.0])})
        with pa.ipc.new_file(str(file), batch.schema) as writer:
            writer.write_batch(batch)
    with pytest.raises(UnveilError) as caught:
        read_episodes(source, Reading(rewards=False))
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
