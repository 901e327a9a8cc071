"""`/sdapi/v1` by the client that other programs use, webuiapi, on the loopback interface."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image, ImageDraw

import unveil
from unveil.image.generation import Given, generate
from unveil.image.prompts.infotext import parse_infotext
from unveil.image.sampler_names import SAMPLERS
from unveil.image.settings import ImageSettings

webuiapi = pytest.importorskip("webuiapi")


@pytest.fixture(scope="module")
def api(port):
    api = webuiapi.WebUIApi(host="127.0.0.1", port=port, sampler="Euler a", steps=3)
    yield api
    api.session.close()


@pytest.fixture(scope="module")
def emoji_text():
    return unveil.load("emoji-text", "cpu")


def array(image):
    return np.asarray(image.convert("RGB")).astype(int)


def test_txt2img_equals_the_library(api, emoji_text):
    done = api.txt2img(
        prompt="a cat",
        negative_prompt="blue",
        seed=5,
        width=64,
        height=64,
        batch_size=2,
        cfg_scale=2.0,
        steps=4,
    )
    settings = ImageSettings(solver="euler_ancestral", eta=1.0, steps=4, scale=2.0, negative="blue")
    want = generate(emoji_text, None, 2, settings, 5, given=Given(prompts=["a cat"] * 2))
    got = np.stack([array(image).transpose(2, 0, 1) for image in done.images])
    assert np.array_equal(got, want.pixels.numpy())
    assert done.info["all_seeds"] == [5, 6]
    assert (done.info["width"], done.info["sampler_name"]) == (64, "Euler a")
    assert done.parameters["prompt"] == "a cat"
    text = done.images[1].text["parameters"]
    assert text == done.info["infotexts"][1]
    said = parse_infotext(text)
    assert (said.prompt, said.negative) == ("a cat", "blue")
    pairs = {"Steps": "4", "Sampler": "Euler a", "Seed": "6", "Size-1": "64"}
    assert pairs.items() <= said.settings.items()


def test_batches_and_iterations_are_seeds_in_turn(api):
    once = api.txt2img(prompt="a cat", seed=5, width=64, height=64, n_iter=2, batch_size=1)
    each = [api.txt2img(prompt="a cat", seed=seed, width=64, height=64).image for seed in (5, 6)]
    assert [image.tobytes() for image in once.images] == [image.tobytes() for image in each]


def test_a_second_pass_and_a_subseed(api):
    done = api.txt2img(
        prompt="a cat",
        seed=5,
        width=64,
        height=64,
        enable_hr=True,
        hr_scale=2,
        denoising_strength=0.7,
        hr_second_pass_steps=2,
    )
    assert done.image.size == (128, 128)
    assert parse_infotext(done.info["infotexts"][0]).settings["Hires upscaler"] == "Latent"
    near = api.txt2img(
        prompt="a cat", seed=5, width=64, height=64, subseed=8, subseed_strength=0.2, batch_size=2
    )
    assert near.info["all_seeds"] == [5, 5]
    assert near.info["all_subseeds"] == [8, 9]


def test_img2img_keeps_what_a_mask_leaves(api):
    image = api.txt2img(prompt="a red heart", seed=5, width=64, height=64).image
    changed = api.img2img(images=[image], prompt="a cat", seed=1, width=64, height=64, denoising_strength=0.4)
    other = api.img2img(images=[image], prompt="a cat", seed=1, width=64, height=64, denoising_strength=0.95)
    distance = [np.abs(array(it.image) - array(image)).mean() for it in (changed, other)]
    assert 0 < distance[0] < distance[1]

    mask = Image.new("L", (64, 64))
    ImageDraw.Draw(mask).rectangle((32, 0, 63, 63), fill=255)
    for whole in (False, True):
        for invert in (0, 1):
            painted = api.img2img(
                images=[image], mask_image=mask, prompt="a cat", seed=1, width=64, height=64, mask_blur=0,
                inpaint_full_res=whole, inpainting_mask_invert=invert, inpainting_fill=1, denoising_strength=0.9,
            ).image  # fmt: skip
            moved = np.abs(array(painted) - array(image)).max(2)
            kept, new = (moved[:, 32:], moved[:, :32]) if invert else (moved[:, :32], moved[:, 32:])
            assert kept.max() == 0
            assert new.mean() > 5


def test_other_sizes_of_the_image_by_resize_mode(api):
    wide = Image.new("RGB", (128, 64), "red")
    for mode in (0, 1, 2):
        done = api.img2img(images=[wide], prompt="a cat", seed=1, width=64, height=64, resize_mode=mode)
        assert done.image.size == (64, 64)
    with pytest.raises(RuntimeError, match="resize_mode=3"):
        api.img2img(images=[wide], prompt="a cat", width=64, height=64, resize_mode=3)


def test_models_and_options(api):
    titles = api.util_get_model_names()
    assert any(title.startswith("emoji-text [") for title in titles)
    api.util_set_model("fashion-mnist")
    assert api.util_get_current_model().startswith("fashion-mnist [")
    image = api.txt2img(prompt="bag", seed=1, width=28, height=28, cfg_scale=1.5).image
    assert image.size == (28, 28)
    api.util_set_model("emoji-text")
    assert api.get_options()["sd_model_checkpoint"].startswith("emoji-text [")
    override = {"sd_model_checkpoint": "fashion-mnist"}
    assert (
        api.txt2img(prompt="bag", width=28, height=28, override_settings=override).info["sd_model_name"]
        == "fashion-mnist"
    )
    assert api.txt2img(prompt="a cat", width=64, height=64).info["sd_model_name"] == "emoji-text"


def test_lists(api):
    assert [it["name"] for it in api.get_samplers()] == list(SAMPLERS)
    assert {"automatic", "karras"} <= {it["name"] for it in api.get_schedulers()}
    assert [it["name"] for it in api.get_upscalers()] == ["None", "Lanczos", "Nearest"]
    assert api.get_loras() == []
    assert api.get_scripts() == {"txt2img": [], "img2img": []}
    assert api.get_embeddings() == {"loaded": {}, "skipped": {}}
    assert api.get_prompt_styles() == []
    assert api.get_memory()["ram"]["total"] > 0
    assert isinstance(api.get_cmd_flags(), dict)
    assert api.refresh_checkpoints() is None


def test_progress_of_nothing_is_ready(api):
    api.util_wait_for_ready()
    progress = api.get_progress()
    assert (progress["progress"], progress["state"]["job_count"], progress["current_image"]) == (0.0, 0, None)
    assert api.interrupt() == {}
    assert api.skip() is None


def test_png_info_and_extras(api):
    done = api.txt2img(prompt="a cat: one, two", seed=5, width=64, height=64)
    file = io.BytesIO()
    from PIL import PngImagePlugin

    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", done.info["infotexts"][0])
    done.image.save(file, "png", pnginfo=info)
    answer = api.session.post(
        f"{api.baseurl}/png-info", json={"image": base64.b64encode(file.getvalue()).decode()}
    ).json()
    assert answer["info"] == done.info["infotexts"][0]
    assert answer["parameters"]["Prompt"] == "a cat: one, two"
    assert answer["parameters"]["Seed"] == "5"
    larger = api.extra_single_image(image=done.image, upscaler_1="Lanczos", upscaling_resize=2).image
    assert larger.size == (128, 128)


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        ({"restore_faces": True}, 400, "`restore_faces` is not supported"),
        ({"tiling": True}, 400, "`tiling` is not supported"),
        ({"styles": ["x"]}, 400, "`styles` is not supported"),
        ({"script_name": "x/y/z plot"}, 422, "Script not found"),
        ({"alwayson_scripts": {"controlnet": {}}}, 422, "Script not found"),
        ({"sampler_name": "Nope"}, 404, "Sampler not found"),
        ({"scheduler": "nope"}, 404, "Sampler not found"),
        ({"override_settings": {"CLIP_stop_at_last_layers": 2}}, 400, "CLIP_stop_at_last_layers"),
        ({"override_settings": {"sd_model_checkpoint": "/etc/passwd"}}, 404, "no model of image"),
        ({"enable_hr": True, "hr_upscaler": "ESRGAN_4x"}, 400, "`hr_upscaler`"),
        ({"steps": "many"}, 422, "`steps`"),
        ({"batch_size": 9, "n_iter": 9}, 400, "at most 64 images"),
        ({"width": 8192, "height": 8192}, 400, "megapixels"),
        ({"width": 65}, 400, "multiples of"),
        ({"s_churn": 1.0}, 400, "`s_churn`"),
        ({"seed": -2}, 422, "`seed`"),
    ],
)
def test_what_is_not_done_is_refused_and_not_ignored(client, asked, status, words):
    answer = client.post("/sdapi/v1/txt2img", json={"steps": 3} | asked)
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert words in body["detail"]
    assert set(body) == {"error", "detail", "body", "errors"}


def test_images_that_cannot_be_read(client):
    for images, status in ([], 404), (["bm90IGFuIGltYWdl"], 400), (["http://127.0.0.1/x.png"], 400):
        answer = client.post("/sdapi/v1/img2img", json={"init_images": images, "steps": 2})
        assert answer.status_code == status, answer.text


def test_the_old_names_of_samplers_still_work(client):
    """ "DPM++ 2M Karras" is a sampler and a schedule type since A1111 1.9."""
    asked = {"prompt": "a cat", "seed": 1, "steps": 3}
    old = client.post("/sdapi/v1/txt2img", json=asked | {"sampler_name": "DPM++ 2M Karras"}).json()
    new = client.post(
        "/sdapi/v1/txt2img", json=asked | {"sampler_name": "DPM++ 2M", "scheduler": "karras"}
    ).json()
    assert old["images"] == new["images"]
    plain = client.post("/sdapi/v1/txt2img", json=asked | {"sampler_name": "DPM++ 2M"}).json()
    assert old["images"] != plain["images"]
    assert json.loads(plain["info"])["seed"] == 1
