"""LLaDA's folders: logits and samples equal to the published ones, memory-mapped shards, and what is refused
in one line."""

import json
import re
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import unveil
from lladas import plain_logits, published_generate, save_llada, write_shards
from tolerance import golden_close
from unveil.cli import main
from unveil.errors import UnveilError
from unveil.process.denoised import MaskedDenoised
from unveil.process.schedule import Flow
from unveil.sampling.masked import ConfidentUnmask
from unveil.text.data.tokens import LibraryTokens, read_tokens, write_tokens
from unveil.text.generation import TextSettings, in_double, prompt_canvas, write


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[Path, dict[str, np.ndarray]]:
    folder = tmp_path_factory.mktemp("llada") / "LLaDA-tiny"
    return folder, save_llada(folder)


@pytest.fixture(scope="module")
def model(saved):
    return unveil.load(saved[0], "cpu", dtype="float32")


def test_logits_are_the_published_forwards(saved, model):
    """A flipped rotation, a gate for its partner or heads grouped otherwise move them by far more than
    rounding."""
    ids = torch.randint(0, 286, (3, 40), generator=torch.Generator().manual_seed(1))
    ours = model.denoiser(ids, torch.ones(3)).logits
    wanted = plain_logits(saved[1], ids.numpy())
    assert float(np.abs(wanted).max()) > 2.0
    golden_close(ours.detach().numpy(), wanted)


@pytest.mark.parametrize(
    "changes", [{"n_kv_heads": 4}, {"n_kv_heads": 1}, {"rope_theta": 10.0}, {"weight_tying": True}]
)
def test_other_sizes_are_read_from_config(changes, tmp_path):
    tensors = save_llada(tmp_path, shards=1, **changes)
    if changes.get("n_kv_heads") == 1:  # the older key says the same
        config = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(
            json.dumps(config | {"n_kv_heads": None, "multi_query_attention": True})
        )
    if changes.get("weight_tying"):  # the head is the embedding, and not in the file
        head, norm, file = (
            "model.transformer.ff_out.weight",
            "model.transformer.ln_f.weight",
            tmp_path / "model.safetensors",
        )
        stored = {
            name: value / 32 if name == norm else value
            for name, value in load_file(file).items()
            if name != head
        }
        save_file(stored, file)
        tensors |= {head: tensors["model.transformer.wte.weight"], norm: tensors[norm] / 32}
    ids = torch.arange(24)[None]
    ours = unveil.load(tmp_path, "cpu", dtype="float32").denoiser(ids, torch.ones(1)).logits.detach().numpy()
    golden_close(ours, plain_logits(tensors, ids.numpy(), changes.get("rope_theta", 500000.0)))


PROMPTS = ["the other and the one", "so on"]
SETTINGS = [
    {"steps": 16, "length": 16, "block": 16},
    {"steps": 6, "length": 16, "block": 16},  # 3, 3, 3, 3, 2, 2 tokens a step
    {"steps": 8, "length": 16, "block": 4},
    {"steps": 12, "length": 24, "block": 8, "cfg_scale": 1.5},
    {"steps": 16, "length": 16, "block": 16, "cfg_scale": 0.5},
    {"steps": 8, "length": 16, "block": 8, "remasking": "random"},
    {"steps": 5, "length": 15, "block": 15, "remasking": "random", "cfg_scale": 2.0},
    {"steps": 32, "length": 16, "block": 16},  # steps that commit nothing
    {"steps": 8, "length": 16, "block": 8, "temperature": 0.7},
    {"steps": 4, "length": 8, "block": 8, "temperature": 1.3, "remasking": "random"},
]


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("how", SETTINGS, ids=lambda how: "-".join(f"{k}{v}" for k, v in how.items()))
def test_generate_writes_the_published_samplers_tokens(saved, model, prompt, how):
    tokens = model.tokens
    ids = tokens.encode(prompt)
    wanted = published_generate(saved[1], ids, tokens.mask_id, **how)
    settings = TextSettings(
        length=how["length"],
        steps=how["steps"],
        block=how["block"],
        order="random" if how.get("remasking") == "random" else "confidence",
        temperature=how.get("temperature", 0.0),
        scale=how.get("cfg_scale", 0.0) + 1.0,
        stop=False,
    )
    generator = torch.Generator().manual_seed(0)
    assert (
        write(model, prompt_canvas([ids], how["length"], tokens), settings, generator).ids[0].tolist()
        == wanted
    )
    assert tokens.mask_id not in wanted[len(ids) :] and len(set(wanted[len(ids) :])) > 3


