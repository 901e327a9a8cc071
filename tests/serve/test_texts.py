"""`/api/texts`: texts token by token, equal to the library's."""

import json
from dataclasses import replace

import pytest
from refusals import refusal
from starlette.testclient import TestClient

import unveil
from lladas import save_llada
from unveil.sampling.noise import generators
from unveil.serve.app import app_of
from unveil.serve.config import Serve
from unveil.serve.jobs import Jobs
from unveil.serve.models import Models
from unveil.serve.studio import Studio
from unveil.serve.texts import shown_tokens
from unveil.text.chat import answer
from unveil.text.data.chat import Turn
from unveil.text.data.tokens import ByteTokens
from unveil.text.generation import continue_text, fill_gaps
from unveil.text.recipes.config import ANSWERED, SAMPLED

MODEL = "text-shakespeare"


def written(client, **asked):
    answer = client.post("/api/texts", json={"checkpoint": MODEL, **asked})
    assert answer.status_code == 202, answer.text
    job = answer.json()["id"]
    lines = client.get(f"/api/jobs/{job}/events").text.splitlines()
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    assert events[-1]["state"] == "done", events[-1]
    return client.get(f"/api/jobs/{job}/result").json(), events


@pytest.fixture(scope="module")
def shakespeare():
    return unveil.load(MODEL, "cpu")


def test_a_continuation_is_that_of_the_library(client, shakespeare):
    made, events = written(client, prompt="ROMEO:", length=24, seed=3)
    want = continue_text(shakespeare, ["ROMEO:"], replace(SAMPLED, length=24), generators(3, 1))
    assert made["text"] == "ROMEO:" + want[0]
    assert "".join(it["text"] for it in made["tokens"]) == made["text"]
    assert events[-1]["data"]["tokens"] == made["tokens"]
    given = len(shakespeare.tokens.encode("ROMEO:"))
    steps = [it["step"] for it in made["tokens"]]
    assert steps[:given] == [0] * given
    assert min(steps[given:]) >= 1 and max(steps) <= made["steps"]
    assert len(set(steps)) > 5


def test_events_show_tokens_as_they_are_decided(client):
    _, events = written(client, length=32, steps=8, order="confidence", seed=1)
    counts = [sum(not it["mask"] for it in event["data"]["tokens"]) for event in events if event["data"]]
    assert counts == sorted(counts)
    assert counts[-1] == 32
    for event in events:
        for it in event["data"].get("tokens", []):
            assert (it["step"] is None) == it["mask"]
            assert it["step"] is None or 1 <= it["step"] <= 8


def test_gaps_are_filled_as_the_library_fills_them(client, shakespeare):
    pattern = "To be, [*6] that is the [*2]."
    made, _ = written(client, infill=pattern, seed=5, order="confidence", temperature=0.0)
    settings = replace(SAMPLED, order="confidence", temperature=0.0, may_end=False)
    assert made["text"] == fill_gaps(shakespeare, [pattern], settings, generators(5, 1))[0]
    assert sum(it["step"] > 0 for it in made["tokens"]) == 8


def test_masked_tokens_are_written_again_and_the_others_stay(client):
    made, _ = written(client, prompt="JULIET:", length=16, seed=2)
    ids = [it["id"] for it in made["tokens"]]
    masked = [None if k in (9, 10, 12) else token for k, token in enumerate(ids)]
    again, _ = written(client, tokens=masked, seed=9)
    new = [it["id"] for it in again["tokens"]]
    assert [token for k, token in enumerate(new) if masked[k] is not None] == [
        token for token in masked if token is not None
    ]
    assert [k for k, it in enumerate(again["tokens"]) if it["step"]] == [9, 10, 12]


