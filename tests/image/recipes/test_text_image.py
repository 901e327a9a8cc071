"""Text to image by the commands, on a few tiny pictures: train with captions, sample prompts, make again."""

import json
from pathlib import Path
from shlex import split

import pytest
import torch
from PIL import Image
from stripes import TINY, WORDS, write_captioned, write_stripes

from unveil.cli import main
from unveil.files.pictures import read_parameters
from unveil.image.generation import Given, generate
from unveil.image.prompts.infotext import parse_infotext
from unveil.image.settings import ImageSettings
from unveil.loading import load

EACH = [*TINY, *split("--save-every 3 --keep 0")]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """Stripes with a caption each, and a run on them."""
    folder = tmp_path_factory.mktemp("text")
    stripes = write_captioned(folder)
    flags = ["--data", str(stripes), *WORDS, "--steps", "6", "--out", str(folder / "run")]
    assert main(["train", "image", *EACH, *flags]) == 0
    return folder


def test_a_run_keeps_its_words(base):
    config = json.loads((base / "run" / "config.json").read_text())
    assert (base / "run" / "samples" / "step-000006.png").is_file()
    assert (config["context"], config["pooled"], config["names"]) == (8, 8, [])
    model = load(base / "run", "cpu")
    assert model.text is not None
    ids, valid = model.text.tokenizer(["stripes that lie", ""])
    assert valid.sum(1).tolist() == [4, 1] and len(set(ids[0, :4].tolist())) == 4


def test_prompts_are_sampled_and_made_again_bit_for_bit(base, tmp_path):
    flags = [
        "--prompt",
        "stripes that lie",
        "stripes that stand",
        "--scale",
        "2",
        "--negative",
        "lie",
        "-n",
        "4",
    ]
    sample = ["sample", "image", "--checkpoint", str(base / "run"), "--steps", "3"]
    assert main([*sample, *flags, "--out", str(tmp_path / "one")]) == 0
    assert json.loads(read_parameters(tmp_path / "one" / "grid.png"))["prompt"] == [
        "stripes that lie",
        "stripes that stand",
    ]
    with Image.open(tmp_path / "one" / "0003.png") as picture:
        said = parse_infotext(picture.text["parameters"])
    assert (said.prompt, said.negative) == ("stripes that stand", "lie")
    known = ("Steps", "Sampler", "CFG scale", "Seed", "Size")
    assert [said.settings[name] for name in known] == ["3", "DPM++ 2M", "2.0", "3", "8x8"]
    again = ["--from-png", str(tmp_path / "one" / "grid.png"), "--out", str(tmp_path / "two")]
    assert main(["sample", "image", *again]) == 0
    for file in ("grid.png", "0000.png", "0003.png"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_other_words_make_other_images(base):
    model = load(base / "run", "cpu")
    made = {}
    for name, prompt in (
        ("lie", "stripes that lie"),
        ("stand", "stripes that stand"),
        ("same", "Stripes that LIE"),
    ):
        settings = ImageSettings(steps=3, scale=4.0)
        made[name] = generate(model, None, 2, settings, 0, given=Given(prompts=[prompt] * 2)).pixels
    assert torch.equal(made["lie"], made["same"]) and not torch.equal(made["lie"], made["stand"])


def last_belief(model, prompt: str, **settings) -> torch.Tensor:
    """The belief about x_0 at the last step, before it is rounded to pixels."""
    beliefs: list[torch.Tensor] = []
    given, sampled = Given(prompts=[prompt]), ImageSettings(steps=4, scale=2.0, clip=False, **settings)
    generate(model, None, 1, sampled, 0, given=given, on_step=lambda belief, _: beliefs.append(belief))
    return beliefs[-1]


def test_a_plain_prompt_in_the_language_is_the_literal_one(base):
    """Weights of 1 and schedules that do not change leave the samples as they are; others do not."""
    model = load(base / "run", "cpu")
    plain = last_belief(model, "stripes that lie")
    assert torch.equal(plain, last_belief(model, "(stripes:1.0) that lie"))
    assert torch.equal(plain, last_belief(model, "stripes that [lie:lie:2]"))
    for other in ("stripes that (lie:3)", "stripes that [lie:stand:2]", "stripes that lie AND stand"):
        assert not torch.equal(plain, last_belief(model, other))


def test_a_scheduled_prompt_is_the_first_until_its_step_and_then_the_second(base):
    model = load(base / "run", "cpu")
    assert torch.equal(
        last_belief(model, "[lie:stand:0]", solver="ddim"), last_belief(model, "stand", solver="ddim")
    )
    assert torch.equal(
        last_belief(model, "[lie:stand:4]", solver="ddim"), last_belief(model, "lie", solver="ddim")
    )
    late = last_belief(model, "[lie:stand:1]", solver="ddim")
    assert not torch.equal(late, last_belief(model, "lie", solver="ddim"))
    assert not torch.equal(late, last_belief(model, "stand", solver="ddim"))


def test_resuming_is_bit_exact_and_keeps_the_words(base, tmp_path):
    flags = ["--data", str(base / "stripes"), *WORDS]
    for out, steps in (("whole", ["6"]), ("parts", ["3", "6"])):
        for k, count in enumerate(steps):
            more = ["--resume"] if k else []
            assert (
                main(["train", "image", *EACH, *flags, "--steps", count, "--out", str(tmp_path / out), *more])
                == 0
            )
    one, two = (load(tmp_path / out, "cpu").state_dict() for out in ("whole", "parts"))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--negative", "lie"], "give `prompt`, and `scale` above 1"),
        (["--scale", "2"], "guides towards a text; give `prompt`"),
        (["--class", "0"], "without `classes`"),
    ],
)
def test_what_a_model_of_text_cannot_do(base, tmp_path, capsys, flags, error):
    assert (
        main(["sample", "image", "--checkpoint", str(base / "run"), *flags, "--out", str(tmp_path / "x")])
        == 2
    )
    err = capsys.readouterr().err
    assert (
        error.replace("`prompt`", "--prompt").replace("`scale`", "--scale").replace("`classes`", "--classes")
        in err
    )


