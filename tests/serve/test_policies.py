"""`/api/policies`: sessions, their bounds, their states, and demonstrations that a training reads."""

import http.client
import json
import threading

import numpy as np
import pytest

pytest.importorskip("gym_pusht")

from unveil.cli import main
from unveil.policy.recipes.load import load_policy
from unveil.policy.recipes.pusht.data import observations_of, pusht_demonstrations
from unveil.policy.recipes.pusht.teleoperation import Teleoperation
from unveil.runs.checkpoints import find_checkpoint
from unveil.serve import policies
from unveil.serve.policies import ALONE, UNTOUCHED, Session, Sessions
from unveil.serve.refusal import Refused


@pytest.fixture
def scene():
    return Teleoperation(load_policy(find_checkpoint("pusht-keypoints"), "cpu"), "keypoints", 100_000)


def loaded(scene, clock=lambda: 0.0):
    session = Session(lambda: scene, clock)
    session.load()
    return session


def test_a_session_pushes_by_hand_and_by_the_policy_and_says_its_state(scene):
    session = loaded(scene)
    session.point((100.0, 200.0))
    for _ in range(12):
        session.tick()
    assert np.linalg.norm(np.array(session.state["agent"]) - (100, 200)) < 15
    assert (session.state["driver"], session.state["chunk"]) == ("person", [])
    state = session.command(lambda it: it.hand_over("policy"))
    assert (state["driver"], session.pointer) == ("policy", None)
    session.tick()
    assert len(session.state["chunk"]) == 16 and session.state["executed"] == [1, 9]
    assert session.state["target"] == pytest.approx(session.state["chunk"][1], abs=0.1)
    json.dumps(session.state)


def test_an_error_of_the_policy_ends_the_session_and_is_told(scene):
    session = loaded(scene)
    session.command(lambda it: it.hand_over("policy"))
    scene.policy.act = lambda *_: 1 / 0
    session.tick()
    assert session.closed and "ZeroDivisionError" in session.state["error"]


def test_a_solved_scene_stands_still_and_then_begins_anew(scene):
    session = loaded(scene)
    scene.world.solved[0] = True
    start = scene.start
    for _ in range(policies.SHOWN):
        session.tick()
    assert scene.start == start
    session.tick()
    assert scene.start == start + 1 and not session.state["solved"]


def test_sessions_are_bounded_and_abandoned_ones_are_dropped(scene, monkeypatch):
    monkeypatch.setattr(Session, "start", lambda self: None)
    now = 0.0
    sessions, made = Sessions(2), [Session(lambda: scene, lambda: now) for _ in range(5)]
    heard = lambda: None  # noqa: E731
    sessions.open(made[0])
    sessions.open(made[1])
    made[0].listen(heard)
    sessions.open(made[2])  # in place of 1, which nobody reads
    assert made[1].closed and sessions.find(made[0].id) is made[0]
    made[2].listen(heard)
    with pytest.raises(Refused, match="2 simulations"):
        sessions.open(made[3])
    made[2].unlisten(heard)
    now = ALONE + 1.0
    with pytest.raises(Refused, match="no such simulation"):
        sessions.find(made[2].id)
    assert made[2].closed
    assert sessions.find(made[0].id) is made[0]  # it is being read
    now = UNTOUCHED + 1.0  # but nobody has commanded it
    with pytest.raises(Refused):
        sessions.find(made[0].id)
    sessions.open(made[4])
    sessions.close()
    assert made[4].closed


def test_the_thread_moves_only_while_somebody_reads(scene):
    session = Session(lambda: scene)
    session.start()
    ticked = threading.Event()
    heard = lambda: session.state.get("step", 0) >= 3 and ticked.set()  # noqa: E731
    session.listen(heard)
    assert ticked.wait(30)
    session.unlisten(heard)
    session.close()
    assert session.closed


def opened(client):
    answer = client.post("/api/policies", json={"start": 100_003})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def load(session):
    """Wait until a session is loaded: beside it no other thread may change the filters of warnings."""
    ready = threading.Event()
    heard = lambda: session.scene is not None and ready.set()  # noqa: E731
    session.listen(heard)
    assert session.scene is not None or ready.wait(60)
    session.unlisten(heard)


