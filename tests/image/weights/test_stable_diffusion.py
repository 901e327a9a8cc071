"""Stable Diffusion is read from every layout that its files have, equal to diffusers and transformers."""

import json
import shutil

import pytest
import torch
from torch import Tensor

pytest.importorskip("transformers")
pytest.importorskip("unveil.image.networks.clip")
pytest.importorskip("unveil.image.networks.autoencoder")

from safetensors.torch import load_file, save_file

from stable_diffusion_pipelines import components, compvis, save
from unveil.errors import UnveilError
from unveil.image.networks.unet2d import UNet2d, UNet2dShape
from unveil.image.weights.stable_diffusion import (
    find_autoencoder,
    find_stable_diffusion,
    is_stable_diffusion,
    measured_prediction,
    read_latents,
    read_text,
    read_unet,
)
from unveil.image.weights.stable_diffusion_description import described_lines
from unveil.network.condition import Condition

CACHE: dict = {}


def parts_of(version: str, use: str = "text to image") -> dict:
    """Made once; nothing changes them."""
    key = (version, use)
    if key not in CACHE:
        CACHE[key] = components(version, use)
    return CACHE[key]


def computes_the_same(found, parts, tolerance: float = 1e-5, dtype: torch.dtype = torch.float32) -> None:
    """U-Net, autoencoder and text encoder on the same inputs."""
    generator = torch.Generator().manual_seed(3)
    shape = found.described.unet
    x = torch.randn((2, 4 + shape.concat, 8, 8), generator=generator)
    tokens, time = torch.randn((2, 5, 64), generator=generator), torch.tensor([1, 981])
    label = torch.tensor([3, 17]) if shape.labels else None
    cond = Condition(tokens=tokens, concat=x[:, 4:] if shape.concat else None, label=label)
    pixels = torch.randn((1, 3, 16, 16), generator=generator)
    ids = torch.randint(0, 300, (2, 12), generator=generator)
    close = {"rtol": tolerance, "atol": tolerance}
    with torch.no_grad():
        wanted = parts["unet"](x, time, tokens, class_labels=label).sample
        made = read_unet(found, dtype=dtype)(x[:, :4], time.float(), cond)
        torch.testing.assert_close(made, wanted, **close)
        latents = read_latents(found, dtype=dtype)
        code = parts["vae"].encode(pixels).latent_dist.mean
        torch.testing.assert_close(latents.encode(pixels), found.described.scale * code, **close)
        text = read_text(found, dtype=dtype)(ids, torch.ones_like(ids, dtype=torch.bool))
        torch.testing.assert_close(text.tokens, parts["text_encoder"](ids).last_hidden_state, **close)


