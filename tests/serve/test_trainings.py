"""`/api/trainings`: a training that is stopped, resumed and used; and what is refused before it starts."""

import base64
import io
import json
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from unveil.errors import UnveilError
from unveil.runs.flags import flat
from unveil.serve.app import app_of
from unveil.serve.config import Limits, Serve
from unveil.serve.refusal import Refused
from unveil.serve.studio import studio_of
from unveil.serve.trainings.data import entries_of, store
from unveil.serve.trainings.recipes import recipes
from unveil.serve.trainings.state import curve_of, remaining
from unveil.verbs import RECIPES

HERE = "http://127.0.0.1:7860"
BOOK = ("the cat sat on the mat and the dog sat on the log. " * 40).encode()
TINY = {"preset": "tiny", "width": 32, "depth": 1, "context": 16, "batch_size": 4, "save_every": 10_000}


def b64(data):
    return base64.b64encode(data).decode()


def archive(**files):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        for name, data in files.items():
            zipped.writestr(name, data)
    return file.getvalue()


@pytest.fixture
def data(tmp_path):
    (tmp_path / "book.txt").write_bytes(BOOK)
    np.savez(tmp_path / "pictures.npz", images=np.zeros((8, 8, 8, 3), np.uint8))
    return tmp_path


@pytest.fixture
def served(data):
    """A server with data, its client and its studio."""
    places = tuple(str(data / name) for name in ("book.txt", "pictures.npz"))
    studio = studio_of(Serve(device="cpu", threads=1, data=places, runs=data / "runs"))
    with TestClient(app_of(studio), base_url=HERE) as client:
        yield client, studio


def until(client, name, wanted, looks=3000):
    """The state of a training when it is as wanted; it is another process, which is looked at now and then."""
    state, never = {}, threading.Event()
    for _ in range(looks):
        state = client.get(f"/api/trainings/{name}").json()
        if wanted(state):
            return state
        never.wait(0.1)
    raise AssertionError(state)


def ended(state):
    return state["state"] not in ("running", "stopping")


def test_a_training_is_stopped_resumed_and_used(served, data):
    client, studio = served
    asked = {**TINY, "name": "cats", "upload": b64(BOOK), "steps": 1_000_000}
    answer = client.post("/api/trainings/text", json=asked)
    assert answer.status_code == 202, answer.text
    assert answer.json()["state"] == "running"
    assert client.post("/api/trainings/text", json=asked | {"name": "more"}).status_code == 409
    assert client.post("/api/trainings/cats/use").status_code == 409

    until(client, "cats", lambda state: state["curve"])
    assert client.get("/api/trainings/cats").json()["seconds"] > 0
    assert client.post("/api/trainings/cats/stop").json()["state"] == "stopping"
    stopped = until(client, "cats", ended)
    assert (stopped["state"], stopped["saved"] > 0) == ("stopped", True)

    steps = stopped["saved"] + 5
    assert client.post("/api/trainings/cats/resume", json={"steps": steps}).status_code == 202
    done = until(client, "cats", ended)
    assert (done["state"], done["saved"], done["step"]) == ("done", steps, steps)
    assert client.post("/api/trainings/cats/resume", json={}).status_code == 400
    sample = done["samples"][-1]
    assert (sample["step"], sample["kind"]) == (steps, "txt")
    assert "---" in client.get(f"/api/trainings/cats/samples/{steps}").text
    assert client.get("/api/trainings/cats/samples/7").status_code == 404

    assert client.post("/api/trainings/cats/use").json() == {"model": "cats", "kind": "text"}
    job = client.post("/api/texts", json={"checkpoint": "cats", "length": 8, "seed": 1}).json()["id"]
    client.get(f"/api/jobs/{job}/events")
    assert len(client.get(f"/api/jobs/{job}/result").json()["tokens"]) == 8
    again = studio_of(studio.settings)
    assert "cats" in again.models.described
    assert [one["state"] for one in client.get("/api/trainings").json()["trainings"]] == ["done"]


def test_the_server_stops_and_the_training_saves(data):
    settings = Serve(device="cpu", threads=1, data=(str(data / "book.txt"),), runs=data / "runs")
    with TestClient(app_of(studio_of(settings)), base_url=HERE) as client:
        asked = {**TINY, "data": "book.txt", "steps": 1_000_000}
        name = client.post("/api/trainings/text", json=asked).json()["id"]
        assert name == "text-tiny-1"
        until(client, name, lambda state: state["curve"])
    after = studio_of(settings).trainings.describe(name)
    assert (after["state"], after["saved"] > 0) == ("stopped", True)


def test_a_training_that_fails_says_why(served):
    client, _ = served
    asked = {"preset": "tiny", "data": "pictures.npz", "steps": 2, "method": "ddpm", "width": 30}
    name = client.post("/api/trainings/image", json=asked).json()["id"]
    state = until(client, name, ended)
    assert state["state"] == "failed"
    assert state["message"].startswith("unveil: ")


def test_settings_are_those_of_the_command_line():
    for recipe in recipes().values():
        verb = RECIPES["train"][recipe.name]
        for setting in recipe.settings:
            for preset, default in setting.defaults.items():
                value = flat(verb.presets[preset])[setting.name]
                assert default == value or default is None
            assert setting.help
        names = [it.name for it in recipe.settings]
        assert {"steps", "learning_rate", "save_every", "data"} <= set(names)
        assert not {"out", "resume", "device"} & set(names)


