"""`/api`: jobs, their events, and pictures that equal those of the library."""

import base64
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from refusals import refusal

import unveil
from unveil.image.generation import Given, generate
from unveil.image.settings import ImageSettings


def made(client, **asked):
    answer = client.post("/api/images", json=asked)
    assert answer.status_code == 202, answer.text
    events = client.get(f"/api/jobs/{answer.json()['id']}/events").text
    last = json.loads(events.strip().rpartition("data: ")[2])
    assert last["state"] == "done", last
    files = [client.get(f"/api/jobs/{last['id']}/images/{k}").content for k in range(last["images"])]
    return files, events


def pixels(file):
    array = np.asarray(Image.open(io.BytesIO(file)))
    return (array[None] if array.ndim == 2 else array.transpose(2, 0, 1)).copy()


@pytest.fixture(scope="module")
def emoji_text():
    return unveil.load("emoji-text", "cpu")


@pytest.fixture(scope="module")
def clothes():
    return unveil.load("fashion-mnist", "cpu")


def test_prompts_give_the_pictures_of_the_library(client, emoji_text):
    files, events = made(
        client, checkpoint="emoji-text", prompt=["a cat", "a red heart"], n=3, steps=4, seed=7, scale=2.0
    )
    prompts = ["a cat", "a red heart", "a cat"]
    want = generate(emoji_text, None, 3, ImageSettings(steps=4, scale=2.0), 7, given=Given(prompts=prompts))
    assert np.array_equal(np.stack([pixels(file) for file in files]), want.pixels.numpy())
    steps = [json.loads(line[6:])["step"] for line in events.splitlines() if line.startswith("data: ")]
    assert steps == sorted(steps)
    assert steps[-1] == 4


def test_classes_by_name_give_the_pictures_of_the_library(client, clothes):
    files, _ = made(
        client,
        checkpoint="fashion-mnist",
        **{"class": ["bag", 0]},
        n=2,
        steps=3,
        seed=1,
        solver="euler_ancestral",
    )
    settings = ImageSettings(steps=3, solver="euler_ancestral")
    want = generate(clothes, torch.tensor([8, 0]), 2, settings, 1)
    assert np.array_equal(np.stack([pixels(file) for file in files]), want.pixels.numpy())


def test_a_png_gives_its_fields_back_and_they_the_same_files(client):
    asked = {
        "checkpoint": "fashion-mnist",
        "label": ["coat"],
        "n": 2,
        "steps": 3,
        "seed": 11,
        "scale": 1.5,
        "solver": "heun",
    }
    files, _ = made(client, **asked)
    answer = client.post("/api/png-info", json={"image": base64.b64encode(files[1]).decode()}).json()
    assert answer["note"] == ""
    assert asked.items() <= answer["fields"].items()
    again, _ = made(client, **answer["fields"])
    assert again == files


def test_img2img_and_inpainting_equal_the_library(client, clothes):
    files, _ = made(client, checkpoint="fashion-mnist", label=["bag"], n=1, steps=3, seed=3)
    upload = base64.b64encode(files[0]).decode()
    begin = torch.from_numpy(pixels(files[0]))[None]
    changed, _ = made(
        client,
        checkpoint="fashion-mnist",
        label=["coat"],
        steps=4,
        seed=5,
        task="img2img",
        strength=0.5,
        **{"from": [upload]},
    )
    settings = ImageSettings(steps=4, strength=0.5)
    want = generate(clothes, torch.tensor([4]), 1, settings, 5, given=Given(begin=clothes.clean(begin)))
    assert np.array_equal(pixels(changed[0]), want.pixels[0].numpy())

    bright = np.zeros((28, 28), np.uint8)
    bright[:14] = 255
    mask = io.BytesIO()
    Image.fromarray(bright).save(mask, "png")
    asked = {
        "task": "inpaint",
        "from": ["data:image/png;base64," + upload],
        "mask": base64.b64encode(mask.getvalue()).decode(),
    }
    filled, _ = made(client, checkpoint="fashion-mnist", label=["coat"], steps=4, seed=5, **asked)
    known = torch.from_numpy(bright < 128)[None, None]
    given = Given(known=known, value=clothes.clean(begin))
    want = generate(clothes, torch.tensor([4]), 1, ImageSettings(steps=4), 5, given=given)
    assert np.array_equal(pixels(filled[0]), want.pixels[0].numpy())
    assert np.abs(pixels(filled[0])[0, 14:].astype(int) - begin[0, 0, 14:].numpy()).mean() < 2


