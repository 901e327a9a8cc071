"""The commands on a tiny text: prepare, train, resume, write, fill, watch, score; and what is refused in one
line."""

import json
import shlex
from io import StringIO
from pathlib import Path

import pytest

from unveil.cli import main
from unveil.loading import load

TINY = [
    "--preset",
    "tiny",
    "--width",
    "16",
    "--depth",
    "1",
    "--heads",
    "2",
    "--context",
    "16",
    "--batch-size",
    "4",
    "--device",
    "cpu",
]
POEM = "To be, or not to be, that is the question.\n" * 12


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A folder with poem.txt, its prepared data, and a run on each."""
    folder = tmp_path_factory.mktemp("text")
    (folder / "poem.txt").write_text(POEM)
    prepare = [
        "data",
        "text",
        "--data",
        str(folder / "poem.txt"),
        "--vocabulary",
        "270",
        "--out",
        str(folder / "data"),
    ]
    assert main([*prepare, "--json", str(folder / "data.json")]) == 0
    for data, run in (("poem.txt", "bytes"), ("data", "bpe")):
        flags = [
            "--data",
            str(folder / data),
            "--out",
            str(folder / run),
            "--steps",
            "6",
            "--save-every",
            "3",
            "--keep",
            "0",
        ]
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
    flags = [
        "--prompt",
        "To be",
        "--length",
        "8",
        "--blocks",
        "4",
        "--order",
        "confidence",
        "--steps",
        "4",
        "--count",
        "2",
    ]
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
        assert (
            main(
                [
                    "eval",
                    "text",
                    "--checkpoint",
                    str(base / run),
                    "--device",
                    "cpu",
                    "--draws",
                    "2",
                    "--json",
                    str(out),
                    *data,
                ]
            )
            == 0
        )
        metrics = written(out)["metrics"]
        assert {
            "nats_per_token",
            "bits_per_char",
            "perplexity",
            "ci95",
            "tokens_per_second",
            "nfe",
            "n",
        } <= set(metrics)
        assert 3.0 < metrics["nats_per_token"] < 7.0 and metrics["ci95"] > 0.0
        per_char = metrics["nats_per_token"] / 0.6931
        if run == "bytes":  # one byte a character, and the end of text
            assert metrics["bits_per_char"] == pytest.approx(per_char * 53 / 52, rel=1e-3)
        else:
            assert metrics["bits_per_char"] < per_char


@pytest.mark.parametrize("kind", [["--block", "4"], ["--causal"]])
def test_blocks_and_causal_models_train_write_and_are_scored(base, kind, tmp_path):
    run, out = tmp_path / "run", tmp_path / "out.json"
    assert (
        main(["train", "text", *TINY, "--data", str(base / "data"), "--out", str(run), "--steps", "2", *kind])
        == 0
    )
    common = ["--checkpoint", str(run), "--device", "cpu", "--json", str(out)]
    texts = []
    for cache in ("auto", "none"):
        flags = [
            "--prompt",
            "To be",
            "--length",
            "6",
            "--steps",
            "6",
            "--cache",
            cache,
            "--order",
            "confidence",
            "--temperature",
            "0",
        ]
        assert main(["sample", "text", *common, *flags]) == 0
        texts.append(written(out)["texts"])
    assert texts[0] == texts[1]
    assert (
        main(["sample", "text", *common, "--infill", "To be, [*2] that"]) == 2
    )  # what follows the gap would not be seen
    scores = tmp_path / "scores.jsonl"
    assert (
        main(["eval", "text", *common, "--draws", "2", "--times", "antithetic", "--scores", str(scores)]) == 0
    )
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
    again = [
        "train",
        "text",
        *TINY,
        "--data",
        str(base / "data"),
        "--out",
        str(base / "bpe"),
        "--save-every",
        "3",
        "--keep",
        "0",
    ]
    assert main([*again, "--steps", "6"]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main([*again, "--steps", "7", "--resume", "--context", "8"]) == 2
    assert "was started with --context 16" in capsys.readouterr().err
    assert main([*again, "--steps", "7", "--resume"]) == 0
    assert (base / "bpe" / "checkpoint-7").is_dir()


@pytest.mark.parametrize(
    "form", [["--form", "t"], ["--form", "t", "--times", "antithetic", "--schedule", "cosine"], ["--tied"]]
)
def test_every_form_of_training_runs(base, form, tmp_path):
    flags = [
        "--data",
        str(base / "poem.txt"),
        "--out",
        str(tmp_path / "run"),
        "--steps",
        "2",
        "--kv-heads",
        "1",
    ]
    assert main(["train", "text", *TINY, *flags, *form]) == 0


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["sample", "--prompt", "x" * 20, "--length", "4"], "the model's context is 16"),
        (["sample", "--prompt", "<|mask|>"], "holds the mask token"),
        (["sample", "--infill", "no gap"], "has no gap"),
        (["sample", "--infill", "[*2]", "--prompt", "a"], "--prompt or --infill, not both"),
        (["sample", "--length", "8", "--blocks", "1", "--steps", "2"], "fewer than the 8 blocks"),
        (["sample", "--length", "-1"], "--length must be a whole number of at least 0"),
        (
            ["sample", "--length", "8", "--order", "margin", "--threshold", "0.9"],
            "threshold and factor are of the order 'confidence'",
        ),
        (["sample", "--length", "8", "--remask", "0.5"], "--remask needs another --order"),
        (["sample", "--temperature", "-1"], "--temperature must be a finite number of at least 0"),
        (["sample", "--temperature", "nan"], "--temperature must be a finite number of at least 0"),
        (["sample", "--scale", "nan"], "--scale must be a finite number"),
        (
            ["sample", "--length", "8", "--order", "confidence", "--threshold", "90"],
            "--threshold must be a number above 0 and at most 1",
        ),
        (
            ["sample", "--length", "8", "--order", "confidence", "--factor", "nan"],
            "--factor must be a finite number above 0",
        ),
        (["sample", "--length", "8", "--threshold", "0.9"], "which --order first-hitting does not use"),
        (["data", "--data", "EMPTY"], "the field 'text' is empty in every line"),
        (
            ["sample", "--length", "8", "--edit", "0.9", "--order", "ancestral"],
            "--edit needs an order by confidence",
        ),
        (["eval", "--times", "antithetic", "--draws", "3"], "--draws must be even"),
        (["train", "--block", "3"], "--context must be a multiple of --block"),
        (["eval", "--draws", "0"], "--draws must be a whole number of at least 1"),
        (["eval", "--data", "nowhere.txt"], "no such file or folder"),
        (["train", "--heads", "5"], "--width must be a multiple of twice --heads"),
        (["train", "--data", "nowhere"], "no such file or folder"),
        (["train", "--steps", "0"], "--steps must be a whole number of at least 1"),
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
        main(
            [
                "eval",
                "text",
                "--checkpoint",
                str(base / "bpe"),
                "--device",
                "cpu",
                "--draws",
                "1",
                "--json",
                str(tmp_path / "e.json"),
            ]
        )
        == 0
    )
    pack = [
        "weights",
        "pack",
        "--run",
        str(base / "bpe"),
        "--name",
        "poem",
        "--into",
        str(tmp_path),
        "--results",
        str(tmp_path / "e.json"),
    ]
    assert main(pack) == 0
    card = (tmp_path / "poem" / "card.md").read_text()
    for told in (
        "| nats_per_token |",
        "--preset tiny",
        "`unveil data text --data poem.txt --tokenizer bpe --vocabulary 270 ",
    ):
        assert told in card
    assert str(base) not in card.split("##")[0]
    flags = ["--prompt", "To", "--length", "6", "--temperature", "0", "--device", "cpu", "--json"]
    for folder, file in ((base / "bpe", "a.json"), (tmp_path / "poem", "b.json")):
        assert main(["sample", "text", "--checkpoint", str(folder), *flags, str(tmp_path / file)]) == 0
    assert written(tmp_path / "a.json")["texts"] == written(tmp_path / "b.json")["texts"]
    assert main(["eval", "text", "--checkpoint", str(tmp_path / "poem"), "--device", "cpu"]) == 2
    assert "give --data FILE" in capsys.readouterr().err


SMALL = [*TINY, "--steps", "2", "--save-every", "2"]


def next_line(said: str) -> list[str]:
    """What a verb says comes next, as arguments."""
    (line,) = [line for line in said.splitlines() if line.startswith("next: unveil ")]
    return shlex.split(line.removeprefix("next: unveil "))


def test_each_next_line_runs(base, tmp_path, monkeypatch, capsys):
    """From a text to prepared data, a run and its text; and from instructions to a chat; where places have
    blanks in their names."""
    monkeypatch.chdir(tmp_path)
    text = tmp_path / "a poem.txt"
    text.write_text(POEM)
    assert main(["data", "text", "--data", str(text), "--vocabulary", "262", "--out", "my data"]) == 0
    assert main([*next_line(capsys.readouterr().out), *SMALL, "--out", "my run"]) == 0
    sample = next_line(capsys.readouterr().out)
    assert (
        sample == ["sample", "text", "--checkpoint", "my run", "--watch"]
        and main([*sample, "--device", "cpu"]) == 0
    )
    assert "calls, " in capsys.readouterr().out
    (tmp_path / "pairs.json").write_text(json.dumps([{"instruction": "a", "output": "b"}]))
    flags = [
        "--sft",
        "pairs.json",
        "--out",
        "my chat",
        "--batch-size",
        "2",
        "--steps",
        "1",
        "--device",
        "cpu",
        "--context",
        "48",
    ]
    assert main(["train", "text", *TINY[:8], *flags]) == 0
    chat = next_line(capsys.readouterr().out)
    assert chat == ["chat", "--checkpoint", "my chat"]
    monkeypatch.setattr("sys.stdin", StringIO("hello\n\n"))
    assert main([*chat, "--device", "cpu"]) == 0
    assert "context" not in capsys.readouterr().err


def test_samples_are_the_same_among_however_many(base, tmp_path):
    """The i-th text of a batch is the first of seed + i; scores do not depend on the batch."""
    out = tmp_path / "out.json"
    common = [
        "sample",
        "text",
        "--checkpoint",
        str(base / "bpe"),
        "--device",
        "cpu",
        "--json",
        str(out),
        "--length",
        "6",
    ]
    remasking = ["--order", "random", "--steps", "3", "--remask", "0.4"]
    for ways in (["--order", "first-hitting"], remasking, ["--length", "0", "--blocks", "4"]):
        assert main([*common, *ways, "--count", "3", "--seed", "5"]) == 0
        many = written(out)["texts"]
        assert main([*common, *ways, "--seed", "7"]) == 0
        assert written(out)["texts"] == [many[2]] and len(set(many)) > 1
    scores = []
    for batch in ("1", "5"):
        flags = ["--draws", "1", "--batch-size", batch, "--json", str(out)]
        assert main(["eval", "text", "--checkpoint", str(base / "bpe"), "--device", "cpu", *flags]) == 0
        scores.append(written(out)["metrics"]["nats_per_token"])
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)


def test_encodings_of_data_are_remembered_and_wrong_ones_named(tmp_path, capsys):
    (tmp_path / "old.txt").write_bytes(("Müller, Æsir und Öl. " * 20).encode("cp1252"))
    flags = ["--data", str(tmp_path / "old.txt"), "--device", "cpu"]
    run = [*SMALL, *flags, "--out", str(tmp_path / "run")]
    assert main(["train", "text", *run]) == 2
    assert "old.txt: not UTF-8 text (byte 1 is 0xfc); give its own --encoding" in capsys.readouterr().err
    assert main(["train", "text", *run, "--encoding", "latin"]) == 0  # a name of latin-1
    assert (
        main(["eval", "text", "--checkpoint", str(tmp_path / "run"), "--device", "cpu", "--draws", "1"]) == 0
    )
    assert main(["eval", "text", "--checkpoint", str(tmp_path / "run"), *flags, "--draws", "1"]) == 2
    assert "--encoding" in capsys.readouterr().err
    assert (
        main(
            [
                "eval",
                "text",
                "--checkpoint",
                str(tmp_path / "run"),
                *flags,
                "--draws",
                "1",
                "--encoding",
                "cp1252",
            ]
        )
        == 0
    )
    capsys.readouterr()
    assert main(["data", "text", *flags[:2], "--encoding", "klingon"]) == 2
    assert "--encoding 'klingon': no such encoding" in capsys.readouterr().err


def test_own_files_are_not_replaced(base, tmp_path, capsys):
    """Other people's tokenizer.json, config.json, prepared names and scores stay; ours are written again."""
    common = ["--data", str(base / "poem.txt")]
    for verb, name in (
        ("train", "tokenizer.json"),
        ("train", "config.json"),
        ("data", "tokenizer.json"),
        ("data", "train.npy"),
    ):
        folder = tmp_path / f"{verb}-{name}"
        folder.mkdir()
        (folder / name).write_text('{"mine": 1}')
        assert main([verb, "text", *common, "--out", str(folder), *(SMALL if verb == "train" else [])]) == 2
        assert "give another" in capsys.readouterr().err and [p.name for p in folder.iterdir()] == [name]
        assert (folder / name).read_text() == '{"mine": 1}'
    for _ in range(2):
        assert main(["data", "text", *common, "--tokenizer", "bytes", "--out", str(tmp_path / "ours")]) == 0
    scores = tmp_path / "scores.jsonl"
    scoring = [
        "eval",
        "text",
        "--checkpoint",
        str(base / "bpe"),
        "--device",
        "cpu",
        "--draws",
        "1",
        "--pieces",
        "1",
    ]
    scoring += ["--scores", str(scores)]
    assert main(scoring) == 0 and main(scoring) == 0
    scores.write_text("mine\n")
    assert main(scoring) == 2 and scores.read_text() == "mine\n"
    assert "was not made by unveil" in capsys.readouterr().err


