"""LoRA files and learned words of a server: those of its start, by name, as the library and the command use them."""

import base64
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from random_networks import write_networks
from unveil.cli import main
from unveil.errors import UnveilError
from unveil.image.weights.textual_inversion import LearnedWord, write_word
from unveil.serve.adapters import adapters_of

BASE = {"checkpoint": "shapes-text", "steps": 2, "seed": 3, "scale": 2.0}
PROMPT = "a red circle"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two LoRA files and a learned word for shapes-text; a third file beside them is not served."""
    folder = write_networks(tmp_path_factory.mktemp("networks"))
    write_word(folder / "wide.safetensors", LearnedWord("<wide>", torch.ones(1, 5)))
    return folder


@pytest.fixture(scope="module")
def client(folder):
    from starlette.testclient import TestClient

    from unveil.serve.app import app_of
    from unveil.serve.config import Serve
    from unveil.serve.studio import studio_of

    loras = tuple(str(folder / f"{name}.safetensors") for name in ("ink", "chalk"))
    settings = Serve(
        device="cpu",
        lora=loras,
        embedding=tuple(str(folder / f"{word}.safetensors") for word in ("ring", "wide")),
    )
    with TestClient(app_of(studio_of(settings)), base_url="http://127.0.0.1:7860") as client:
        yield client


def made(client, /, *words, **asked):
    answer = client.post("/api/images", json=BASE | ({"prompt": words} if words else {}) | asked)
    assert answer.status_code == 202, answer.text
    name = answer.json()["id"]
    client.get(f"/api/jobs/{name}/events")
    job = client.get(f"/api/jobs/{name}").json()
    return client.get(f"/api/jobs/{name}/images/0").content if job["state"] == "done" else job["error"]


def pixels(file):
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB")).astype(int)


def again(file, tmp_path):
    """By `unveil sample image --from-png`."""
    (tmp_path / "x.png").write_bytes(file)
    assert (
        main(["sample", "image", "--from-png", str(tmp_path / "x.png"), "--out", str(tmp_path / "out")]) == 0
    )
    return pixels((tmp_path / "out" / "0000.png").read_bytes())


def test_a_tag_changes_the_picture_by_its_weight(client, tmp_path):
    plain = made(client, PROMPT)
    none, weak, full = (made(client, f"{PROMPT} <lora:ink:{weight}>") for weight in (0, 0.2, 1))
    distance = [np.abs(pixels(it) - pixels(plain)).mean() for it in (none, weak, full)]
    assert distance[0] < 0.1 < distance[1] < distance[2]
    assert made(client, PROMPT) == plain  # the shared model was not changed
    two = made(client, f"{PROMPT} <lora:ink:0.5> <lora:chalk:0.5>")
    assert np.abs(pixels(two) - pixels(full)).mean() > 0.1
    for file in (full, two):
        assert np.array_equal(again(file, tmp_path), pixels(file))


def test_a_learned_word_is_its_vectors(client, tmp_path):
    with_word, with_other = made(client, "a <ring>"), made(client, "a ring")
    assert np.abs(pixels(with_word) - pixels(with_other)).mean() > 0.1
    assert np.array_equal(again(with_word, tmp_path), pixels(with_word))
    said = client.post("/api/png-info", json={"image": base64.b64encode(with_word).decode()}).json()
    assert made(client, **said["fields"]) == with_word
    assert "another base" in made(client, "a <wide>")


@pytest.mark.parametrize("name", ["hidden", "../ink", "ink.safetensors", "/etc/passwd", "INK", "ring"])
def test_other_files_have_no_names(client, name):
    for path, body in (
        ("/api/images", BASE | {"prompt": [f"a <lora:{name}:1>"]}),
        ("/sdapi/v1/txt2img", {"prompt": f"a <lora:{name}:1>", "steps": 2}),
        ("/v1/images/generations", {"prompt": f"a <lora:{name}:1>", "model": "shapes-text"}),
        ("/api/plots", {"image": BASE | {"prompt": ["a cat"]}, "x": {"setting": "prompt", "values": f"cat, <lora:{name}:1>"}}),
    ):  # fmt: skip
        answer = client.post(path, json=body)
        assert answer.status_code == 400, (path, answer.text)
        assert "no LoRA file named" in answer.text and "there are ink, chalk" in answer.text


def test_prompts_of_a_job_name_the_same_files(client):
    asked = {"prompt": ["a <lora:ink:1>", "a <lora:ink:0.5>"], "n": 2}
    assert "the same LoRA files" in made(client, **asked)


def test_the_lists_of_both_apis(client, folder):
    assert client.get("/api/loras").json() == [{"id": "ink", "base": ""}, {"id": "chalk", "base": ""}]
    word, _ = client.get("/api/embeddings").json()
    assert (word["word"], word["vectors"]) == ("<ring>", 2)
    assert [it["name"] for it in client.get("/sdapi/v1/loras").json()] == ["ink", "chalk"]
    assert set(client.get("/sdapi/v1/embeddings").json()["loaded"]) == {"<ring>", "<wide>"}
    for path in ("/api/loras", "/api/embeddings", "/sdapi/v1/loras", "/sdapi/v1/embeddings", "/api/models"):
        assert str(folder) not in client.get(path).text
    body = {
        "prompt": f"{PROMPT} <lora:ink:1>",
        "seed": 3,
        "steps": 2,
        "cfg_scale": 2.0,
        "sampler_name": "DPM++ 2M",
    }
    over = {"override_settings": {"sd_model_checkpoint": "shapes-text"}}
    done = client.post("/sdapi/v1/txt2img", json=body | over).json()
    plain = client.post("/sdapi/v1/txt2img", json=body | over | {"prompt": PROMPT}).json()
    assert done["images"] != plain["images"]
    assert json.loads(done["info"])["prompt"] == body["prompt"]


def test_files_that_cannot_be_served_are_refused_at_the_start(folder, tmp_path, capsys):
    ink = str(folder / "ink.safetensors")
    other = tmp_path / "ink.safetensors"
    other.write_bytes(b"x")
    odd = tmp_path / "a:b.safetensors"
    odd.write_bytes(b"x")
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text('{"recipe": "image"}')
    for loras, words, said in (
        (["nothing"], [], "no such file"),
        ([ink, str(other)], [], "two LoRA files named ink"),
        ([str(odd)], [], "cannot hold this name"),
        ([str(run)], [], "no run of `unveil train lora`"),
        ([], [str(run)], "no run of `unveil train inversion`"),
        ([], [str(other)], "ink.safetensors"),
        ([], [str(folder / "ring.safetensors")] * 2, "twice"),
    ):
        with pytest.raises(UnveilError, match=said):
            adapters_of(loras, words)
    (run / "config.json").write_text('{"recipe": "lora", "base": "shapes-text"}')
    with pytest.raises(UnveilError, match="has saved nothing yet"):
        adapters_of([str(run)], [])
    (run / "pytorch_lora_weights.safetensors").write_bytes(b"x")
    assert adapters_of([str(run)], []).loras["run"].base == "shapes-text"
    assert main(["serve", "--lora", "nothing"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