LAYOUTS = {
    "safetensors": {},
    "pickles": {"safe_serialization": False},
    "variant": {"variant": "fp16"},
    "shards": {"max_shard_size": "300KB"},
    "shards of a variant": {"max_shard_size": "300KB", "variant": "fp16"},
    "shards of pickles": {"max_shard_size": "300KB", "safe_serialization": False},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_folders_in_each_layout_compute_what_diffusers_does(layout, tmp_path):
    parts = parts_of("1")
    save(tmp_path, parts, "1", **LAYOUTS[layout])
    if "shards" in layout:
        assert len(list((tmp_path / "unet").glob("*-of-*"))) > 2
    if layout == "shards of a variant":
        assert (tmp_path / "unet" / "diffusion_pytorch_model.safetensors.index.fp16.json").is_file()
    found = find_stable_diffusion(tmp_path)
    assert is_stable_diffusion(tmp_path) and found.described.use == "text to image"
    computes_the_same(found, parts)


def test_shards_in_the_older_spelling(tmp_path):
    """NAME-00001-of-00007.fp16.EXT and NAME.EXT.fp16.index.json."""
    parts = parts_of("1")
    save(tmp_path, parts, "1", max_shard_size="300KB", variant="fp16")
    place, stem = tmp_path / "unet", "diffusion_pytorch_model"
    index = json.loads((place / f"{stem}.safetensors.index.fp16.json").read_text())
    index["weight_map"] = {
        name: file.replace(".fp16", "").replace(".safetensors", ".fp16.safetensors")
        for name, file in index["weight_map"].items()
    }
    for file in list(place.glob("*-of-*")):
        file.rename(place / file.name.replace(".fp16", "").replace(".safetensors", ".fp16.safetensors"))
    (place / f"{stem}.safetensors.index.fp16.json").unlink()
    (place / f"{stem}.safetensors.fp16.index.json").write_text(json.dumps(index))
    computes_the_same(find_stable_diffusion(tmp_path, variant="fp16"), parts)
    with pytest.raises(UnveilError, match=r"no weights here; needed is diffusion_pytorch_model\.safetensors"):
        find_stable_diffusion(tmp_path, variant="")
    next(iter(place.glob("*00002-of*"))).unlink()
    with pytest.raises(UnveilError, match=r"1 of \d+ shards are missing \(diffusion_pytorch_model-00002"):
        find_stable_diffusion(tmp_path)


@pytest.mark.parametrize("prefix", ["", "text_model."])
def test_older_names_of_the_autoencoder_and_both_of_clip(prefix, tmp_path):
    """query, key, value and proj_attn, here as 1 x 1 convolutions."""
    parts = parts_of("1")
    save(tmp_path, parts, "1")
    file, older = tmp_path / "vae" / "diffusion_pytorch_model.safetensors", {}
    pairs = ((".to_q.", ".query."), (".to_k.", ".key."), (".to_v.", ".value."), (".to_out.0.", ".proj_attn."))
    for name, value in load_file(file).items():
        matrix = ".attentions." in name and value.ndim == 2
        for new, old in pairs:
            name = name.replace(new, old)
        older[name] = value[:, :, None, None].contiguous() if matrix else value
    assert sum(".proj_attn." in name for name in older) == 4
    save_file(older, file)
    file = tmp_path / "text_encoder" / "model.safetensors"
    tensors = {f"{prefix}{k.removeprefix('text_model.')}": v for k, v in load_file(file).items()}
    save_file(tensors | {f"{prefix}embeddings.position_ids": torch.arange(12)[None]}, file)
    computes_the_same(find_stable_diffusion(tmp_path), parts)


@pytest.mark.parametrize(
    ("version", "use"),
    [
        ("1", "inpainting"),
        ("1", "editing"),
        ("2", "text to image"),
        ("2", "depth to image"),
        ("2", "x4 upscaler"),
    ],
)
def test_each_use_from_a_folder_and_from_a_file(version, use, tmp_path):
    """The file has CompVis' names by the reference's rules, and is described as the folder is."""
    parts = parts_of(version, use)
    save(tmp_path / "folder", parts, version)
    save_file(compvis(parts, version, use), tmp_path / "model.safetensors")
    folder = find_stable_diffusion(tmp_path / "folder")
    meaning = folder.described.predicts
    file = find_stable_diffusion(tmp_path / "model.safetensors", predicts=meaning)
    for found in (folder, file):
        assert found.described.version == int(version) and found.described.use == use
        computes_the_same(found, parts)
    assert meaning == ("eps" if version == "1" else "v")
    one, other = folder.described, file.described
    assert one.autoencoder == other.autoencoder and one.text.quick == other.text.quick == (version == "1")
    assert one.unet.context == other.unet.context and one.unet.concat == other.unet.concat
    assert one.unet.text_only == other.unet.text_only == ((0,) if use == "x4 upscaler" else ())
    assert other.scale == (0.08333 if use == "x4 upscaler" else 0.18215)


def averages(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The averaged weights of a checkpoint, which are the raw ones plus 1."""
    start = "model.diffusion_model"
    return {
        "model_ema." + name.removeprefix("model.").replace(".", ""): value + 1.0
        for name, value in tensors.items()
        if name.startswith(start)
    } | {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(7, dtype=torch.int32)}


class Callback:
    """Stands for pytorch_lightning's class, by which checkpoints name their callbacks."""


Callback.__module__, Callback.__qualname__ = "pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint"


def test_checkpoints_are_read_as_data_and_averages_by_choice(tmp_path, monkeypatch):
    """With the Lightning state, numpy scalars and schedule tables that training leaves in them."""
    import sys
    import types

    import numpy as np

    module = types.ModuleType(Callback.__module__)
    module.ModelCheckpoint = Callback
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, Callback.__module__, module)
    tensors = compvis(parts_of("1"), "1")
    state = tensors | averages(tensors) | {"betas": torch.linspace(0.1, 0.2, 10)}
    tree = {
        "state_dict": state,
        "global_step": 470_000,
        "epoch": 3,
        "callbacks": {Callback: {"best_model_score": np.float64(0.5), "best": None}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []}],
    }
    file = tmp_path / "model.ckpt"
    torch.save(tree, file)
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks", Callback.__module__):
        monkeypatch.delitem(sys.modules, name)
    assert is_stable_diffusion(file)
    raw = find_stable_diffusion(file, averaged=False)
    computes_the_same(raw, parts_of("1"))
    assert len(raw.described.betas) == 10 and "raw ones are read" in raw.weights
    mean = find_stable_diffusion(file)
    one, other = read_unet(mean).state_dict(), read_unet(raw).state_dict()
    assert all(torch.equal(value, other[name] + 1.0) for name, value in one.items())
    assert "averaged ones are read" in mean.weights and "Lightning" not in str(mean)


