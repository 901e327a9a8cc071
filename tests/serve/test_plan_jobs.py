"""`/api/plans` and `/api/clips`: the paths of the library, as they appear, and as they are driven."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import unveil
from unveil.planning.planner import Planner
from unveil.planning.planner_settings import LADDER
from unveil.planning.recipes.maze.load import find_layout
from unveil.serve import plans
from unveil.serve.models import Models


def planned(client, path="/api/plans", **asked):
    """The result of a job, and the data of its events."""
    answer = client.post(path, json=asked)
    assert answer.status_code == 202, answer.text
    events = client.get(f"/api/jobs/{answer.json()['id']}/events").text
    told = [json.loads(line[6:]) for line in events.splitlines() if line.startswith("data: ")]
    assert told[-1]["state"] == "done", told[-1]["error"]
    return client.get(f"/api/jobs/{told[-1]['id']}/result").json(), told


def test_a_plan_is_that_of_the_library_and_appears_out_of_noise(client):
    asked = {"checkpoint": "maze-umaze", "start": [1, 1], "goal": [3, 1], "steps": 6, "candidates": 3}
    result, told = planned(client, **asked, temperature=1.0, seed=5, drive=False)
    planner = unveil.load("maze-umaze", "cpu", seed=5, steps=6, candidates=3, temperature=1.0)
    states = []
    want = planner.plan((1.0, 1.0), (3.0, 1.0), on_state=lambda paths, t: states.append((paths, t)))
    assert np.array_equal(result["path"], want.path.round(4))
    assert (result["chosen"], result["lengths"]) == (want.chosen, want.lengths.tolist())
    assert [frame["t"] for frame in result["frames"]] == [round(t, 3) for _, t in states]
    for frame, (paths, _) in zip(result["frames"], states, strict=True):
        assert frame["candidates"] == [plans.shown(path) for path in paths]
        assert len(frame["candidates"][0]) <= plans.POINTS
    seen = [it["data"]["frame"] for it in told if it["data"]]
    assert seen == sorted(seen) and seen[-1] == len(states) - 1
    assert result["track"] == [] and result["wall_crossing"] is False


def test_long_samplings_are_thinned_but_keep_their_ends(client):
    result, _ = planned(
        client, checkpoint="maze-umaze", start=[1, 1], goal=[3, 1], steps=50, candidates=1, drive=False
    )
    times = [frame["t"] for frame in result["frames"]]
    assert len(times) <= plans.FRAMES + 2
    assert (times[0], times[-1]) == (1.0, 0.0)


def test_the_ball_drives_the_plan_that_is_shown(client):
    pytest.importorskip("mujoco")
    result, _ = planned(client, checkpoint="maze-umaze", start=[1, 1], goal=[3, 1], via=[[2, 3]], seed=2)
    track, path = np.array(result["track"]), np.array(result["path"])
    assert track[0].tolist() == [1, 1]
    assert np.linalg.norm(track[-1] - (3, 1)) < 0.5
    assert np.linalg.norm(track - (2, 3), axis=1).min() < 0.25
    assert abs(result["arrival"] - result["arrival_step_predicted"]) < 40
    assert result["replans"] == 0
    nearest = np.linalg.norm(track[:, None] - path, axis=2).min(1)
    assert nearest.max() < 0.5  # it follows this path


def test_a_driven_plan_is_bit_for_bit_the_planned_one():
    pytest.importorskip("mujoco")
    from unveil.planning.recipes.maze.drive import drive

    models, layout = Models((), 10**9, "cpu"), find_layout("umaze")
    model = models.paths(models.find("maze-umaze", "planner"))
    start, goal, via = np.array([1.0, 1.0]), np.array([3.0, 1.0]), [(None, np.array([2.0, 3.0]))]
    want = Planner(model, seed=3).plan(start, goal, via=via)
    planner = Planner(model, seed=3)
    drive(layout, planner, start, goal, via)
    assert planner.plans[0] is not None
    assert np.array_equal(planner.plans[0].path, want.path)


def test_a_budget_chooses_steps_and_candidates_by_costs_that_planners_of_a_model_share(client, studio):
    model = studio.models.paths(studio.models.find("maze-umaze", "planner"))
    costs = {rung: 10.0 * k for k, rung in enumerate(LADDER, 1)}
    plans.COSTS[model] = costs
    asked = {"checkpoint": "maze-umaze", "start": [1, 1], "goal": [3, 1], "drive": False}
    result, _ = planned(client, **asked, budget_ms=45)
    assert (result["steps"], result["candidates"]) == LADDER[3]
    result, _ = planned(client, **asked, budget_ms=1)
    assert (result["steps"], result["candidates"]) == LADDER[0]
    assert plans.COSTS[model] is costs


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        ({"start": [0, 0]}, 400, "inside a wall"),
        ({"goal": [50, 1]}, 400, "outside maze"),
        ({"via": [[0, 3]]}, 400, "`via`"),
        ({"start": [1, float("inf")]}, 422, "`start"),
        ({"start": [1]}, 422, "`start"),
        ({"checkpoint": "hopper-medium"}, 404, "no planner of a maze"),
        ({"checkpoint": "../maze-large"}, 404, "no planner of a maze"),
        ({"steps": 100_000}, 400, "at most 1000 steps"),
        ({"candidates": 10_000}, 422, "`candidates`"),
        ({"budget_ms": 5, "steps": 3}, 400, "leave these out"),
        ({"horizon": 40}, 400, "`drive=false`"),
        ({"via": [[1, 1]] * 17}, 422, "`via`"),
        ({"budget": 3}, 422, "`budget`"),
    ],
)
def test_what_cannot_be_planned_is_refused_in_one_line(client, asked, status, words):
    base = {"checkpoint": "maze-large", "start": [1, 1], "goal": [7, 9]}
    answer = client.post(
        "/api/plans", content=json.dumps(base | asked), headers={"content-type": "application/json"}
    )
    assert answer.status_code == status, answer.text
    assert words in answer.json()["detail"] and "\n" not in answer.json()["detail"]


def test_without_the_simulator_plans_are_drawn_and_clips_are_refused(client, monkeypatch):
    monkeypatch.setattr(plans, "missing", lambda *_, extra: f"pip install 'unveil[{extra}]'")
    needs = client.get("/api/plans").json()
    assert (needs["drive_needs"], needs["clips_need"]) == (
        "pip install 'unveil[maze]'",
        "pip install 'unveil[rl]'",
    )
    result, _ = planned(client, checkpoint="maze-umaze", start=[1, 1], goal=[3, 1])
    assert "unveil[maze]" in result["note"] and result["path"] and not result["track"]
    answer = client.post("/api/clips", json={})
    assert answer.status_code == 400 and "unveil[rl]" in answer.json()["detail"]


def test_a_clip_shows_the_episode_of_the_library(client):
    pytest.importorskip("mujoco")
    pytest.importorskip("gymnasium")
    from unveil.planning.worlds.locomotion.body import BODIES
    from unveil.planning.worlds.locomotion.episodes import LocomotionEpisodes

    result, told = planned(
        client, "/api/clips", checkpoint="hopper-medium-expert", max_episode_length=20, seed=4
    )
    image = Image.open(io.BytesIO(base64.b64decode(result["gif"])))
    assert (image.format, image.n_frames) == ("GIF", 5)  # every fifth step of 8 ms
    assert told[-1]["steps"] == 20
    world = LocomotionEpisodes(BODIES["hopper"], 1, 4)
    planner = unveil.load("hopper-medium-expert", "cpu", seed=4)
    for _ in range(20):
        world.step(planner.act(world.observations))
    assert result["return"] == pytest.approx(float(world.returns[0]), abs=1e-9)
    assert (result["steps"], result["fell"]) == (20, False)


def test_models_say_their_maze_and_their_body(client, tmp_path):
    models = {one["id"]: one for one in client.get("/api/models").json()}
    assert models["maze-umaze"]["maze"] == list(find_layout("umaze").rows)
    assert models["walker2d-medium-expert"]["body"] == "walker2d"
    assert models["emoji-text"]["maze"] == [] and models["emoji-text"]["body"] == ""
    run = tmp_path / "mine"
    run.mkdir()
    source = Path(unveil.__file__).parent / "zoo" / "maze-umaze"
    for file in source.iterdir():
        (run / file.name).write_bytes(file.read_bytes())
    mine = Models((str(run),), 10**9, "cpu")
    assert mine.find("mine", "planner").maze == find_layout("umaze").rows
    assert mine.paths(mine.find("mine", "planner")).shape.stride == 5
