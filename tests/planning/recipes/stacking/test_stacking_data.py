"""`unveil data stacking`: D4RL's layout and a card."""

import json

import numpy as np

from unveil.cli import main
from unveil.planning.data.d4rl import read_d4rl
from unveil.planning.data.stacking_states import cube_positions
from unveil.planning.worlds.stacking.stacks import stands_on


def test_a_file_and_its_card(tmp_path, capsys):
    file = tmp_path / "stacking.hdf5"
    words = ["data", "stacking", "--episodes", "3", "--split", "unseen", "--seed", "5"]
    assert main([*words, "--out", str(file)]) == 0
    said = capsys.readouterr().out
    assert "3 episodes" in said and "9 moves" in said
    episodes = read_d4rl(file)
    assert episodes.observations.shape[1:] == (39,) and episodes.actions.shape[1:] == (8,)
    assert len(episodes.ends) == 3 and not episodes.terminals.any()
    infos = episodes.infos
    for begin, end in zip(episodes.starts, episodes.ends, strict=True):
        assert infos["move"][begin] == 0 and (np.diff(infos["move"][begin:end]) >= 0).all()
    done = np.flatnonzero(episodes.rewards)
    assert len(done) == 9
    for step in done[:-1]:
        if episodes.timeouts[step]:
            continue
        cube, on = infos["cube"][step], infos["on"][step]
        holds = stands_on(cube_positions(episodes.observations[step + 1].astype(float)))
        assert on < 0 or holds[cube, on]
        assert (cube, on) not in {(k, (k + 1) % 4) for k in range(4)}
    card = json.loads(file.with_name("stacking.card.json").read_text())
    assert card["success"] == 1.0 and "red on green" in card["never_occurs"]
    assert set(card["moves"]).isdisjoint(card["never_occurs"])
    again = tmp_path / "again.hdf5"
    assert main([*words, "--out", str(again)]) == 0
    np.testing.assert_array_equal(read_d4rl(again).observations, episodes.observations)
