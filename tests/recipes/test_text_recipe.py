"""The commands on a tiny text: prepare, train, resume, write, fill, watch, score; and what is refused in one line."""

import json
from pathlib import Path

import pytest

from unveil.cli import main
from unveil.recipes.load import load

TINY = ["--preset", "tiny", "--width", "16", "--depth", "1", "--heads", "2", "--context", "16", "--batch-size", "4", "--device", "cpu"]
POEM = "To be, or not to be, that is the question.\n" * 12


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A folder with poem.txt, its prepared data, and a run on each."""
    folder = tmp_path_factory.mktemp("text")
    (folder / "poem.txt").write_text(POEM)
    prepare = ["data", "text", "--data", str(folder / "poem.txt"), "--vocabulary", "270", "--out", str(folder / "data")]
    assert main([*prepare, "--json", str(folder / "data.json")]) == 0
    for data, run in (("poem.txt", "bytes"), ("data", "bpe")):
        flags = ["--data", str(folder / data), "--out", str(folder / run), "--steps", "6", "--save-every", "3", "--keep", "0"]
        assert main(["train", "text", *TINY, *flags]) == 0
    return folder


def written(path: Path) -> dict:
    return json.loads(path.read_text())


def test_prepared_data_and_runs_are_described(base):
    metrics = written(base / "data.json")["metrics"]
    assert metrics["vocabulary"] == 270 and metrics["characters_per_token"] > 1.2
    config = written(base / "bpe" / "config.json")
    assert (config["recipe"], config["vocabulary"], config["form"]) == ("text", 270, "l")
    assert (base / "bpe" / "tokenizer.json").read_text() == (base / "data" / "tokenizer.json").read_text()
    assert sorted(p.name for p in (base / "bytes").glob("checkpoint-*")) == ["checkpoint-3", "checkpoint-6"]


@pytest.mark.parametrize("run", ["bytes", "bpe"])
def test_writing_keeps_the_prompt_and_filling_keeps_the_text(base, run, tmp_path, capsys):
    out = tmp_path / "out.json"
    common = ["sample", "text", "--checkpoint", str(base / run), "--device", "cpu", "--json", str(out)]
    flags = ["--prompt", "To be", "--length", "8", "--blocks", "4", "--order", "confidence", "--steps", "4", "--count", "2"]
    assert main([*common, *flags]) == 0
    result = written(out)
    assert len(result["texts"]) == 2 and all(text.startswith("To be") for text in result["texts"])
    assert result["metrics"]["nfe"] <= 4 and set(result["metrics"]) == {"tokens_per_second", "nfe", "n"}
    assert main([*common, "--infill", "be, [*4] that", "--order", "random", "--steps", "3", "--watch"]) == 0
    captured = capsys.readouterr()
    assert [line.count("░") for line in captured.err.splitlines()] == [2, 1, 0] and "░" not in captured.out
    (text,) = written(out)["texts"]
    assert text.startswith("be, ") and text.endswith(" that")


def test_scoring_bounds_the_held_out_tail_and_other_text(base, tmp_path):
    for run, data in (("bytes", []), ("bpe", []), ("bpe", ["--data", str(base / "poem.txt")])):
        out = tmp_path / "eval.json"
        assert main(["eval", "text", "--checkpoint", str(base / run), "--device", "cpu", "--draws", "2", "--json", str(out), *data]) == 0
        metrics = written(out)["metrics"]
        assert {"nats_per_token", "bits_per_char", "perplexity", "ci95", "tokens_per_second", "nfe", "n"} <= set(metrics)
        assert 3.0 < metrics["nats_per_token"] < 7.0 and metrics["ci95"] > 0.0
        per_char = metrics["nats_per_token"] / 0.6931
        if run == "bytes":  # one byte a character, and the end of text
            assert metrics["bits_per_char"] == pytest.approx(per_char * 53 / 52, rel=1e-3)
        else:
            assert metrics["bits_per_char"] < per_char


@pytest.mark.parametrize("kind", [["--block", "4"], ["--causal"]])
def test_blocks_and_causal_models_train_write_and_are_scored(base, kind, tmp_path):
    run, out = tmp_path / "run", tmp_path / "out.json"
    assert main(["train", "text", *TINY, "--data", str(base / "data"), "--out", str(run), "--steps", "2", *kind]) == 0
    common = ["--checkpoint", str(run), "--device", "cpu", "--json", str(out)]
    texts = []
    for cache in ("auto", "none"):
        flags = ["--prompt", "To be", "--length", "6", "--steps", "6", "--cache", cache, "--order", "confidence", "--temperature", "0"]
        assert main(["sample", "text", *common, *flags]) == 0
        texts.append(written(out)["texts"])
    assert texts[0] == texts[1]
    assert main(["sample", "text", *common, "--infill", "To be, [*2] that"]) == 2  # what follows the gap would not be seen
    scores = tmp_path / "scores.jsonl"
    assert main(["eval", "text", *common, "--draws", "2", "--times", "antithetic", "--scores", str(scores)]) == 0
    result = written(out)
    lines = [json.loads(line) for line in scores.read_text().splitlines()]
    assert len(lines) == result["metrics"]["n"] and len(lines[0]["tokens"]) == len(lines[0]["nats"]) == 16
    if kind == ["--causal"]:  # exact: the scores are the likelihood
        assert result["protocol"].startswith("exactly") and result["metrics"]["nfe"] == 1
        total, count = sum(sum(line["nats"]) for line in lines), sum(len(line["nats"]) for line in lines)
        assert total / count == pytest.approx(result["metrics"]["nats_per_token"], abs=1e-4)
    else:
        assert result["protocol"].startswith("bound by 2 draws") and result["metrics"]["nfe"] == 2


def test_a_run_is_loaded_by_its_folder_and_resumes(base, capsys):
    model = load(base / "bpe", "cpu")
    assert model.tokens.size == 270 and model.shape.context == 16
    with pytest.raises(TypeError, match="takes no settings"):
        load(base / "bpe", "cpu", steps=3)
    again = ["train", "text", *TINY, "--data", str(base / "data"), "--out", str(base / "bpe"), "--save-every", "3", "--keep", "0"]
    assert main([*again, "--steps", "6"]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main([*again, "--steps", "7", "--resume", "--context", "8"]) == 2
    assert "was started with --context 16" in capsys.readouterr().err
    assert main([*again, "--steps", "7", "--resume"]) == 0
    assert (base / "bpe" / "checkpoint-7").is_dir()


@pytest.mark.parametrize("form", [["--form", "t"], ["--form", "t", "--times", "antithetic", "--schedule", "cosine"], ["--tied"]])
def test_every_form_of_training_runs(base, form, tmp_path):
    flags = ["--data", str(base / "poem.txt"), "--out", str(tmp_path / "run"), "--steps", "2", "--kv-heads", "1"]
    assert main(["train", "text", *TINY, *flags, *form]) == 0


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["sample", "--prompt", "x" * 20, "--length", "4"], "the model's context is 16"),
        (["sample", "--prompt", "<|mask|>"], "holds the mask token"),
        (["sample", "--infill", "no gap"], "has no gap"),
        (["sample", "--infill", "[*2]", "--prompt", "a"], "--prompt or --infill, not both"),
        (["sample", "--length", "8", "--blocks", "1", "--steps", "2"], "fewer than the 8 blocks"),
        (["sample", "--length", "-1"], "--length must be at least 0"),
        (["sample", "--length", "8", "--order", "margin", "--threshold", "0.9"], "threshold and factor are of the order 'confidence'"),
        (["sample", "--length", "8", "--remask", "0.5"], "--remask needs another --order"),
        (["sample", "--temperature", "-1"], "--temperature must be at least 0"),
        (["sample", "--temperature", "nan"], "--temperature must be at least 0"),
        (["sample", "--scale", "nan"], "--scale must be a number"),
        (["sample", "--length", "8", "--order", "confidence", "--threshold", "90"], "--threshold must lie in 0 .. 1"),
        (["sample", "--length", "8", "--order", "confidence", "--factor", "nan"], "--factor must be a number above 0"),
        (["sample", "--length", "8", "--threshold", "0.9"], "which the order first-hitting does not ask for"),
        (["data", "--data", "EMPTY"], "the field 'text' is empty in every line"),
        (["sample", "--length", "8", "--edit", "0.9", "--order", "ancestral"], "edits need an order"),
        (["eval", "--times", "antithetic", "--draws", "3"], "--draws must be even"),
        (["train", "--block", "3"], "--context must be a multiple of --block"),
        (["eval", "--draws", "0"], "--draws must be at least 1"),
        (["eval", "--data", "nowhere.txt"], "no such file or folder"),
        (["train", "--heads", "5"], "--width must be a multiple of twice --heads"),
        (["train", "--data", "nowhere"], "no such file or folder"),
        (["train", "--steps", "0"], "--steps must be at least 1"),
        (["data", "--vocabulary", "9"], "at least 258"),
        (["data", "--field", "x", "--data", "JSONL"], "line 1: no text in the field 'x'"),
    ],
)
def test_mistakes_are_one_line(base, command, message, capsys, tmp_path):
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"text": "a"}\n')
    (tmp_path / "empty.jsonl").write_text('{"text": ""}\n{"text": " "}\n')
    places = {"JSONL": lines, "EMPTY": tmp_path / "empty.jsonl"}
    verb, *flags = [str(places.get(word, word)) for word in command]
    if verb in ("sample", "eval"):
        flags += ["--checkpoint", str(base / "bpe"), "--device", "cpu"]
    elif "--data" not in flags:
        flags += ["--data", str(base / "poem.txt")]
    if verb in ("train", "data"):
        flags += ["--out", str(tmp_path / "out")]
    assert main([verb, "text", *flags]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and len([line for line in error.splitlines() if line.startswith("unveil: ")]) == 1


def test_another_tokenizer_beside_the_weights_is_refused(base, tmp_path, capsys):
    from shutil import copytree

    copytree(base / "bpe", tmp_path / "copy")
    (tmp_path / "copy" / "tokenizer.json").write_text((base / "bytes" / "tokenizer.json").read_text())
    assert main(["sample", "text", "--checkpoint", str(tmp_path / "copy"), "--device", "cpu"]) == 2
    assert "of 270 tokens, but the tokenizer has 258" in capsys.readouterr().err
    changed = (base / "bpe" / "tokenizer.json").read_text() + "\n"
    (tmp_path / "copy" / "tokenizer.json").write_text(changed)
    assert main(["sample", "text", "--checkpoint", str(tmp_path / "copy"), "--device", "cpu"]) == 2
    assert "is not the tokenizer that" in capsys.readouterr().err
    (tmp_path / "copy" / "tokenizer.json").unlink()
    assert main(["sample", "text", "--checkpoint", str(tmp_path / "copy"), "--device", "cpu"]) == 2
    assert "no tokenizer here" in capsys.readouterr().err


def test_a_packaged_model_writes_as_its_run_does(base, tmp_path, capsys):
    assert (
        main(["eval", "text", "--checkpoint", str(base / "bpe"), "--device", "cpu", "--draws", "1", "--json", str(tmp_path / "e.json")])
        == 0
    )
    pack = ["weights", "pack", "--run", str(base / "bpe"), "--name", "poem", "--into", str(tmp_path), "--results", str(tmp_path / "e.json")]
    assert main(pack) == 0
    card = (tmp_path / "poem" / "card.md").read_text()
    for told in ("| nats_per_token |", "--preset tiny", "`unveil data text --data poem.txt --tokenizer bpe --vocabulary 270 "):
        assert told in card
    assert str(base) not in card.split("##")[0]
    flags = ["--prompt", "To", "--length", "6", "--temperature", "0", "--device", "cpu", "--json"]
    for folder, file in ((base / "bpe", "a.json"), (tmp_path / "poem", "b.json")):
        assert main(["sample", "text", "--checkpoint", str(folder), *flags, str(tmp_path / file)]) == 0
    assert written(tmp_path / "a.json")["texts"] == written(tmp_path / "b.json")["texts"]
    assert main(["eval", "text", "--checkpoint", str(tmp_path / "poem"), "--device", "cpu"]) == 2
    assert "give --data FILE" in capsys.readouterr().err