@pytest.mark.parametrize("layout", ["folder", "compvis", "compvis in a model", "diffusers", "pickle"])
def test_an_autoencoder_alone(layout, tmp_path):
    vae = parts_of("1")["vae"]
    path, tensors = tmp_path / "vae.safetensors", compvis(parts_of("1"), "1")
    alone = {
        name.removeprefix("first_stage_model."): value
        for name, value in tensors.items()
        if name.startswith("first_stage_model.")
    }
    if layout == "folder":
        path = tmp_path / "vae"
        vae.save_pretrained(path)
    elif layout == "pickle":
        path = tmp_path / "vae.ckpt"
        torch.save({"state_dict": alone | {"loss.logvar": torch.zeros(1)}, "epoch": 1}, path)
    else:
        save_file({"compvis": alone, "diffusers": vae.state_dict()}.get(layout, tensors), path)
    assert is_stable_diffusion(path)
    latents = read_latents(find_autoencoder(path))
    x = torch.randn((1, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        code = latents.encode(x)
        torch.testing.assert_close(code, 0.18215 * vae.encode(x).latent_dist.mean, rtol=1e-5, atol=1e-5)
        image = vae.decode(code / 0.18215).sample.clamp(-1.0, 1.0)
        torch.testing.assert_close(latents.decode(code), image, rtol=1e-5, atol=1e-5)


def test_precision_is_an_argument_and_files_are_mapped(tmp_path):
    save(tmp_path, parts_of("1"), "1")
    found = find_stable_diffusion(tmp_path)
    for dtype in (torch.float16, torch.bfloat16):
        network = read_unet(found, dtype=dtype)
        assert {p.dtype for p in network.parameters()} == {dtype}
    exact = read_unet(found)
    assert not any(p.requires_grad for p in exact.parameters())
    x, cond = torch.zeros(1, 4, 8, 8), Condition(tokens=torch.ones(1, 3, 64))
    half = read_unet(found, dtype=torch.bfloat16)
    out = half(x.bfloat16(), torch.ones(1).bfloat16(), Condition(tokens=torch.ones(1, 3, 64).bfloat16()))
    torch.testing.assert_close(out.float(), exact(x, torch.ones(1), cond), rtol=0.1, atol=0.1)
    file = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors["conv_in.bias"][0] = torch.nan
    save_file(tensors, file)
    with pytest.raises(UnveilError, match=r"conv_in\.bias holds numbers that are not finite"):
        read_unet(find_stable_diffusion(tmp_path))
    tensors["conv_in.bias"][0] = 70_000.0
    save_file(tensors, file)
    assert read_unet(find_stable_diffusion(tmp_path)).enter.bias[0] == 70_000.0
    with pytest.raises(UnveilError, match=r"conv_in\.bias holds numbers beyond 65,504.* bfloat16 or float32"):
        read_unet(find_stable_diffusion(tmp_path), dtype=torch.float16)


def test_a_yaml_beside_the_file_is_read(tmp_path):
    save_file(compvis(parts_of("2"), "2"), tmp_path / "model.safetensors")
    assert find_stable_diffusion(tmp_path / "model.safetensors").described.predicts == "v"
    (tmp_path / "model.yaml").write_text("model:\n  target: ldm.models.diffusion.ddpm.LatentDiffusion\n")
    it = find_stable_diffusion(tmp_path / "model.safetensors").described
    assert (it.predicts, it.reason, it.size) == ("eps", "the .yaml beside the file", 512)


def test_what_a_network_predicts_is_measured_at_the_last_time():
    """A network that gives its input back says eps; one that gives nothing of it, v."""
    shape = UNet2dShape(4, 8, (1,), 1, (0,), groups=4, context=6, cross="transformer")

    class Echo(UNet2d):
        factor = 1.0

        def forward(self, x, time, cond=None):
            assert float(time) == 999.0 and cond is not None and not cond.tokens.any()
            return self.factor * x + 0.1 * x.flip(-1)

    network = Echo(shape)
    assert measured_prediction(network)[0] == "eps" and measured_prediction(network)[1] > 0.9
    network.factor = 0.0
    assert measured_prediction(network)[0] == "v"


def test_descriptions_name_what_people_ask_for(tmp_path):
    save_file(compvis(parts_of("1", "inpainting"), "1"), tmp_path / "model.safetensors")
    lines = dict(described_lines(find_stable_diffusion(tmp_path / "model.safetensors")))
    assert lines["release"] == "Stable Diffusion 1.x, inpainting" and lines["files"] == "single file, F32"
    assert "9 input channels, 8 heads" in lines["U-Net"] and "predicts eps (version 1)" in lines["diffusion"]
    count = sum(p.numel() for p in parts_of("1", "inpainting")["unet"].parameters())
    assert lines["U-Net"].startswith(f"{count:,} parameters")


FULL = {  # parameters and shapes of the published models
    "1": (859_520_964, {"heads": 8, "context": 768}, {}),
    "1, inpainting": (859_535_364, {"heads": 8, "context": 768, "concat": 5}, {}),
    "2": (865_910_724, {"head_width": 64, "context": 1024, "linear_projection": True}, {"quick": False}),
}


@pytest.mark.parametrize("name", FULL)
def test_a_full_size_file_is_described_by_its_header_alone(name, tmp_path):
    """686 + 248 + 196 tensors, or 290 of OpenCLIP, whose last block is not counted; the file has no contents."""
    import struct

    from unveil.image.networks.autoencoder import KL_F8, Autoencoder
    from unveil.image.networks.clip import STABLE_DIFFUSION_1, STABLE_DIFFUSION_2, ClipText
    from unveil.image.weights.clip import clip_tensors
    from unveil.image.weights.stable_diffusion_autoencoder import compvis_names as vae_names
    from unveil.image.weights.stable_diffusion_unet import compvis_names as unet_names

    count, options, text_options = FULL[name]
    shape = UNet2dShape(
        4, 320, (1, 2, 4, 4), 2, (0, 1, 2), cross="transformer", cosine_first=True, inclusive=False,
        norm_epsilon=1e-5, time_width=320, **options,
    )  # fmt: skip
    with torch.device("meta"):
        unet, vae = UNet2d(shape).state_dict(), Autoencoder(KL_F8).state_dict()
        text = ClipText(STABLE_DIFFUSION_1)
    names, vae_table = unet_names(shape), vae_names(KL_F8)
    shapes = {f"model.diffusion_model.{names[k]}": v.shape for k, v in unet.items()}
    shapes |= {f"first_stage_model.{vae_table[k]}": v.shape for k, v in vae.items()}
    if text_options:
        shapes |= {f"cond_stage_model.model.{k}": v for k, v in open_clip(1024, 24).items()}
    else:
        shapes |= {f"cond_stage_model.transformer.{k}": v.shape for k, v in clip_tensors(text).items()}
    header, at = {}, 0
    for key, size in shapes.items():
        length = 2 * torch.Size(size).numel()
        header[key] = {"dtype": "F16", "shape": list(size), "data_offsets": [at, at + length]}
        at += length
    data = json.dumps(header).encode()
    with open(tmp_path / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(data)) + data)
        file.truncate(8 + len(data) + at)  # sparse: nothing is stored
    found = find_stable_diffusion(tmp_path / "model.safetensors")
    assert found.described.unet == shape and found.described.autoencoder == KL_F8
    wanted = STABLE_DIFFUSION_2 if text_options else STABLE_DIFFUSION_1
    assert found.described.text == wanted and len(found.unet) == 686 and len(found.autoencoder) == 248
    lines = dict(described_lines(found))
    assert lines["U-Net"].startswith(f"{count:,} param") and lines["autoencoder"].startswith(
        "83,653,863 param"
    )
    if name == "1":
        assert lines["text"].startswith("123,060,480 parameters, CLIP") and len(found.text.stored) == 196


def open_clip(width: int, blocks: int) -> dict[str, tuple[int, ...]]:
    """Shapes of OpenCLIP's text tower."""
    found: dict[str, tuple[int, ...]] = {
        "token_embedding.weight": (49_408, width),
        "positional_embedding": (77, width),
        "ln_final.weight": (width,),
        "ln_final.bias": (width,),
        "text_projection": (width, width),
        "logit_scale": (),
    }
    block = {
        "attn.in_proj_weight": (3 * width, width),
        "attn.in_proj_bias": (3 * width,),
        "attn.out_proj.weight": (width, width),
        "attn.out_proj.bias": (width,),
        "mlp.c_fc.weight": (4 * width, width),
        "mlp.c_fc.bias": (4 * width,),
        "mlp.c_proj.weight": (width, 4 * width),
        "mlp.c_proj.bias": (width,),
    } | {f"ln_{k}.{end}": (width,) for k in (1, 2) for end in ("weight", "bias")}
    for i in range(blocks):
        found |= {f"transformer.resblocks.{i}.{name}": size for name, size in block.items()}
    return found


def broken(tmp_path, change):
    save(tmp_path, parts_of("1"), "1")
    change(tmp_path)
    return lambda: find_stable_diffusion(tmp_path)


def configured(part: str, **fields):
    def change(folder):
        file = folder / part / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | fields))

    return change


