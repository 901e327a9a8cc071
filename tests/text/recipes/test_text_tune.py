"""The commands of fine-tuning: instructions, LoRA, adapters of PEFT's layout, chats, the demo; and what is
refused in one line."""

import json
import re
import shlex
from pathlib import Path

import pytest
import torch

from lladas import save_llada
from unveil.cli import main
from unveil.loading import load
from unveil.text.data.tokens import LibraryTokens

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
    "48",
    "--batch-size",
    "4",
    "--device",
    "cpu",
]
X = torch.arange(40)[None]


def told(path: Path) -> dict:
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A folder with pairs.jsonl, a run on poem.txt, a LLaDA folder, and on each a LoRA run."""
    folder = tmp_path_factory.mktemp("tune")
    (folder / "poem.txt").write_text("To be, or not to be, that is the question.\n" * 12)
    pairs = [{"prompt": f"{i}?", "response": "so on " * (i % 3)} for i in range(5)] + [
        {"prompt": "long" * 30, "response": "x"}
    ]
    talk = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    lines = [*pairs, {"messages": [{"role": role, "content": content} for role, content in talk]}]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    save_llada(folder / "llada", torch.bfloat16)
    assert (
        main(
            [
                "train",
                "text",
                *TINY,
                "--data",
                str(folder / "poem.txt"),
                "--out",
                str(folder / "run"),
                "--steps",
                "3",
            ]
        )
        == 0
    )
    for name, start in (("lora", "run"), ("llada-lora", "llada")):
        assert tune(folder, start, name, "--lora-rank", "2", "--learning-rate", "0.05") == 0
    return folder


def tune(folder: Path, start: str, out: str, *more: str, steps: int = 4) -> int:
    flags = [
        "--checkpoint",
        str(folder / start),
        "--sft",
        str(folder / "pairs.jsonl"),
        "--out",
        str(folder / out),
    ]
    shape = TINY if start == "run" else ["--preset", "tiny", "--batch-size", "4", "--device", "cpu"]
    return main(["train", "text", *shape, *flags, "--steps", str(steps), "--save-every", "2", *more])


def logits(folder: Path, **settings) -> torch.Tensor:
    return load(folder, "cpu", **settings).denoiser(X, torch.ones(1)).logits.detach().float()


def test_instructions_tune_all_weights_of_a_run(base, capsys):
    capsys.readouterr()
    assert tune(base, "run", "full") == 0
    said = capsys.readouterr()
    assert "left out 1 conversations that are longer than the context of 48" in said.out + said.err
    config = told(base / "full" / "config.json")
    assert (config["chats"], config["left_out"], config["width"], config["recipe"]) == (6, 1, 16, "text")
    assert float((logits(base / "full") - logits(base / "run")).abs().max()) > 1e-3
    assert (
        main(
            [
                "train",
                "text",
                *TINY,
                "--sft",
                str(base / "pairs.jsonl"),
                "--out",
                str(base / "scratch"),
                "--steps",
                "1",
            ]
        )
        == 0
    )
    assert load(base / "scratch", "cpu").shape.context == 48


def test_a_lora_run_is_small_is_merged_when_loaded_and_leaves_its_base_alone(base):
    before = logits(base / "run")
    names = [p.name for p in sorted((base / "lora").glob("checkpoint-*"))]
    assert names == ["checkpoint-4"]
    stored = sum(p.stat().st_size for p in (base / "lora" / "checkpoint-4").glob("ema*"))
    assert stored < 4 * 4 * 2 * (16 + 16) * 1.5 + 2000
    merged = logits(base / "lora")
    assert float((merged - before).abs().max()) > 1e-3 and torch.equal(logits(base / "run"), before)
    torch.testing.assert_close(
        logits(base / "run", adapter=str(base / "lora" / "adapter")), merged, atol=1e-5, rtol=1e-5
    )
    assert tune(base, "run", "lora", "--lora-rank", "2", "--learning-rate", "0.05", "--resume", steps=5) == 0
    assert (base / "lora" / "checkpoint-5").is_dir()


def test_a_lora_run_is_a_base_like_any_other(base):
    before = logits(base / "lora")
    assert (
        tune(base, "lora", "on-lora") == 0
        and tune(base, "lora", "twice", "--lora-rank", "2", "--learning-rate", "0.05") == 0
    )
    for name in ("on-lora", "twice"):
        assert float((logits(base / name) - before).abs().max()) > 1e-3
    assert logits(base / "lora", adapter=str(base / "twice" / "adapter")).shape == before.shape


def test_lora_and_all_weights_of_lladas_folder(base):
    before = logits(base / "llada")
    merged = logits(base / "llada-lora")
    assert float((merged - before).abs().max()) > 0.02
    torch.testing.assert_close(logits(base / "llada", adapter=str(base / "llada-lora" / "adapter")), merged)
    assert told(base / "llada-lora" / "config.json")["forbid_mask"] is False
    assert told(base / "llada-lora" / "adapter" / "adapter_config.json")["base_model_name_or_path"] == str(
        (base / "llada").resolve()
    )
    assert tune(base, "llada", "llada-full", "--bfloat16", "False", steps=2) == 0
    model = load(base / "llada-full", "cpu")
    assert (
        isinstance(model.tokens, LibraryTokens)
        and not model.denoiser.forbid_mask
        and model.shape.context == 64
    )
    assert model.tokens.template == load(base / "llada", "cpu").tokens.template != ""
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_training_goes_on_from_a_checkpoint_on_plain_text(base, capsys):
    flags = ["--checkpoint", str(base / "run"), "--data", str(base / "poem.txt"), "--steps", "1"]
    assert main(["train", "text", *TINY, *flags, "--out", str(base / "more")]) == 0
    assert told(base / "more" / "config.json")["tokens"] > 100
    assert main(["eval", "text", "--checkpoint", str(base / "more"), "--device", "cpu", "--draws", "1"]) == 0
    assert main(["eval", "text", "--checkpoint", str(base / "lora"), "--device", "cpu", "--draws", "1"]) == 2
    assert "none are held out; give --data FILE" in capsys.readouterr().err
    pack = ["weights", "pack", "--run", str(base / "lora"), "--name", "x", "--into", str(base / "zoo")]
    assert main(pack) == 2 and "holds LoRA weights of" in capsys.readouterr().err


@pytest.mark.parametrize("model", ["run", "llada", "llada-lora"])
def test_prompts_are_answered_in_one_batch(base, model, tmp_path, capsys):
    out = tmp_path / "out.json"
    flags = ["--prompt", "a?", "longer", "--length", "8", "--blocks", "4", "--steps", "4", "--device", "cpu"]
    assert (
        main(["chat", "--checkpoint", str(base / model), *flags, "--system", "be", "--json", str(out)]) == 0
    )
    result = told(out)
    assert len(result["texts"]) == 2 and result["metrics"]["nfe"] <= 4 and result["metrics"]["n"] == 2
    shown = capsys.readouterr().out
    assert "> a?" in shown and "> longer" in shown


def test_a_conversation_remembers_and_forgets(base, monkeypatch, capsys):
    lines = iter(["hi", "and?", "x" * 60, "/new", "once more", "", "never read"])
    monkeypatch.setattr("builtins.input", lambda prompt="": next(lines))
    flags = ["--checkpoint", str(base / "run"), "--length", "8", "--blocks", "4", "--device", "cpu"]
    assert main(["chat", *flags]) == 0
    out = capsys.readouterr().out.splitlines()
    assert "(a new chat)" in out and next(lines) == "never read"
    assert any(
        "the model's context is 48; give a shorter prompt" in line for line in out
    )  # and the conversation goes on
    assert any("the context of 48 tokens is full: 2 older messages are dropped" in line for line in out)
    monkeypatch.setattr("builtins.input", lambda prompt="": (_ for _ in ()).throw(EOFError))
    assert main(["chat", *flags]) == 0


def test_the_demo_shows_a_passage_and_a_filled_line_or_says_how_to_train(base, capsys, monkeypatch):
    assert (
        main(
            [
                "demo",
                "text",
                "--checkpoint",
                str(base / "run"),
                "--length",
                "10",
                "--infill",
                "be, [*3] that",
                "--device",
                "cpu",
            ]
        )
        == 0
    )
    captured = capsys.readouterr()
    assert (
        "░" in captured.err
        and "░" not in captured.out
        and "ROMEO:" in captured.out
        and "that" in captured.out
    )
    sample, train = (
        shlex.split(line.split(" text ")[1]) for line in captured.out.splitlines() if " text --" in line
    )
    monkeypatch.chdir(base)
    assert (
        main(["sample", "text", *sample, "--device", "cpu"]) == 0
    )  # as many tokens as the model's context has room for
    train[train.index("FILE.txt")] = "poem.txt"
    assert main(["train", "text", *train, *TINY, "--steps", "1"]) == 0
    capsys.readouterr()
    assert main(["demo", "text", "--infill", "I am the [*1], my lord", "--device", "cpu"]) == 0
    captured = capsys.readouterr()
    assert (
        6 <= captured.err.count("\nROMEO:") <= 8
        and "text-shakespeare" in captured.out
        and ", my lord\n" in captured.out
    )
    assert re.search(r"\n\n[A-Z ]{4,}:\n", captured.out), (
        "as a play is written: an empty line, and who speaks next"
    )
    monkeypatch.setattr("unveil.text.recipes.demo.zoo_names", lambda: ["maze-large"])
    assert main(["demo", "text"]) == 2
    assert "unveil train text" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["train", "--sft", "BAD"], "bad.jsonl, line 2: no text in the field 'response'"),
        (["train", "--sft", "nowhere.jsonl"], "no such file"),
        (
            ["train", "--sft", "BAD", "--response-field", "answer"],
            "line 1: no text in the field 'answer' (it has prompt, response)",
        ),
        (["train", "--lora-rank", "4", "--sft", "BAD"], "--lora-rank needs a --checkpoint"),
        (["train", "--lora-rank", "-1"], "--lora-rank must be a whole number of at least 0"),
        (
            [
                "train",
                "--checkpoint",
                "RUN",
                "--sft",
                "GOOD",
                "--lora-rank",
                "2",
                "--lora-targets",
                "nothing",
            ],
            "no linear map named nothing",
        ),
        (["train", "--checkpoint", "nowhere", "--sft", "GOOD"], "is neither a folder nor a packaged model"),
        (["train", "--checkpoint", "RUN", "--depth", "3"], "--depth 3: the shape is that of"),
        (["train", "--times", "antithetic"], "--times antithetic needs --form t"),
        (["train", "--sft", "GOOD", "--causal"], "instructions are for masked models"),
        (["chat", "--prompt", "x" * 60, "--length", "4"], "the model's context is 48"),
        (["chat", "--length", "0"], "--length must be at least 1"),
        (
            ["chat", "--length", "24", "--blocks", "4", "--steps", "2", "--prompt", "a"],
            "2 steps are fewer than the 6 blocks",
        ),
        (["chat", "--json", "-"], "--json needs --prompt"),
        (["chat", "--adapter", "nowhere", "--prompt", "a"], "no adapter here"),
        (["chat", "--adapter", "OTHER", "--prompt", "a"], "for another model"),
    ],
)
def test_mistakes_are_one_line(base, command, message, capsys, tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"prompt": "a", "response": "b"}\n{"prompt": "a"}\n')
    places = {
        "BAD": tmp_path / "bad.jsonl",
        "GOOD": base / "pairs.jsonl",
        "RUN": base / "run",
        "OTHER": base / "llada-lora" / "adapter",
    }
    verb, *flags = [str(places.get(word, word)) for word in command]
    if verb == "train":
        flags = ["text", *TINY, *flags, "--out", str(tmp_path / "out"), "--data", str(base / "poem.txt")]
    else:
        flags += ["--checkpoint", str(base / "run"), "--device", "cpu"]
    assert main([verb, *flags]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and len([line for line in error.splitlines() if line.startswith("unveil: ")]) == 1


def test_a_lora_run_without_its_base_says_what_is_missing(tmp_path, base, capsys):
    from shutil import copytree

    copytree(base / "run", tmp_path / "gone")
    assert (
        tune(tmp_path, "gone", "lora", "--lora-rank", "1", "--sft", str(base / "pairs.jsonl"), steps=1) == 0
    )
    (tmp_path / "gone").rename(tmp_path / "moved")
    assert main(["sample", "text", "--checkpoint", str(tmp_path / "lora"), "--device", "cpu"]) == 2
    assert "which cannot be loaded: checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no weights", "no adapter_model.safetensors beside adapter_config.json"),
        ("cut", "not the weights that are needed"),
        ("json", "adapter_config.json: an adapter that cannot be used"),
        ("bytes", "adapter_config.json: an adapter that cannot be used"),
        ("nan", "holds numbers that are not finite"),
        ("names", "is no LoRA matrix of a text model"),
        ("target", "an adapter for another model"),
        ("alpha", "lora_alpha must be a number above 0 and at most 1e.06, got nan"),
        ("rank", "for another model: .* is .2, 16., needed is .4, 16."),
    ],
)
def test_damaged_adapters_are_one_line(base, tmp_path, how, message, capsys):
    from shutil import copytree

    from safetensors.torch import load_file, save_file

    folder = copytree(base / "lora" / "adapter", tmp_path / "adapter")
    config, weights = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    tensors, described = load_file(weights), told(config)
    name = sorted(tensors)[0]
    if how == "no weights":
        weights.unlink()
    elif how == "cut":
        weights.write_bytes(weights.read_bytes()[:-3])
    elif how in ("json", "bytes"):
        config.write_bytes(b"{" if how == "json" else b"\xff\xfe")
    elif how == "nan":
        save_file(tensors | {name: tensors[name] * float("nan")}, weights)
    elif how in ("names", "target"):
        other = "x" if how == "names" else name.replace("attn_out", "out_proj")
        save_file({other if key == name else key: value for key, value in tensors.items()}, weights)
    else:
        config.write_text(
            json.dumps(described | ({"r": 4} if how == "rank" else {"lora_alpha": float("nan")}))
        )
    assert (
        main(
            [
                "sample",
                "text",
                "--checkpoint",
                str(base / "run"),
                "--adapter",
                str(folder),
                "--length",
                "4",
                "--device",
                "cpu",
            ]
        )
        == 2
    )
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("unveil: ") and re.search(message, line)