def test_sure_tokens_keep_their_order_in_float64():
    """Four tokens whose probabilities are all 1 in float32, the later the surer: the published order is from
    the right."""
    mask, logits = 3, torch.zeros(1, 4, 4)
    logits[0, :, 1] = torch.tensor([20.0, 22.0, 24.0, 26.0])
    x = torch.full((1, 4), mask)
    assert bool((logits.softmax(-1)[..., 1] == 1.0).all())

    def denoise(x_t: torch.Tensor, t: torch.Tensor) -> MaskedDenoised:
        return MaskedDenoised(logits)

    for belief, wanted in ((in_double(denoise), [3, 3, 1, 1]), (denoise, [1, 1, 3, 3])):
        half = ConfidentUnmask(Flow(), mask, forbid_mask=False).step(
            belief, x, torch.tensor(1.0), torch.tensor(0.5), None, None
        )[0]
        assert half[0].tolist() == wanted


def test_mask_has_a_probability_as_published(model):
    """SUBS would make it -inf: confidences, and so the order, would be others."""
    assert not model.denoiser.forbid_mask
    logits = model.denoiser(torch.tensor([[5, model.tokens.mask_id]]), torch.ones(1)).logits.detach()
    assert bool(logits.isfinite().all()) and float(logits.softmax(-1)[0, 1, model.tokens.mask_id]) > 1e-4


def test_bfloat16_is_the_mapped_file_itself(tmp_path):
    """No parameter is in memory of its own: each lies in a mapping of a shard."""
    tensors = save_llada(tmp_path / "bf16", torch.bfloat16, shards=3)
    model = unveil.load(tmp_path / "bf16", "cpu")
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    ids = torch.arange(30)[None]
    wanted = plain_logits(tensors, ids.numpy())
    ours = model.denoiser(ids, torch.ones(1)).logits.float().detach().numpy()
    assert np.abs(ours - wanted).mean() < 0.05 * wanted.std()
    maps = Path("/proc/self/maps")
    if maps.exists():
        spans = [line.split() for line in maps.read_text().splitlines() if str(tmp_path) in line]
        ranges = [tuple(int(n, 16) for n in span[0].split("-")) for span in spans]
        assert len({span[-1] for span in spans}) == 3
        assert all(any(low <= p.data_ptr() < high for low, high in ranges) for p in model.parameters())


def test_the_tokenizer_is_read_and_special_tokens_never_come_out_of_text(saved, model, tmp_path):
    tokens = model.tokens
    assert (tokens.size, tokens.special("<|mdm_mask|>")) == (320, tokens.mask_id)
    assert tokens.decode(tokens.encode("the one, and <|endoftext|>")) == "the one, and <|endoftext|>"
    assert tokens.eos_id not in tokens.encode("<|endoftext|>") and tokens.decode([tokens.eos_id, 319]) == ""
    write_tokens(tokens, tmp_path / "tokenizer.json")
    assert read_tokens(tmp_path / "tokenizer.json") == tokens


def test_inspect_says_what_it_is(saved, capsys):
    assert main(["weights", "inspect", str(saved[0])]) == 0
    out = capsys.readouterr().out
    count = sum(value.size for value in saved[1].values())
    for words in (
        f"{count:,} parameters",
        "2 blocks, width 32, 4 heads (2 of keys), SwiGLU 72, RoPE 500000",
        "F32",
        "in 2 files",
    ):
        assert words in out
    assert "320, [MASK]" in out and "LLaDA's template" in out and "unveil.load(DIR)" in out