def test_a_chat_is_that_of_the_library_and_shows_the_answer_alone(client, shakespeare):
    turns = [{"role": "user", "content": "Speak."}]
    made, _ = written(client, messages=turns, length=20, seed=4, temperature=1.0)
    settings = replace(ANSWERED, length=20, temperature=1.0)
    want = answer(shakespeare, [[Turn("user", "Speak.")]], settings, generators(4, 1)).texts[0]
    assert made["text"].strip() == want
    ids = [it["id"] for it in made["tokens"]]
    again, _ = written(client, messages=turns, tokens=[None, *ids[1:]], seed=4)
    assert [it["id"] for it in again["tokens"]][1:] == ids[1:]


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        ({"checkpoint": "emoji-text"}, 404, "no model of text named"),
        ({"checkpoint": "/etc/passwd"}, 404, "no model of text named"),
        ({"prompt": "a", "infill": "b [*2]"}, 400, "give one of"),
        ({"infill": "no gap"}, 400, "no gap"),
        ({"infill": "a [*999999] b"}, 400, "at most 2048 tokens"),
        ({"tokens": [1, 2]}, 400, "nothing to write"),
        ({"tokens": [None, 5], "length": 4}, 400, "`length`"),
        ({"length": 5000}, 400, "at most 2048 tokens"),
        ({"steps": 100_000}, 400, "at most 1000 steps"),
        ({"order": "backwards"}, 422, "`order`"),
        ({"watch": True}, 422, "`watch`"),
        ({"order": "first-hitting", "remask": 0.5}, 400, "`remask` needs another `order`"),
        ({"tokens": [None, 10**6]}, None, "ids must lie in"),
        ({"length": 300}, None, "context is 256"),
        ({"length": 8, "steps": 2, "block": 2, "order": "random"}, None, "fewer than the 4 blocks"),
    ],
)
def test_what_cannot_be_followed_is_refused_in_one_line(client, asked, status, words):
    assert words in refusal(client, "/api/texts", {"checkpoint": MODEL, **asked}, status)


def test_models_say_what_they_can(client):
    models = {one["id"]: one for one in client.get("/api/models").json()}
    assert (models[MODEL]["context"], models[MODEL]["window"], models[MODEL]["chats"]) == (256, 0, False)


def test_characters_of_several_tokens_are_shown_whole():
    row = list("aé語b".encode())
    shown = shown_tokens(ByteTokens(), [*row, 256, 257, row[1]], [1] * len(row) + [2, None, 3], {})
    assert [it["text"] for it in shown] == ["a", "", "é", "", "", "語", "b", "", "", "\ufffd"]
    assert [it["end"] for it in shown].index(True) == len(row)
    assert [it["mask"] for it in shown].index(True) == len(row) + 1


def test_lladas_folders_are_served_as_they_are_published(tmp_path):
    save_llada(tmp_path / "LLaDA-tiny")
    (tmp_path / "plain").mkdir()
    save_llada(tmp_path / "plain" / "LLaDA-base")
    (tmp_path / "plain" / "LLaDA-base" / "tokenizer_config.json").unlink()
    places = (str(tmp_path / "LLaDA-tiny"), str(tmp_path / "plain" / "LLaDA-base"))
    models = Models(places, 10**9, "cpu")
    tiny, base = (models.find(name, "text") for name in ("LLaDA-tiny", "LLaDA-base"))
    assert (tiny.context, tiny.window, tiny.chats, base.chats) == (64, 0, True, False)
    assert models.loaded == []
    asked = {"checkpoint": "LLaDA-tiny", "messages": [{"role": "user", "content": "user and"}]}
    served = Studio(Serve(host="testserver", device="cpu"), models, Jobs(4, 60.0, 10**6))
    with TestClient(app_of(served)) as here:
        made, _ = written(here, **asked, length=8, steps=8, seed=2)
    own = unveil.load(places[0], "cpu")
    want = answer(own, [[Turn("user", "user and")]], replace(ANSWERED, length=8, steps=8), generators(2, 1))
    assert made["text"].strip() == want.texts[0]