@pytest.mark.parametrize(
    ("recipe", "asked", "status", "words"),
    [
        ("text", {"data": "../../etc/passwd"}, 400, "no data of that id"),
        ("text", {"data": "pictures.npz"}, 400, "no data of that id"),
        ("text", {"out": "/tmp/x"}, 422, "`out`"),
        ("text", {"name": "../x"}, 400, "`name`"),
        ("text", {"data": "book.txt", "upload": b64(BOOK)}, 400, "not both"),
        ("text", {"upload": b64(b"\x89PNG\0")}, 400, "another kind"),
        ("text", {"upload": "file:///etc/passwd"}, 400, "not fetched"),
        ("text", {"upload": b64(BOOK), "width": 31}, 400, "`width` must be a multiple"),
        ("text", {"upload": b64(BOOK), "steps": 0}, 400, "`steps` must be"),
        ("text", {"upload": b64(BOOK), "checkpoint": "/etc"}, 404, "no model of text"),
        ("text", {"upload": b64(BOOK), "checkpoint": "emoji-text"}, 404, "no model of text"),
        ("image", {"upload": b64(BOOK)}, 400, "another kind"),
        ("image", {"upload": b64(b"PK\x03\x04damaged")}, 400, "damaged"),
        ("image", {"upload": b64(archive(**{"../a.png": b"x"}))}, 400, "refused"),
        ("lora", {"base": "emoji-text"}, 400, "no data"),
        ("lora", {"captions": "/etc/passwd", "data": "pictures.npz"}, 422, "`captions`"),
        ("lora", {"dreambooth": "a\0b", "data": "pictures.npz"}, 400, "cannot be printed"),
        ("maze", {"maze": "/etc/passwd"}, 422, "`maze`"),
        ("maze", {"map": "##\n#"}, 400, "one length"),
        ("maze", {"map": "###\n#O#\n###", "maze": "large"}, 400, "not both"),
    ],
)
def test_what_cannot_be_followed_is_refused_and_leaves_nothing(served, data, recipe, asked, status, words):
    client, _ = served
    answer = client.post(f"/api/trainings/{recipe}", json=asked)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["detail"]
    assert "\n" not in answer.json()["detail"]
    assert not list((data / "runs").glob("*"))


def test_only_runs_of_the_server_are_named(served, data):
    client, _ = served
    (data / "runs" / "other").mkdir(parents=True)
    for name in ("other", "..", "%2e%2e", "nothing"):
        assert client.get(f"/api/trainings/{name}").status_code == 404
        assert client.post(f"/api/trainings/{name}/use").status_code in (404, 405)
    assert client.get("/api/trainings").json()["trainings"] == []


def test_servers_for_others_train_nothing(data):
    settings = Serve(device="cpu", runs=data / "runs", limits=Limits(trainings=0))
    with TestClient(app_of(studio_of(settings)), base_url=HERE) as client:
        assert client.post("/api/trainings/maze", json={}).status_code == 403


def test_data_have_ids_and_recipes(data):
    (data / "more").mkdir()
    (data / "more" / "book.txt").write_bytes(BOOK)
    entries = entries_of([str(data / "book.txt"), str(data / "more" / "book.txt"), str(data / "more")])
    assert list(entries) == ["book.txt", "book.txt-2", "more"]
    assert entries["book.txt"].recipes == ("text",)
    assert "image" in entries["more"].recipes
    with pytest.raises(UnveilError, match="no such file or folder"):
        entries_of([str(data / "nothing")])


def test_uploads_are_stored_by_their_content(tmp_path):
    file = io.BytesIO()
    np.savez(file, images=np.zeros((2, 8, 8), np.uint8))
    assert store(file.getvalue(), tmp_path / "a", "image", 10**6).name == "data.npz"
    folder = store(archive(**{"cats/1.png": b"x"}), tmp_path / "b", "image", 10**6)
    assert [path.name for path in folder.rglob("*.png")] == ["1.png"]
    assert store(BOOK, tmp_path / "c", "text", 10**6).read_bytes() == BOOK
    with pytest.raises(Refused, match="unpacks to more"):
        store(archive(**{"a.png": bytes(2000)}), tmp_path / "d", "image", 1000)


def test_curves_are_thinned_and_the_time_that_remains_is_estimated():
    records = [{"step": k, "loss": 1.0 / k, "steps_per_second": 2.0} for k in range(1, 2001)]
    curve = curve_of(records)
    assert len(curve) <= 401
    assert curve[-1] == [2000, 1.0 / 2000]
    assert remaining(records, 2000, 2100) == 50.0
    assert remaining([], 0, 10) is None
    assert curve_of([{"step": 1, "loss": None, "steps_per_second": 1.0}]) == []


def test_the_document_has_a_schema_for_each_recipe(client):
    document = client.get("/api/openapi.json").json()
    schemas = document["components"]["schemas"]
    assert schemas["TrainTextJob"]["properties"]["steps"]["description"] == "number of optimizer steps"
    assert schemas["TrainMazeJob"]["additionalProperties"] is False
    assert json.dumps(client.get("/api/recipes").json())
    assert Path("runs-studio").exists() is False