def truncated(folder):
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def lacking(folder):
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    del tensors["conv_out.bias"]
    save_file(tensors, file)


def other_text(folder):
    from stable_diffusion_pipelines import text

    text("2", 128).save_pretrained(folder / "text_encoder")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (truncated, r"truncated, [\d,]+ bytes of [\d,]+; download it again"),
        (lacking, r"1 tensors are missing \['conv_out.bias'\]"),
        (lambda folder: shutil.rmtree(folder / "vae"), r"without vae/config\.json"),
        (other_text, "reads text of width 64, its text encoder makes 128.* different models"),
        (configured("unet", addition_embed_type="text_time"), "Stable Diffusion XL; versions 1 and 2"),
        (configured("unet", time_cond_proj_dim=256), "time_cond_proj_dim is 256; None can be read"),
        (configured("unet", _class_name="UNet2DModel"), "UNet2DModel; UNet2DConditionModel can be read"),
        (configured("unet", attention_head_dim=[3, 5]), "neither one number nor heads of one width"),
        (configured("vae", _class_name="VQModel"), "VQModel; AutoencoderKL can be read"),
        (configured("vae", shift_factor=0.1), "shift_factor"),
        (configured("unet", layers_per_block=10**6), "layers_per_block must be a whole number in 1 .. 64"),
        (configured("unet", in_channels=6), "needed is \\(32, 6, 3, 3\\)"),
    ],
)
def test_bad_folders_get_one_line(change, message, tmp_path):
    with pytest.raises(UnveilError, match=message) as error:
        broken(tmp_path, change)()
    assert "\n" not in str(error.value)


def test_bad_files_get_one_line(tmp_path):
    tensors, file = compvis(parts_of("1"), "1"), tmp_path / "model.safetensors"
    for kept, message in (
        ({k: v for k, v in tensors.items() if "cond_stage" not in k}, "no text encoder"),
        ({k: v for k, v in tensors.items() if "first_stage" not in k}, "no autoencoder"),
        (
            {k: v for k, v in tensors.items() if not k.endswith("middle_block.2.in_layers.0.bias")},
            "1 tensors are missing",
        ),
        (tensors | {"conditioner.embedders.0.x": torch.ones(1)}, "Stable Diffusion XL"),
        ({"something": torch.ones(1)}, "no model of Stable Diffusion"),
    ):
        save_file(kept, file)
        with pytest.raises(UnveilError, match=message):
            find_stable_diffusion(file)
    save_file(tensors, file)
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(UnveilError, match="truncated"):
        find_stable_diffusion(file)

    class Evil:
        def __reduce__(self):
            return print, ("run",)

    torch.save({"state_dict": tensors, "x": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(UnveilError, match="no code in it was run"):
        find_stable_diffusion(tmp_path / "evil.ckpt")