def test_a_prompt_needs_a_model_of_text(tmp_path, capsys):
    stripes = write_stripes(tmp_path)
    assert (
        main(["train", "image", *EACH, "--data", str(stripes), "--steps", "3", "--out", str(tmp_path / "r")])
        == 0
    )
    flags = ["--checkpoint", str(tmp_path / "r"), "--prompt", "a cat", "--out", str(tmp_path / "x")]
    assert main(["sample", "image", *flags]) == 2
    assert "trained without" in capsys.readouterr().err


def test_words_of_another_run_are_refused(base, tmp_path, capsys):
    import shutil

    shutil.copytree(base / "run", tmp_path / "run")
    file = tmp_path / "run" / "tokenizer.json"
    file.write_text(file.read_text().replace("stand", "stend"))
    assert main(["sample", "image", "--checkpoint", str(tmp_path / "run"), "--out", str(tmp_path / "x")]) != 0
    assert "not the tokenizer" in capsys.readouterr().err


def test_a_tokenizer_of_captions_is_made_once_and_shared(base, tmp_path, capsys):
    words, data = tmp_path / "words.json", str(base / "stripes")
    made = [
        "data",
        "captions",
        "--data",
        data,
        "--captions",
        "txt",
        "--text-length",
        "6",
        "--out",
        str(words),
    ]
    assert main(made) == 0
    assert (
        "7 words of 40 captions" in capsys.readouterr().out
    )  # padding, start, unknown and four of their own
    flags = [
        "--data",
        data,
        *WORDS,
        "--tokenizer",
        str(words),
        "--steps",
        "3",
        "--out",
        str(tmp_path / "run"),
    ]
    assert main(["train", "image", *EACH, *flags]) == 0
    assert (tmp_path / "run" / "tokenizer.json").read_bytes() == words.read_bytes()
    words.write_text("{}")
    assert main(made) != 0  # not ours any more


def test_variations_go_from_the_image_of_one_seed_to_those_of_others(base, tmp_path):
    def made(name: str, *flags: str) -> list[bytes]:
        out = tmp_path / name
        sample = ["sample", "image", "--checkpoint", str(base / "run"), "--steps", "3", "-n", "2", *flags]
        assert main([*sample, "--prompt", "stripes that lie", "--scale", "2", "--out", str(out)]) == 0
        with Image.open(out / "0000.png") as one, Image.open(out / "0001.png") as two:
            return [one.tobytes(), two.tobytes()]

    seed, other = made("seed", "--seed", "5"), made("other", "--seed", "9")
    assert made("end", "--seed", "5", "--variation", "1", "--variation-seed", "9") == other
    little = made("little", "--seed", "5", "--variation", "1e-6", "--variation-seed", "9")
    assert little[0] == little[1] == seed[0]