def states(port, session, until):
    """States of a session as its events tell them, up to the first that fits."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", f"/api/policies/{session}/events")
        events = connection.getresponse()
        while line := events.readline().decode():
            if line.startswith("data: ") and until(state := json.loads(line[6:])):
                return state
    finally:
        connection.close()
    raise AssertionError("the events ended")


def test_a_reader_that_leaves_is_no_reader_any_more(client, port, studio):
    it = opened(client)
    session = studio.policies.find(it)
    load(session)
    states(port, it, lambda state: True)
    with session._changed:
        session._changed.wait_for(lambda: not session.watched, timeout=30)
    assert not session.watched
    client.delete(f"/api/policies/{it}")


def test_a_person_records_hands_over_and_downloads(client, port, studio, tmp_path):
    """The whole way through HTTP; the file is one that `unveil train pusht` trains on."""
    it = opened(client)
    load(studio.policies.find(it))
    before = states(port, it, lambda state: not state["loading"])
    assert (before["start"], before["driver"]) == (100_003, "person")
    answer = client.get(f"/api/policies/{it}/demonstrations")
    assert answer.status_code == 409 and "nothing has been recorded" in answer.json()["detail"]
    tell = lambda **asked: client.post(f"/api/policies/{it}", json=asked)  # noqa: E731
    assert tell(record=True).json()["recording"]
    assert tell(pointer=[400, 80]).status_code == 200
    states(port, it, lambda state: state["recorded"] >= 8)
    tell(record=True)  # a second episode
    states(port, it, lambda state: state["recorded"] >= 20)
    told = tell(driver="policy", delay=2, asynchronous="soft", keep_out=[330, 330, 60]).json()
    assert (told["delay"], told["asynchronous"], told["keep_out"]) == (2, "soft", [330, 330, 60])
    after = states(port, it, lambda state: state["chunk"])
    assert after["driver"] == "policy" and after["episodes"] == 2 and after["executed"][0] == 3
    assert tell(keep_out=[]).json()["keep_out"] == []
    assert tell(restart=True, start=5).json()["start"] == 5
    assert "delay" in tell(delay=9).json()["detail"]
    data = client.get(f"/api/policies/{it}/demonstrations").content
    file = tmp_path / "pusht-demonstrations.npz"
    file.write_bytes(data)
    read = pusht_demonstrations(str(file))
    assert read.observations["state"].shape == (after["recorded"], 5)
    assert read.actions[-1].tolist() == [400, 80]
    assert observations_of(read, "keypoints").shape == (len(read), 20)
    tiny = [
        "--preset",
        "tiny",
        "--steps",
        "1",
        "--batch-size",
        "4",
        "--widths",
        "8",
        "8",
        "--step-width",
        "8",
    ]
    run = ["--out", str(tmp_path / "run"), "--device", "cpu"]
    assert main(["train", "pusht", "--data", str(file), *tiny, *run]) == 0
    assert client.delete(f"/api/policies/{it}").status_code == 200
    assert client.post(f"/api/policies/{it}", json={}).status_code == 404


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"pointer": [600, 0]}, "`pointer"),
        ({"pointer": [1]}, "`pointer"),
        ({"keep_out": [1, 2]}, "`keep_out"),
        ({"keep_out": [1, 2, 1]}, "`keep_out"),
        ({"driver": "robot"}, "`driver"),
        ({"asynchronous": "later"}, "`asynchronous"),
        ({"pointers": [1, 2]}, "`pointers"),
    ],
)
def test_wrong_commands_are_refused_in_one_line(client, asked, words):
    answer = client.post("/api/policies/none", json=asked)
    assert answer.status_code == 422
    assert words in answer.json()["detail"] and "\n" not in answer.json()["detail"]


def test_unknown_sessions_and_models_are_not_found(client):
    for method, path in (("post", ""), ("delete", ""), ("get", "/events"), ("get", "/demonstrations")):
        answer = client.request(method, f"/api/policies/none{path}", json={} if method == "post" else None)
        assert answer.status_code == 404
    answer = client.post("/api/policies", json={"checkpoint": "maze-large"})
    assert answer.status_code == 404 and "pusht-keypoints" in answer.json()["detail"]


def test_without_the_simulator_the_tab_says_what_to_install(client, monkeypatch):
    monkeypatch.setattr(policies, "missing", lambda *_, extra: f"pip install 'unveil[{extra}]'")
    assert client.get("/api/policies").json() == {"simulator_needs": "pip install 'unveil[pusht]'"}
    answer = client.post("/api/policies", json={})
    assert answer.status_code == 400 and "unveil[pusht]" in answer.json()["detail"]


def test_models_say_which_delays_their_chunks_bridge(client):
    model = next(one for one in client.get("/api/models").json() if one["id"] == "pusht-keypoints")
    assert (model["kind"], model["most_delay"], model["prefix"]) == ("policy", 7, 0)
    assert model["methods"] == ["soft", "hard", "naive", "wait"]
