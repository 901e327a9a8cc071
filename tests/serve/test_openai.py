"""`/v1` by OpenAI's own client, on the loopback interface."""

import base64
import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

import unveil
from unveil.image.generation import Given, generate
from unveil.image.settings import ImageSettings
from unveil.sampling.noise import generators
from unveil.serve.texts import settled, until
from unveil.text.chat import answer
from unveil.text.data.chat import Turn
from unveil.text.data.tokens import ByteTokens
from unveil.text.generation import continue_text
from unveil.text.recipes.config import ANSWERED, SAMPLED

openai = pytest.importorskip("openai")


@pytest.fixture(scope="module")
def api(port):
    with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="any", max_retries=0) as api:
        yield api


@pytest.fixture(scope="module")
def shakespeare():
    return unveil.load("text-shakespeare", "cpu")


def opened(b64):
    return Image.open(io.BytesIO(base64.b64decode(b64)))


def png(image):
    file = io.BytesIO()
    image.save(file, "png")
    return ("image.png", file.getvalue(), "image/png")


def test_models(api):
    ids = [it.id for it in api.models.list()]
    assert {"emoji-text", "fashion-mnist", "text-shakespeare"} <= set(ids)
    assert api.models.retrieve("emoji-text").owned_by == "unveil"
    with pytest.raises(openai.NotFoundError, match="no model named"):
        api.models.retrieve("dall-e-3")


def test_generations_equal_the_library(api):
    done = api.images.generate(
        model="emoji-text",
        prompt="a cat",
        n=2,
        size="64x64",
        extra_body={"seed": 5, "steps": 3, "scale": 2.0},
    )
    want = generate(
        unveil.load("emoji-text", "cpu"),
        None,
        2,
        ImageSettings(steps=3, scale=2.0),
        5,
        given=Given(prompts=["a cat"] * 2),
    )
    got = np.stack([np.asarray(opened(it.b64_json)).transpose(2, 0, 1) for it in done.data])
    assert np.array_equal(got, want.pixels.numpy())


def test_a_stream_has_partial_images_and_ends_with_the_same_image(api):
    more = {"seed": 5, "steps": 8, "scale": 2.0}
    stream = api.images.generate(
        model="emoji-text", prompt="a cat", stream=True, partial_images=1, extra_body=more
    )
    events = list(stream)
    assert events[-1].type == "image_generation.completed"
    assert {it.type for it in events[:-1]} <= {"image_generation.partial_image"}
    assert [it.partial_image_index for it in events[:-1]] == list(range(len(events) - 1))
    whole = api.images.generate(model="emoji-text", prompt="a cat", extra_body=more)
    assert events[-1].b64_json == whole.data[0].b64_json


def test_edits_change_what_is_transparent_in_the_mask(api):
    image = opened(
        api.images.generate(model="emoji-text", prompt="a red heart", extra_body={"seed": 5, "steps": 3})
        .data[0]
        .b64_json
    )
    mask = Image.new("RGBA", (64, 64), (0, 0, 0, 255))
    ImageDraw.Draw(mask).rectangle((0, 0, 31, 63), fill=(0, 0, 0, 0))
    done = api.images.edit(
        model="emoji-text",
        image=png(image),
        mask=png(mask),
        prompt="a cat",
        extra_body={"seed": 1, "steps": 3},
    )
    moved = np.abs(np.asarray(opened(done.data[0].b64_json)).astype(int) - np.asarray(image)).max(2)
    assert moved[:, 32:].max() == 0
    assert moved[:, :32].mean() > 5
    listed = api.images.edit(
        model="emoji-text",
        image=[png(image)],
        prompt="a cat",
        extra_body={"seed": 1, "steps": 3, "strength": 0.5},
    )
    assert opened(listed.data[0].b64_json).size == (64, 64)
    with pytest.raises(openai.BadRequestError, match="transparent"):
        api.images.edit(model="emoji-text", image=png(image), mask=png(image), prompt="a cat")


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # by OpenAI, for its own models
def test_variations(api):
    image = Image.new("RGB", (80, 64), "red")
    done = api.images.create_variation(
        model="emoji-text", image=png(image), n=2, extra_body={"seed": 1, "steps": 3}
    )
    assert [opened(it.b64_json).size for it in done.data] == [(64, 64)] * 2


