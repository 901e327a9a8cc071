"""Others' image models as ours: their beliefs and variances on their own schedule, converted runs, pictures,
and what is told of them."""

import json

import pytest
import torch

import unveil
from foreign_images import EVERY, LABELS, OPENAI, drawn, filled, golden, pipeline, times, written
from tolerance import golden_close
from unveil.cli import main
from unveil.image.generation import ImageSettings, generate
from unveil.process.schedule import cosine_betas

TOLD = {
    "improved": "4000 steps, linear, predicts eps, times counted in 4ths",
    "milestone": "100 steps, a table of its own, predicts v",
}


@pytest.mark.parametrize("name", EVERY)
def test_the_belief_is_that_of_the_originals_own_diffusion(tmp_path, name):
    """Table, offset and scale of its entries, what is predicted: x_0 as their scheduler or diffusion gives
    it."""
    path, said = written(name, tmp_path)
    model, wanted = unveil.load(path, "cpu", raw=True, **said), golden(name)["x0"]
    t = (torch.tensor(times(name), dtype=torch.float64) + 1) / model.shape.diffusion_steps
    with torch.no_grad():
        belief = model.denoiser(drawn(name), t, model.condition(LABELS.get(name), 2))
    for row in range(2):
        golden_close(belief.mean[row], wanted[row], 512)
    if name == "adm":  # eq. 15 of Improved DDPM, between the logarithms of beta and of beta-tilde
        betas = cosine_betas(1000)
        kept = (1 - betas).cumprod(0)
        index = torch.tensor(times(name))
        small = (betas * (1 - kept.roll(1)) / (1 - kept))[index].log()[:, None, None, None]
        large = betas[index].log()[:, None, None, None]
        share = belief.variance_fraction.double()
        golden_close((share * large + (1 - share) * small).float(), golden(name)["log_variance"])


@pytest.mark.parametrize("name", ["conditional", "adm", "milestone"])
def test_a_converted_run_makes_the_pictures_of_the_file(tmp_path, name, capsys):
    path, said = written(name, tmp_path)
    flags = [f"--{key}={value}" for key, value in said.items()]
    out = tmp_path / "run"
    for _ in range(2):  # again: the same
        assert main(["weights", "convert", str(path), str(out), *flags]) == 0
    said_there = capsys.readouterr().out
    assert ("averaged weights" in said_there) is (name == "milestone")
    one, other = (unveil.load(place, "cpu", **given) for place, given in ((path, said), (out, {})))
    labels = LABELS.get(name)
    settings = ImageSettings(solver="ddpm", steps=4)
    pictures = [
        generate(m, labels, 2, settings, torch.Generator().manual_seed(0)).pixels for m in (one, other)
    ]
    assert torch.equal(*pictures) and pictures[0].float().std() > 1
    if name == "milestone":
        raw = unveil.load(path, "cpu", raw=True, **said)
        assert not torch.equal(
            generate(raw, labels, 2, settings, torch.Generator().manual_seed(0)).pixels, pictures[0]
        )
    (out / "config.json").write_text("{}")
    assert main(["weights", "convert", str(path), str(out), *flags]) == 2
    assert "something else is there" in capsys.readouterr().err


def test_sample_image_takes_the_files_own_schedule(tmp_path, capsys):
    out, made = tmp_path / "run", tmp_path / "made"
    path, _ = written("adm", tmp_path)
    assert main(["weights", "convert", str(path), str(out), f"--flags={OPENAI['adm']}"]) == 0
    asked = [
        "sample",
        "image",
        "--checkpoint",
        str(out),
        "-n",
        "2",
        "--steps",
        "3",
        "--device",
        "cpu",
        "--out",
        str(made),
        "--json",
        "-",
    ]
    assert main([*asked, "--class", "6"]) == 0
    assert json.loads(capsys.readouterr().out.split("\n", 2)[2])["metrics"]["nfe"] == 3
    assert (made / "0001.png").is_file()
    for wrong, told in (
        (["--steps", "1001"], "trained with 1000 steps"),
        (["--class", "7"], "0 .. 6"),
        (["--scale", "2"], "without a class"),
    ):
        assert main([*asked, *wrong]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert told in line


@pytest.mark.parametrize("name", EVERY)
def test_inspect_says_what_it_is(tmp_path, name, capsys):
    path, said = written(name, tmp_path)
    assert main(["weights", "inspect", str(path), *(f"--{k}={v}" for k, v in said.items())]) == 0
    out = capsys.readouterr().out
    assert "usable        yes: unveil.load(PATH)" in out and TOLD.get(name, "") in out
    count = sum(v.numel() for k, v in filled(golden(name)["shapes"]).items())
    assert f"{count:,} parameters" in out


def test_what_cannot_be_used_is_one_line_and_leaves_nothing(tmp_path, capsys):
    path, _ = written("adm", tmp_path)
    folder = pipeline("ddpm", tmp_path / "p", time_embedding_type="learned")
    for given, told in (
        ([path], "give the flags"),
        ([folder], "time_embedding_type"),
        ([folder, "--flags", "a=b"], "leave --flags out"),
    ):
        words = list(map(str, given))
        for verb in (["inspect", *words], ["convert", words[0], str(tmp_path / "out"), *words[1:]]):
            assert main(["weights", *verb]) == 2
            (line,) = capsys.readouterr().err.strip().splitlines()
            assert told in line and not (tmp_path / "out").exists()
    with pytest.raises(unveil.UnveilError, match="give the flags"):
        unveil.load(path)


def test_a_table_that_is_not_ours_is_kept_whole(tmp_path):
    out = tmp_path / "run"
    assert main(["weights", "convert", str(pipeline("conditional", tmp_path / "p")), str(out)]) == 0
    config = json.loads((out / "config.json").read_text())
    assert config["schedule"] == "betas" and len(config["betas"]) == 1000
    roots = torch.tensor(config["betas"], dtype=torch.float64).sqrt().diff()
    torch.testing.assert_close(roots, roots.mean().expand(999), rtol=1e-6, atol=0)
    (out / "config.json").write_text(json.dumps(config | {"betas": config["betas"][1:]}))
    with pytest.raises((unveil.UnveilError, ValueError), match="999 betas"):
        unveil.load(out, "cpu")
    (out / "config.json").write_text(json.dumps(config | {"options": {"harm": 1}}))
    with pytest.raises(unveil.UnveilError, match="not a config of unveil"):
        unveil.load(out, "cpu")
