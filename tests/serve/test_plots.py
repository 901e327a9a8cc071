"""X/Y/Z plots: the values of axes, and cells that are the files of single jobs."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from unveil.serve.plots import axis_of
from unveil.serve.refusal import Refused

CLOTHES = {"checkpoint": "fashion-mnist", "steps": 2, "seed": 3}


def job(client, path, asked):
    answer = client.post(path, json=asked)
    assert answer.status_code == 202, answer.text
    events = client.get(f"/api/jobs/{answer.json()['id']}/events").text
    states = [json.loads(line[6:]) for line in events.splitlines() if line.startswith("data: ")]
    assert states[-1]["state"] == "done", states[-1]
    return states


def files(client, last):
    return [client.get(f"/api/jobs/{last['id']}/images/{k}").content for k in range(last["images"])]


@pytest.mark.parametrize(
    ("setting", "text", "values"),
    [
        ("steps", "1, 2, 4-8", [1, 2, 4, 5, 6, 7, 8]),
        ("steps", "1-9 (+2)", [1, 3, 5, 7, 9]),
        ("steps", "8-4", [8, 7, 6, 5, 4]),
        ("steps", "10-1 (-3)", [10, 7, 4, 1]),
        ("seed", "0-10 [3]", [0, 5, 10]),
        ("scale", "1-2 (+.25)", [1.0, 1.25, 1.5, 1.75, 2.0]),
        ("scale", "1.5, 3", [1.5, 3.0]),
        ("strength", "0.1-0.3 (+0.1)", [0.1, 0.2, 0.3]),
        ("strength", "0-1 [4]", [0.0, 0.333333333, 0.666666667, 1.0]),
        ("solver", "dpmpp, heun", ["dpmpp", "heun"]),
        ("prompt", 'cat, "a dog, red", cat', ["cat", "a dog, red", "cat"]),
    ],
)
def test_values_are_those_of_the_script_of_the_web_ui(setting, text, values):
    assert axis_of(setting, text).values == values


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("steps", ""),
        ("steps", " , "),
        ("steps", "four"),
        ("steps", "1.5"),
        ("steps", "1-999999999999"),
        ("steps", "1-9 [999]"),
        ("steps", "1-9 (+0)"),
        ("steps", "1-9 (-1)"),
        ("steps", "1-9 (+0.5)"),
        ("scale", "1-2 (+1e-9)"),
        ("scale", "nan"),
        ("scale", "1e999"),
        ("scale", "..-.."),
        ("seed", "1" * 5000),
        ("seed", "٣"),
        ("solver", "x," * 65),
    ],
)
def test_values_that_are_none_are_refused(setting, text):
    with pytest.raises(Refused, match=f"`{setting}`"):
        axis_of(setting, text)


def test_cells_are_the_files_of_single_jobs(client):
    x = {"setting": "steps", "values": "1, 2-3"}
    y = {"setting": "class", "values": "bag, coat"}
    z = {"setting": "solver", "values": "dpmpp, heun"}
    states = job(client, "/api/plots", {"image": CLOTHES, "x": x, "y": y, "z": z})
    cells = files(client, states[-1])
    want = []
    for solver in ("dpmpp", "heun"):
        for name in ("bag", "coat"):
            for steps in (1, 2, 3):
                asked = CLOTHES | {"steps": steps, "class": [name], "solver": solver}
                want += files(client, job(client, "/api/images", asked)[-1])
    assert cells == want
    steps = [one["step"] for one in states]
    assert steps == sorted(steps) and steps[-1] == states[-1]["steps"]
    assert states[-1]["data"] == {"cells": 12, "of": 12}


def test_a_text_of_the_prompt_is_replaced(client):
    base = {"checkpoint": "emoji-text", "steps": 2, "seed": 3, "prompt": ["a red heart"]}
    axis = {"setting": "prompt", "values": "red, blue, dark green"}
    last = job(client, "/api/plots", {"image": base, "y": axis})[-1]
    want = [
        files(client, job(client, "/api/images", base | {"prompt": [f"a {colour} heart"]})[-1])[0]
        for colour in ("red", "blue", "dark green")
    ]
    assert files(client, last) == want


def test_the_grid_holds_the_cells_with_labels_and_gives_the_request_back(client):
    x, y = {"setting": "steps", "values": "1, 2"}, {"setting": "seed", "values": "5-7"}
    last = job(client, "/api/plots", {"image": CLOTHES | {"class": ["bag"]}, "x": x, "y": y})[-1]
    assert last["grid"]
    file = client.get(f"/api/jobs/{last['id']}/grid").content
    page = np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))
    first = np.asarray(Image.open(io.BytesIO(files(client, last)[0])))
    large = first.repeat(5, 0).repeat(5, 1)[..., None]  # 28 pixels become 140
    rows, columns = page.shape[0] - large.shape[0], page.shape[1] - large.shape[1]
    places = [
        (i, j)
        for i in range(rows)
        for j in range(columns)
        if (page[i, j : j + 40] == large[0, :40]).all() and (page[i : i + 140, j : j + 140] == large).all()
    ]
    assert len(places) == 1
    top, left = places[0]
    assert (page[:top, left:] < 128).any() and (page[top : top + 140, :left] < 128).any()  # the labels
    said = client.post("/api/png-info", json={"image": base64.b64encode(file).decode()}).json()
    assert (said["plot"], said["note"]) == ({"x": x, "y": y}, "")
    assert said["fields"]["seed"] == 3
    again = job(client, "/api/plots", {"image": said["fields"], **said["plot"]})[-1]
    assert client.get(f"/api/jobs/{again['id']}/grid").content == file
    plain = job(client, "/api/images", CLOTHES)[-1]
    assert client.get(f"/api/jobs/{plain['id']}/grid").status_code == 404


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        ({}, 400, "at least one of"),
        ({"x": {"setting": "steps", "values": "1-3"}, "y": {"setting": "steps", "values": "4"}}, 400, "different"),
        ({"x": {"setting": "steps", "values": "0"}}, 400, "`steps`"),
        ({"x": {"setting": "steps", "values": "1, 5000"}}, 400, "at most 1000 steps"),
        ({"x": {"setting": "strength", "values": "2"}}, 400, "`strength`"),
        ({"x": {"setting": "seed", "values": "1-9"}, "y": {"setting": "steps", "values": "1-9"}}, 400, "81 images"),
        ({"x": {"setting": "size", "values": "1"}}, 422, "`x.setting`"),
        ({"x": {"setting": "solver", "values": "nope"}}, 400, "`solver`"),
        ({"x": {"setting": "prompt", "values": "a, b"}}, 400, "is not in the prompt"),
        ({"image": CLOTHES | {"n": 2}, "x": {"setting": "steps", "values": "1"}}, 400, "`n`"),
        ({"image": CLOTHES | {"stepps": 2}, "x": {"setting": "steps", "values": "1"}}, 422, "stepps"),
    ],
)  # fmt: skip
def test_plots_that_cannot_be_made_are_refused(client, asked, status, words):
    answer = client.post("/api/plots", json={"image": CLOTHES} | asked)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["detail"]