def test_completions_equal_the_library(api, shakespeare):
    want = continue_text(
        shakespeare,
        ["ROMEO:"] * 2,
        SAMPLED.__class__(16, order="first-hitting", temperature=1.0),
        generators(3, 2),
    )
    done = api.completions.create(model="text-shakespeare", prompt="ROMEO:", max_tokens=16, n=2, seed=3)
    assert [it.text for it in done.choices] == want
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens
    stream = api.completions.create(
        model="text-shakespeare",
        prompt="ROMEO:",
        max_tokens=16,
        n=2,
        seed=3,
        stream=True,
        stream_options={"include_usage": True},
    )
    texts, usage, reasons = ["", ""], None, {}
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            reasons[choice.index] = choice.finish_reason
    assert texts == want
    assert usage == done.usage
    assert reasons == {k: it.finish_reason for k, it in enumerate(done.choices)}


def test_chats_equal_the_library(api, shakespeare):
    settings = ANSWERED.__class__(16, steps=0, block=32)
    want = answer(shakespeare, [[Turn("user", "Speak, sir.")]], settings, generators(3, 1))
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "Speak, "}, {"type": "text", "text": "sir."}]}
    ]
    done = api.chat.completions.create(
        model="text-shakespeare", messages=messages, max_completion_tokens=16, seed=3
    )
    assert done.choices[0].message.content.strip() == want.texts[0]
    assert done.choices[0].finish_reason == ("stop" if want.ended[0] else "length")
    parts = list(
        api.chat.completions.create(
            model="text-shakespeare", messages=messages, max_completion_tokens=16, seed=3, stream=True
        )
    )
    assert parts[0].choices[0].delta.role == "assistant"
    assert "".join(it.choices[0].delta.content or "" for it in parts) == done.choices[0].message.content
    assert parts[-1].choices[0].finish_reason == done.choices[0].finish_reason


def test_a_stop_word_ends_a_text_and_is_not_sent(api):
    asked = {"model": "text-shakespeare", "prompt": "ROMEO:", "max_tokens": 24, "seed": 3, "temperature": 0.5}
    whole = api.completions.create(**asked).choices[0].text
    word = whole[len(whole) // 2 :][:3]
    done = api.completions.create(**asked, stop=word).choices[0]
    assert (done.text, done.finish_reason) == (whole[: whole.index(word)], "stop")
    assert (
        "".join(it.choices[0].text for it in api.completions.create(**asked, stop=[word], stream=True))
        == done.text
    )


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"top_p": 0.5}, "`top_p`"),
        ({"extra_body": {"tools": []}}, "`tools`"),
        ({"max_tokens": 100_000}, "at most 2048 tokens"),
        ({"max_tokens": 1000}, "context"),
        ({"temperature": 3}, "`temperature`"),
        ({"presence_penalty": 1}, "`presence_penalty`"),
    ],
)
def test_what_is_not_done_is_refused(api, more, words):
    with pytest.raises(openai.BadRequestError, match=words):
        api.completions.create(model="text-shakespeare", prompt="x", **more)


@pytest.mark.parametrize(
    "more",
    [{"response_format": "url"}, {"quality": "hd"}, {"output_format": "webp"}, {"n": 11}, {"size": "big"}],
)
def test_images_that_are_not_made_are_refused(api, more):
    with pytest.raises(openai.BadRequestError, match=f"`{next(iter(more))}`"):
        api.images.generate(model="emoji-text", prompt="x", **more)
    with pytest.raises(openai.NotFoundError, match="no model of image"):
        api.images.generate(model="dall-e-3", prompt="x")


def test_what_is_streamed_never_changes():
    tokens = ByteTokens()
    row = [*"né end".encode(), tokens.mask_id, *b"later"]
    assert settled(tokens, row, ()) == "né end"
    assert settled(tokens, [*"né".encode()[:2], tokens.mask_id], ()) == "n"  # half a character
    assert settled(tokens, row, ("ending",)) == "né "  # may become the stop word
    assert settled(tokens, row, ("é",)) == "n"
    assert settled(tokens, [*b"ab", tokens.eos_id, *b"cd"], ()) == "ab"
    assert until("one two three", ("three", "two")) == "one "
