"""Whatever a small job asks for, it is done or refused in one line: no internal error."""

import base64
import io
import json
from typing import get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from unveil.image.high_resolution import UPSCALERS
from unveil.image.sampler_names import SAMPLERS, SCHEDULES
from unveil.image.settings import GridName, SolverName


def picture(mode, side):
    rng = np.random.default_rng(side)
    file = io.BytesIO()
    shape = (side, side) if mode == "L" else (side, side, len(mode))
    Image.fromarray(rng.integers(0, 255, shape, np.uint8)).convert(mode).save(file, "png")
    return base64.b64encode(file.getvalue()).decode()


UPLOADS = [picture(mode, side) for mode, side in (("L", 28), ("RGB", 32), ("RGBA", 64), ("RGB", 5))]
share = st.one_of(st.sampled_from([0.0, 1.0, 0.5, 1e-9]), st.floats(0, 1))
words = st.text(max_size=20) | st.sampled_from(
    ["a cat", "bag", "0", "(a:1e9)", "[a|b]", "[a:b:2]", "a AND b", "<lora:x:1>"]
)
IMAGE = st.fixed_dictionaries(
    {"checkpoint": st.sampled_from(["fashion-mnist", "shapes-text", "emoji-text"]), "steps": st.integers(1, 3), "seed": st.integers(0, 2**53)},
    optional={
        "n": st.integers(1, 2),
        "class": st.lists(st.integers(-2, 11) | words, max_size=2),
        "prompt": st.lists(words, max_size=2),
        "negative": st.integers(-1, 10) | words,
        "solver": st.sampled_from(get_args(SolverName)),
        "grid": st.sampled_from(get_args(GridName)),
        "eta": share,
        "scale": st.floats(0, 1000),
        "rescale": share,
        "threshold": share,
        "size": st.lists(st.sampled_from([1, 8, 28, 32, 33, 64]), max_size=2),
        "variation": share,
        "variation_seed": st.integers(0, 2**53),
        "hires": st.floats(1, 2),
        "hires_steps": st.integers(0, 3),
        "hires_strength": share,
        "hires_upscaler": st.sampled_from(list(UPSCALERS)),
        "task": st.sampled_from(["", "img2img", "inpaint"]),
        "from": st.lists(st.sampled_from(UPLOADS), min_size=1, max_size=2),
        "mask": st.sampled_from(UPLOADS),
        "strength": share,
        "jumps": st.integers(1, 2),
        "fit": st.sampled_from(["exact", "crop", "resize"]),
        "batch_size": st.integers(1, 3),
    },
)  # fmt: skip
TEXT = st.fixed_dictionaries(
    {"steps": st.integers(1, 3)},
    optional={
        "prompt": words,
        "negative_prompt": words,
        "seed": st.integers(-1, 2**53),
        "subseed": st.integers(-1, 2**53),
        "subseed_strength": share,
        "sampler_name": st.sampled_from(list(SAMPLERS)),
        "scheduler": st.sampled_from(["Automatic", *SCHEDULES]),
        "cfg_scale": st.floats(-10, 1000),
        "batch_size": st.integers(1, 2),
        "eta": share,
        "denoising_strength": st.floats(-1, 2),
        "width": st.sampled_from([1, 8, 28, 32, 33, 64]),
        "height": st.sampled_from([1, 8, 28, 32, 33, 64]),
        "enable_hr": st.booleans(),
        "hr_scale": st.floats(0, 2),
        "hr_upscaler": st.sampled_from(list(UPSCALERS.values())),
        "hr_second_pass_steps": st.integers(0, 3),
        "override_settings": st.fixed_dictionaries({"sd_model_checkpoint": st.sampled_from(["fashion-mnist", "shapes-text", "emoji-text"])}),
        "init_images": st.lists(st.sampled_from(UPLOADS), min_size=1, max_size=2),
        "mask": st.sampled_from(UPLOADS),
        "mask_blur": st.integers(0, 64),
        "inpainting_fill": st.integers(0, 3),
        "inpaint_full_res": st.booleans(),
        "inpaint_full_res_padding": st.integers(0, 100),
        "resize_mode": st.integers(0, 3),
    },
)  # fmt: skip


def times(few, many):
    return pytest.mark.parametrize(
        "examples", [few, pytest.param(many, marks=pytest.mark.slow)], ids=["few", "many"]
    )


def trying(examples, strategy, ask):
    quiet = settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    quiet(given(strategy)(ask))()


@times(40, 1000)
def test_jobs_of_the_own_api(client, examples):
    states = []

    def ask(asked):
        answer = client.post("/api/images", json=asked)
        assert answer.status_code in (202, 400, 413, 422), answer.text
        if answer.status_code == 202:
            events = client.get(f"/api/jobs/{answer.json()['id']}/events").text
            job = json.loads(events.strip().rpartition("data: ")[2])
            states.append(job["state"])
            assert job["state"] == "done" or (job["error"] and not job["error"].startswith("internal")), job[
                "error"
            ]

    trying(examples, IMAGE, ask)
    assert "done" in states


@times(40, 1000)
def test_jobs_of_the_web_uis_api(client, examples):
    statuses = []

    def ask(asked):
        path = "/sdapi/v1/img2img" if "init_images" in asked else "/sdapi/v1/txt2img"
        answer = client.post(path, json=asked)
        statuses.append(answer.status_code)
        assert answer.status_code in (200, 400, 404, 422), answer.text

    trying(examples, TEXT, ask)
    assert 200 in statuses