def test_a_run_on_text_that_has_grown_goes_on_when_told_or_is_trained_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text(POEM)
    run = ["train", "text", *SMALL, "--data", "texts", "--out", "run"]
    assert main(run) == 0
    (tmp_path / "texts" / "b.txt").write_text(POEM)
    capsys.readouterr()
    assert main([*run, "--resume", "--steps", "3"]) == 2
    said = capsys.readouterr().err.strip()
    assert (
        "run was started with 465 tokens, now there are 931 tokens; add --new-data to go on with these"
        in said
    )
    offered = ["train", "text", "--checkpoint", "run", "--data", "texts", "--out", "run-more"]
    assert main([*offered, "--steps", "1", "--device", "cpu", "--batch-size", "2"]) == 0
    assert (
        "the shape is that of run, not of --preset default: context 16, width 16" in capsys.readouterr().err
    )
    (tmp_path / "texts" / "b.txt").unlink()
    assert main([*run, "--resume", "--steps", "3"]) == 0
    (tmp_path / "texts" / "b.txt").write_text(POEM)
    assert main([*run, "--resume", "--steps", "4", "--new-data"]) == 0


def test_another_tokenizer_cannot_go_on_but_be_trained_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("poem.txt").write_text(POEM)
    run = ["train", "text", *SMALL, "--data", "poem.txt", "--out", "run"]
    assert main(run) == 0
    config = json.loads(Path("run/config.json").read_text())
    Path("run/config.json").write_text(json.dumps(config | {"tokenizer": "0" * 64}))
    assert main([*run, "--resume", "--steps", "3"]) == 2
    offered = shlex.split(capsys.readouterr().err.strip().split("learned: unveil ")[1])
    assert offered == ["train", "text", "--checkpoint", "run", "--data", "poem.txt", "--out", "run-more"]
    Path("run/config.json").write_text(json.dumps(config))
    assert main([*offered, "--steps", "1", "--device", "cpu", "--batch-size", "2"]) == 0


def test_flags_without_effect_are_said(base, tmp_path, capsys):
    out = ["--out", str(tmp_path / "run")]
    for flags, message in (
        (["--times", "independent"], "--times independent needs --form t"),
        (["--causal", "--form", "t"], "--form t is for masked models"),
    ):
        assert main(["train", "text", *SMALL, "--data", str(base / "poem.txt"), *out, *flags]) == 2
        assert message in capsys.readouterr().err
    assert main(["train", "text", *SMALL, "--data", str(base / "data"), *out, "--encoding", "latin-1"]) == 0
    assert "is prepared already: --field and --encoding" in capsys.readouterr().err
    assert (
        main(
            [
                "sample",
                "text",
                "--checkpoint",
                str(base / "bpe"),
                "--device",
                "cpu",
                "--prompt",
                "To be \udcff",
                "--length",
                "2",
            ]
        )
        == 0
    )
    assert "To be \ufffd" in capsys.readouterr().out