def test_variations_and_a_second_pass(client):
    base = {"checkpoint": "emoji-text", "prompt": ["a cat"], "steps": 3, "seed": 2}
    plain, _ = made(client, **base)
    same, _ = made(client, **base, variation=1e-6, variation_seed=4)
    other, _ = made(client, **base, variation=0.9, variation_seed=4)
    distance = [np.abs(pixels(plain[0]).astype(int) - pixels(it[0])).mean() for it in (same, other)]
    assert distance[0] < 0.1 < distance[1]
    large, _ = made(client, **base, hires=2.0, hires_steps=2)
    assert pixels(large[0]).shape == (3, 128, 128)
    said = client.post("/api/png-info", json={"image": base64.b64encode(large[0]).decode()}).json()
    assert (said["fields"]["hires"], said["fields"]["hires_steps"]) == (2.0, 2)


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        ({"checkpoint": "../emoji"}, 404, "no model of image named"),
        ({"checkpoint": "text-shakespeare"}, 404, "no model of image named"),
        ({"checkpoint": "emoji-text", "label": [1]}, 400, "has no classes"),
        ({"checkpoint": "fashion-mnist", "prompt": ["a cat"]}, 400, "reads no prompts"),
        ({"stepps": 3}, 422, "`stepps`"),
        ({"steps": 0}, 422, "`steps`"),
        ({"steps": 100_000}, 400, "at most 1000 steps"),
        ({"n": 65}, 400, "at most 64 images"),
        ({"size": [8192, 8192]}, 400, "megapixels"),
        ({"size": [30, 30], "checkpoint": "emoji-text"}, None, "multiples of"),
        ({"task": "inpaint"}, 400, "needs images"),
        ({"from": ["x"]}, 400, "no base64"),
        ({"from": ["https://example.org/a.png"], "task": "img2img"}, 400, "not fetched"),
        ({"from": ["file:///etc/passwd"], "task": "img2img"}, 400, "not fetched"),
        ({"prompt": ["<lora:../../x:1> a cat"]}, 400, "no LoRA file named '../../x'"),
        ({"solver": "ddim", "variance": "small"}, 422, "`variance`"),
        ({"solver": "heun", "eta": 0.5}, 400, "`eta` needs"),
    ],
)
def test_what_cannot_be_followed_is_refused_in_one_line(client, asked, status, words):
    assert words in refusal(client, "/api/images", asked, status)


def test_models_say_what_they_can_and_not_where_they_lie(client):
    answer = client.get("/api/models")
    models = {one["id"]: one for one in answer.json()}
    assert models["emoji-text"]["prompts"] and not models["emoji-text"]["classes"]
    assert models["fashion-mnist"]["classes"][0] == "T-shirt"
    assert (models["fashion-mnist"]["width"], models["fashion-mnist"]["channels"]) == (28, 1)
    assert models["emoji-text"]["width"] == 64
    assert "zoo" not in answer.text


def test_the_document_has_a_schema_for_each_job(client):
    document = client.get("/api/openapi.json").json()
    fields = document["components"]["schemas"]["ImageJob"]["properties"]
    assert {
        "class",
        "prompt",
        "negative",
        "seed",
        "steps",
        "solver",
        "scale",
        "from",
        "hires",
    } <= fields.keys()