def test_convert_says_that_the_folder_is_read_as_it_is(saved, tmp_path, capsys):
    assert main(["weights", "convert", str(saved[0]), str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert (
        line.endswith(f"use the folder itself: unveil sample text --checkpoint {saved[0]}")
        and not (tmp_path / "out").exists()
    )


def test_sample_and_eval_take_the_folder(saved, tmp_path, capsys):
    folder, out = str(saved[0]), tmp_path / "out.json"
    flags = [
        "--prompt",
        "the one",
        "--length",
        "8",
        "--blocks",
        "4",
        "--order",
        "confidence",
        "--steps",
        "4",
        "--temperature",
        "0",
    ]
    assert (
        main(["sample", "text", "--checkpoint", folder, "--device", "cpu", *flags, "--json", str(out)]) == 0
    )
    assert json.loads(out.read_text())["texts"][0].startswith("the one")
    (tmp_path / "poem.txt").write_text("the one and the other " * 9)
    assert (
        main(
            [
                "eval",
                "text",
                "--checkpoint",
                folder,
                "--device",
                "cpu",
                "--draws",
                "1",
                "--data",
                str(tmp_path / "poem.txt"),
            ]
        )
        == 0
    )
    assert main(["eval", "text", "--checkpoint", folder, "--device", "cpu"]) == 2
    assert "give --data FILE" in capsys.readouterr().err


def broken(folder: Path, how: str) -> None:
    """Break a good folder in one way."""
    shard, index = folder / "model-00002-of-00002.safetensors", folder / "model.safetensors.index.json"
    config = json.loads((folder / "config.json").read_text())
    places = json.loads(index.read_text())
    if how == "missing shard":
        shard.unlink()
    elif how == "truncated":
        shard.write_bytes(shard.read_bytes()[:-1])
    elif how == "truncated header":
        shard.write_bytes(shard.read_bytes()[:40])
    elif how == "empty":
        shard.write_bytes(b"")
    elif how == "no weights":
        for file in folder.glob("model*"):
            file.unlink()
    elif how == "outside":
        places["weight_map"]["model.transformer.wte.weight"] = "../wte.safetensors"
    elif how == "index":
        places["weight_map"]["model.transformer.blocks.0.q_proj.weight"] = "model-00001-of-00002.safetensors"
        places["weight_map"]["model.transformer.blocks.0.k_proj.weight"] = "model-00001-of-00002.safetensors"
    elif how == "integers":
        write_shards(folder, {"model.transformer.wte.weight": torch.zeros(3, 2, dtype=torch.int64)}, 2)
        return
    elif how == "other tensors":
        config["n_layers"] = 3
    elif how == "shape":
        config["mlp_hidden_size"] = 64
    elif how == "vocabulary":
        (folder / "tokenizer.json").write_text(
            (folder / "tokenizer.json").read_text().replace('"id":282', '"id":400')
        )
        config["mask_token_id"] = 310
    elif how == "no tokenizer":
        (folder / "tokenizer.json").unlink()
    elif how == "tokenizer":
        (folder / "tokenizer.json").write_text("{}")
    elif how == "mixture":
        config["model_type"] = "llada2_moe"
    elif how == "norm":
        config["layer_norm_type"] = "default"
    elif how == "no mask":
        del config["mask_token_id"]
    elif how == "config":
        (folder / "config.json").write_text('{"model_type": "llada", "d_model": ')
        return
    elif how == "theta":
        config["rope_theta"] = float("inf")
    elif how == "template":
        (folder / "chat_template.jinja").write_bytes(b"\xff")
    elif how in ("twice", "overlap", "negative", "words"):
        header = json.loads(shard.read_bytes()[8:].split(b"}}")[0] + b"}}")
        first, second = sorted(
            (name for name in header if name != "__metadata__"), key=lambda name: header[name]["data_offsets"]
        )[:2]
        text = json.dumps(header)
        if how == "twice":
            text = text[:-1] + f', "{first}": {json.dumps(header[first])}' + "}"
        elif how == "overlap":
            header[second]["data_offsets"] = header[first]["data_offsets"]
            header[second]["shape"] = header[first]["shape"]
        elif how == "negative":
            header[first]["shape"] = [-1, *header[first]["shape"]]
        else:
            header[first] = "words"
        raw = (text if how == "twice" else json.dumps(header)).encode()
        body = shard.read_bytes()
        size = int.from_bytes(body[:8], "little")
        shard.write_bytes(len(raw).to_bytes(8, "little") + raw + body[8 + size :])
    elif how == "too long a header":
        shard.write_bytes((2**40).to_bytes(8, "little") + b"{}")
    elif how == "a folder":
        shard.unlink()
        shard.mkdir()
    elif how == "in both":
        one, other = folder / "model-00001-of-00002.safetensors", load_file(shard)
        save_file(load_file(one) | dict(list(other.items())[:1]), one)
    elif how == "not in the index":
        save_file(load_file(shard) | {"model.transformer.more": torch.zeros(2)}, shard)
    elif how in ("index words", "index list", "index twice"):
        twice = index.read_text().replace(
            '"weight_map": {', '"weight_map": {"model.transformer.wte.weight": "a.safetensors", '
        )
        index.write_text({"index words": "no JSON", "index list": "[1]", "index twice": twice}[how])
        return
    (folder / "config.json").write_text(json.dumps(config))
    if index.exists():
        index.write_text(json.dumps(places))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing shard", r"1 of 2 shards are missing \(model-00002-of-00002.safetensors\)"),
        (
            "truncated",
            r"model-00002-of-00002.safetensors: truncated, [\d,]+ bytes of [\d,]+; download it again",
        ),
        ("truncated header", r"truncated or damaged: its header is longer than the file"),
        ("empty", "truncated or damaged"),
        ("no weights", r"no weights here; needed is model.safetensors"),
        ("outside", r"names '../wte.safetensors'"),
        ("index", r"which model.safetensors.index.json says is in it"),
        ("integers", "kind I64; F32, F16, BF16 can be read"),
        ("other tensors", r"9 tensors are missing \['blocks.2"),
        (
            "shape",
            r"ff_out.weight has shape \(32, 72\), but config.json says \(32, 64\)|ff_proj.weight has shape \(72, 32\)",
        ),
        ("vocabulary", "lacks the ids 310"),
        ("no tokenizer", "tokenizer.json: cannot be read"),
        ("tokenizer", "tokenizer.json: not a tokenizer.json"),
        ("mixture", "it is of type 'llada2_moe'; 'llada' is known"),
        ("norm", "layer_norm_type is default, ours is rms"),
        ("no mask", "no mask_token_id that makes sense"),
        ("config", "config.json: damaged"),
        ("theta", "rope_theta must be a finite number above 0, got inf"),
        ("template", "chat_template.jinja: cannot be read"),
        (
            "twice",
            "model-00002-of-00002.safetensors: truncated or damaged: a name occurs twice: model.transformer",
        ),
        ("overlap", "tensors overlap or leave gaps: .*ff_out.weight"),
        ("negative", "truncated or damaged: -1 is no size"),
        ("words", "truncated or damaged"),
        ("too long a header", "its header is too long"),
        ("a folder", "1 of 2 shards are missing"),
        ("in both", "is in it and in another shard, too"),
        (
            "not in the index",
            "it holds model.transformer.more, of which model.safetensors.index.json says nothing",
        ),
        ("index words", "index.json: damaged"),
        ("index list", "index.json: damaged"),
        ("index twice", "index.json: damaged: a name occurs twice: model.transformer.wte.weight"),
    ],
)
def test_broken_folders_are_refused_in_one_line(saved, tmp_path, how, message, capsys):
    copytree(saved[0], tmp_path / "copy")
    broken(tmp_path / "copy", how)
    with pytest.raises(UnveilError, match=message):
        unveil.load(tmp_path / "copy", "cpu")
    assert main(["sample", "text", "--checkpoint", str(tmp_path / "copy"), "--device", "cpu"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("unveil: ") and re.search(message, line)
    assert main(["weights", "inspect", str(tmp_path / "copy")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("unveil: ") and re.search(message, line)


def test_a_tokenizer_of_more_tokens_than_the_weights_is_refused(saved, model):
    with pytest.raises(UnveilError, match=r"286 tokens, but the weights are of 284: there are fewer"):
        LibraryTokens(model.tokens.text, 284, model.tokens.mask_id, model.tokens.eos_id)
    with pytest.raises(TypeError, match="steps"):
        unveil.load(saved[0], "cpu", steps=3)
