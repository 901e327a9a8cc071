"""LoRA files of kohya, diffusers and PEFT: what is read has the effect that diffusers and peft give it, and
what is written they load."""

import copy
import functools
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from unveil.errors import UnveilError
from unveil.image.weights.lora import LoraWeights, is_lora, placed, read_lora
from unveil.image.weights.lora_files import write_diffusers, write_kohya
from unveil.image.weights.lora_names import BaseLayers, Part, flattened, modules
from unveil.network.lora import LowRank, attach, combined, remove_lora

diffusers = pytest.importorskip("diffusers")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
LINEAR = (*ATTENTION, "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out")
CONVOLUTIONS = ("conv1", "conv2", "time_emb_proj", "conv_shortcut", "samplers.0.conv")
TEXT = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


def unet() -> nn.Module:
    """A tiny U-Net with every kind of layer that Stable Diffusion's have."""
    return copy.deepcopy(_networks()[0])


def text_encoder() -> nn.Module:
    """A tiny text encoder."""
    return copy.deepcopy(_networks()[1])


@functools.cache
def _networks() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    network = diffusers.UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=12,
        attention_head_dim=2,
        norm_num_groups=4,
        sample_size=8,
    )
    config = transformers.CLIPTextConfig(
        vocab_size=50,
        hidden_size=12,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16,
        bos_token_id=48,
        eos_token_id=49,
        pad_token_id=49,
    )
    return network, transformers.CLIPTextModel(config).eval()


def paths(network: nn.Module, before: str = "") -> dict[str, str]:
    """All layers that can be adapted; the text encoder's names, which lost their beginning in transformers
    5.6, get it back."""
    return {
        (name if name.startswith(before) else before + name): name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }


@functools.cache
def layers() -> BaseLayers:
    return BaseLayers(paths(unet()), paths(text_encoder(), "text_model."))


def random_updates(
    network: nn.Module, wanted: tuple[str, ...], before: str = "", rank: int = 2
) -> dict[str, LowRank]:
    """An update of each layer whose name ends in one of the words; ranks and alphas differ by kind."""
    generator = torch.Generator().manual_seed(3)

    def numbers(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * 0.3

    found: dict[str, LowRank] = {}
    for name, ours in paths(network, before).items():
        if name.endswith(wanted):
            outputs, *inputs = network.get_submodule(ours).weight.shape
            r = rank + 1 if inputs[1:] == [3, 3] else rank
            up = numbers(outputs, r, *(1 for _ in inputs[1:]))
            found[name] = LowRank(numbers(r, *inputs), up, 1.0 if inputs[1:] else 3.0)
    return found


def unet_output(network: nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    x, tokens = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 5, 12, generator=generator)
    with torch.no_grad():
        return network(x, torch.tensor([3, 700]), tokens).sample


def text_output(network: nn.Module) -> Tensor:
    with torch.no_grad():
        return network(torch.tensor([[48, 3, 7, 49]])).last_hidden_state


def adapted(lora: LoraWeights) -> tuple[Tensor, Tensor]:
    """The outputs of both networks with a LoRA, by our code."""
    nets: dict[Part, nn.Module] = {"unet": unet(), "text_encoder": text_encoder()}
    for part, network in nets.items():
        attach(network, placed(lora, part, layers(), network))
    return unet_output(nets["unet"]), text_output(nets["text_encoder"])


def by_diffusers(file: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Tensor, Tensor]:
    """The outputs of both networks after diffusers loaded the file."""
    import transformers.integrations.peft as integration

    monkeypatch.setattr(integration, "check_peft_version", lambda **_: None)  # it demands a newer one
    pipeline = diffusers.StableDiffusionPipeline(
        None, text_encoder(), None, unet(), diffusers.DDIMScheduler(), None, None, None, False
    )
    pipeline.load_lora_weights(str(file.parent), weight_name=file.name)
    return unet_output(pipeline.unet), text_output(pipeline.text_encoder)


def close(actual: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(actual, wanted, atol=1e-5, rtol=1e-5)


def same(actual: Mapping[str, LowRank], wanted: Mapping[str, LowRank]) -> None:
    assert actual.keys() == wanted.keys()
    for name, update in wanted.items():
        assert torch.equal(actual[name].down, update.down) and torch.equal(actual[name].up, update.up), name
        assert actual[name].alpha == update.alpha


@functools.cache
def whole() -> LoraWeights:
    return LoraWeights(
        random_updates(unet(), LINEAR + CONVOLUTIONS), random_updates(text_encoder(), TEXT, "text_model.")
    )


def test_a_lora_changes_both_networks_and_leaves_no_trace():
    before = unet_output(unet()), text_output(text_encoder())
    after = adapted(whole())
    assert all((a - b).abs().max() > 1e-2 for a, b in zip(after, before, strict=True))
    network = unet()
    attach(network, combined([(placed(whole(), "unet", layers(), network), 0.7)]))
    remove_lora(network)
    assert torch.equal(unet_output(network), before[0])


def test_our_files_have_the_same_effect_in_diffusers(tmp_path, monkeypatch):
    wanted = adapted(whole())
    for actual, right in zip(
        by_diffusers(write_diffusers(tmp_path, whole()), monkeypatch), wanted, strict=True
    ):
        close(actual, right)
    write_kohya(tmp_path / "kohya.safetensors", whole())
    actual = by_diffusers(tmp_path / "kohya.safetensors", monkeypatch)
    close(actual[0], wanted[0])
    # of transformers >= 5.6 diffusers 0.42 drops the attention of the text encoder, so that one without it
    part = LoraWeights(whole().unet, random_updates(text_encoder(), ("fc1", "fc2"), "text_model."))
    write_kohya(tmp_path / "fc.safetensors", part)
    close(by_diffusers(tmp_path / "fc.safetensors", monkeypatch)[1], adapted(part)[1])


def test_our_files_are_read_back(tmp_path):
    write_kohya(tmp_path / "kohya.safetensors", whole(), {"ss_num_epochs": "3"})
    back = read_lora(tmp_path / "kohya.safetensors", layers())
    same(back.unet, whole().unet)
    same(back.text_encoder, whole().text_encoder)
    assert back.layout == "kohya" and back.metadata["ss_num_epochs"] == "3"
    back = read_lora(write_diffusers(tmp_path, whole()).parent, layers())
    assert back.layout == "diffusers"
    for name, update in whole().unet.items():
        torch.testing.assert_close(back.unet[name].delta(), update.delta(), atol=1e-6, rtol=1e-6)
        assert back.unet[name].alpha == update.rank


def test_kohyas_names_shapes_and_metadata(tmp_path):
    file = tmp_path / "a.safetensors"
    write_kohya(file, LoraWeights(random_updates(unet(), ("attn2.to_k", "conv1"))), dtype=torch.float16)
    tensors = load_file(file)
    start = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    assert (tensors[f"{start}.lora_down.weight"].shape, tensors[f"{start}.lora_up.weight"].shape) == (
        (2, 12),
        (8, 2),
    )
    assert tensors[f"{start}.alpha"].shape == () and tensors[f"{start}.alpha"].item() == 3.0
    assert tensors["lora_unet_mid_block_resnets_1_conv1.lora_down.weight"].shape == (3, 16, 3, 3)
    assert tensors[f"{start}.lora_up.weight"].dtype == torch.float16
    with safe_open(file, "pt") as handle:
        said = handle.metadata()
    assert (said["ss_network_module"], said["ss_network_dim"], said["ss_network_alpha"]) == (
        "networks.lora",
        "2",
        "3.0",
    )
    assert json.loads(said["ss_network_args"]) == {"conv_dim": "3", "conv_alpha": "1.0"}


def test_the_change_of_kohyas_files_by_hand(tmp_path):
    """kohya's `merge`: W + scale * up down, and conv(down^T, up)^T of a 3 x 3 convolution."""
    write_kohya(tmp_path / "a.safetensors", whole())
    tensors, network = load_file(tmp_path / "a.safetensors"), unet()
    for name in [
        name.removesuffix(".alpha") for name in tensors if name.endswith(".alpha") and "_unet_" in name
    ]:
        down, up = tensors[f"{name}.lora_down.weight"], tensors[f"{name}.lora_up.weight"]
        scale = tensors[f"{name}.alpha"].item() / down.shape[0]
        path = next(path for path in paths(unet()) if name == "lora_unet_" + path.replace(".", "_"))
        if down.ndim == 4:
            change = nn.functional.conv2d(down.permute(1, 0, 2, 3), up).permute(1, 0, 2, 3)
        else:
            change = up @ down
        network.get_submodule(path).weight.data += scale * change
    close(adapted(read_lora(tmp_path / "a.safetensors", layers()))[0], unet_output(network))


def test_one_by_one_convolutions_may_be_matrices(tmp_path):
    write_kohya(tmp_path / "a.safetensors", LoraWeights(random_updates(unet(), ("proj_in", "conv_shortcut"))))
    wanted = adapted(read_lora(tmp_path / "a.safetensors", layers()))
    flat = {
        name: v[:, :, 0, 0] if v.ndim == 4 else v for name, v in load_file(tmp_path / "a.safetensors").items()
    }
    save_file(flat, tmp_path / "b.safetensors")
    close(adapted(read_lora(tmp_path / "b.safetensors", layers()))[0], wanted[0])


def test_files_with_the_names_of_compvis(tmp_path):
    compvis = {
        "input_blocks.1.1.transformer_blocks.0.attn1.to_q": "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
        "input_blocks.2.0.op": "down_blocks.0.downsamplers.0.conv",
    }
    chosen = {path: update for path, update in whole().unet.items() if path in compvis.values()}
    tensors: dict[str, Tensor] = {}
    for theirs, path in compvis.items():
        name = "lora_unet_" + theirs.replace(".", "_")
        tensors |= {f"{name}.lora_down.weight": chosen[path].down, f"{name}.lora_up.weight": chosen[path].up}
        tensors[f"{name}.alpha"] = torch.tensor(chosen[path].alpha)
    save_file(tensors, tmp_path / "a.safetensors")
    both = BaseLayers(layers().unet, compvis=compvis)
    back = read_lora(tmp_path / "a.safetensors", both)
    same(back.unet, chosen)
    assert back.layout == "kohya"


@pytest.mark.parametrize("start", ["unet.", ""])
def test_old_files_of_diffusers(start, tmp_path):
    """`attn1.processor.to_q_lora.down.weight`, and `self_attn.to_q_lora` of the text encoder; no alpha."""
    part = LoraWeights(
        random_updates(unet(), ATTENTION), random_updates(text_encoder(), TEXT[:4], "text_model.")
    )
    tensors: dict[str, Tensor] = {}
    for path, update in part.unet.items():
        name = start + path.replace(".to_out.0", ".to_out").replace(".to_", ".processor.to_")
        tensors |= {f"{name}_lora.down.weight": update.down, f"{name}_lora.up.weight": update.up}
    if start:
        for path, update in part.text_encoder.items():
            old = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}
            before, _, last = path.rpartition(".")
            name = f"text_encoder.{before}.{old[last]}"
            tensors |= {f"{name}_lora.down.weight": update.down, f"{name}_lora.up.weight": update.up}
    assert (
        start
        or "down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora.up.weight" in tensors
    )
    torch.save(tensors, tmp_path / "pytorch_lora_weights.bin")
    back = read_lora(tmp_path, layers())
    assert back.layout == "diffusers"
    for found, wanted in ((back.unet, part.unet), (back.text_encoder, part.text_encoder if start else {})):
        same(found, {path: LowRank(u.down, u.up, float(u.rank)) for path, u in wanted.items()})


def test_current_files_of_diffusers_with_their_alpha_by_pattern(tmp_path, monkeypatch):
    """`save_lora_weights` mixes two forms of names in one file, and has alpha in its metadata alone."""
    import transformers.integrations.peft as integration
    from diffusers.training_utils import _collate_lora_metadata
    from diffusers.utils import convert_state_dict_to_diffusers

    monkeypatch.setattr(integration, "check_peft_version", lambda **_: None)
    theirs, text = unet(), text_encoder()
    theirs.add_adapter(
        peft.LoraConfig(
            r=2,
            lora_alpha=4,
            target_modules=["to_q", "conv1", "proj_in"],
            rank_pattern={"to_q": 3},
            alpha_pattern={"conv1": 8, "attn2.to_q": 5},
            init_lora_weights=False,
        )
    )
    text.add_adapter(
        peft.LoraConfig(
            r=2, lora_alpha=4, target_modules=["q_proj", "fc1"], use_rslora=True, init_lora_weights=False
        )
    )
    state = {name: peft.utils.get_peft_model_state_dict(n) for name, n in (("unet", theirs), ("text", text))}
    diffusers.StableDiffusionPipeline.save_lora_weights(
        tmp_path,
        convert_state_dict_to_diffusers(state["unet"]),
        convert_state_dict_to_diffusers(state["text"]),
        **_collate_lora_metadata({"unet": theirs, "text_encoder": text}),
    )
    assert {".lora.down.", ".lora_A.", ".lora_linear_layer.down."} == {
        form
        for form in (".lora.down.", ".lora_A.", ".lora_linear_layer.down.")
        for name in load_file(tmp_path / "pytorch_lora_weights.safetensors")
        if form in name
    }
    ours = adapted(read_lora(tmp_path, layers()))
    close(ours[0], unet_output(theirs))
    close(ours[1], text_output(text))
    theirs.save_lora_adapter(tmp_path / "alone")
    close(adapted(read_lora(tmp_path / "alone", layers()))[0], unet_output(theirs))


@pytest.mark.parametrize("safe", [True, False])
def test_folders_of_peft(safe, tmp_path):
    config = peft.LoraConfig(
        r=2,
        lora_alpha=3,
        target_modules=["to_k", "conv2", "conv_shortcut"],
        rank_pattern={"conv_shortcut": 3},
        alpha_pattern={"attn1.to_k": 7, "conv2": 1},
        use_rslora=True,
        init_lora_weights=False,
    )
    theirs = peft.get_peft_model(unet(), config)
    theirs.save_pretrained(tmp_path, safe_serialization=safe)
    back = read_lora(tmp_path, layers())
    assert back.layout == "peft" and not back.text_encoder and is_lora(tmp_path)
    close(adapted(back)[0], unet_output(theirs))
    assert (adapted(back)[0] - unet_output(unet())).abs().max() > 1e-2


def test_the_names_of_stable_diffusion():
    """Of SD 1.5 kohya adapts 192 modules, 86 more by LoCon, under 278 names; rank 4 has 1,695,744 numbers."""
    with torch.device("meta"):
        network = diffusers.UNet2DConditionModel(cross_attention_dim=768)
    assert sum(weight.numel() for weight in network.parameters()) == 859_520_964
    inside = [
        path for path in paths(network) if "attentions" in path or "resnets" in path or "samplers" in path
    ]
    plain = [path for path in inside if "attentions" in path]
    assert (len(plain), len(inside)) == (192, 278)
    assert len(flattened(inside, "lora_unet_")) == 278 and flattened(inside[:1], "")
    sizes = [network.get_submodule(path).weight.shape for path in plain]
    assert sum(4 * (shape[0] + shape[1]) for shape in sizes) == 1_695_744
    with pytest.raises(ValueError, match=r"a_b.c and a.b_c have one name in kohya's files: x_a_b_c"):
        flattened(["a.b_c", "a_b.c"], "x_")
    assert modules({"down.0.weight": "down_blocks.0.weight", "down.0.bias": "down_blocks.0.bias"}) == {
        "down_blocks.0": "down.0"
    }


UP = {"lora_unet_mid_block_resnets_0_conv1.lora_up.weight": torch.ones(16, 1, 1, 1)}
DOWN = {"lora_unet_mid_block_resnets_0_conv1.lora_down.weight": torch.ones(1, 16, 3, 3)}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            {"lora_unet_x.hada_w1_a": torch.ones(1)},
            "it is a LoHa, which is not supported; plain LoRA and LoCon are",
        ),
        ({"lora_unet_x.lokr_w1": torch.ones(1)}, "it is a LoKr"),
        (DOWN | UP | {"lora_unet_x.dora_scale": torch.ones(1)}, "it is a DoRA"),
        ({"unet.x.lora_magnitude_vector": torch.ones(1)}, "it is a DoRA"),
        ({"lora_unet_x.lora_mid.weight": torch.ones(1)}, r"it is a LoCon in Tucker form \(lora_mid\)"),
        ({"lora_unet_x.diff": torch.ones(1)}, "it is full differences of weights"),
        ({"a.b": torch.ones(1)}, "a.b is no tensor of a LoRA file"),
        (DOWN, "damaged: mid_block.resnets.0.conv1 has only one of its two matrices"),
        (
            DOWN | {next(iter(UP)): torch.ones(16, 2, 1, 1)},
            "damaged: mid_block.resnets.0.conv1: LowRank: down .* do not belong",
        ),
        (
            DOWN | UP | {"lora_unet_mid_block_resnets_0_conv1.alpha": torch.ones(2)},
            "alpha of .* is no number",
        ),
        (
            DOWN | UP | {"mid_block.resnets.0.conv1.lora_B.weight": torch.ones(16, 1)},
            "mid_block.resnets.0.conv1 is in it twice",
        ),
        (DOWN | {next(iter(UP)): torch.full((16, 1, 1, 1), float("nan"))}, "numbers that are not finite"),
        (
            {"lora_te2_x.lora_down.weight": torch.ones(1, 1)},
            "LoRA for another base: it is for Stable Diffusion XL",
        ),
        (
            {"lora_unet_down_blocks_1_transformer_blocks_1_attn2_to_k.lora_down.weight": torch.ones(1, 2048)},
            "it is for Stable Diffusion XL",
        ),
        ({"transformer.x.lora_A.weight": torch.ones(1, 1)}, "it is for a diffusion transformer"),
        ({"unet.a.lora_A.weight": torch.ones(1, 1)}, "it adapts unet.a, which the model does not have"),
        ({"text_encoder.a.lora_A.weight": torch.ones(1, 1)}, "it adapts text_encoder.a, which"),
        ({next(iter(UP)): torch.ones(1, 1, dtype=torch.float8_e4m3fn)}, "has only one of its two matrices"),
        ({next(iter(UP)): torch.ones(1, 1, dtype=torch.complex64)}, "or no numbers"),
        ({}, "there is nothing in it"),
    ],
)
def test_what_is_no_lora_of_the_base_is_refused_in_one_line(tensors, message, tmp_path):
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(UnveilError, match=message) as caught:
        read_lora(tmp_path / "a.safetensors", layers())
    assert str(tmp_path / "a.safetensors") in str(caught.value) and "\n" not in str(caught.value)


def test_a_lora_for_another_base_is_refused(tmp_path):
    write_kohya(tmp_path / "a.safetensors", LoraWeights(random_updates(unet(), ("attn2.to_k",))))
    lora = read_lora(tmp_path / "a.safetensors", layers())
    assert lora.context == 12
    with pytest.raises(
        UnveilError,
        match=r"it is for a model whose text tokens are 12 wide, the model is Stable Diffusion 1.x",
    ):
        placed(lora, "unet", layers(), unet(), context=768)
    wide = LoraWeights({next(iter(lora.unet)): LowRank(torch.ones(1, 9), torch.ones(8, 1), 1.0)})
    with pytest.raises(
        UnveilError, match=r"LoRA for another base: .*attn2.to_k is \(8, 9\), its layer \(8, 12\)"
    ):
        placed(wide, "unet", layers(), unet())
    with pytest.raises(UnveilError, match=r"LoRA for another base: it adapts down_blocks.*, which"):
        placed(wide, "unet", BaseLayers({}), unet())
    for version, context in (("sd_v1", 768), ("sd_v2_v", 1024), ("sdxl_base_v1-0", 2048), ("x", 0)):
        assert LoraWeights({}, metadata={"ss_base_model_version": version}).context == context


def test_damaged_files_are_one_line(tmp_path):
    file = tmp_path / "a.safetensors"
    write_kohya(file, LoraWeights(random_updates(unet(), ("attn2.to_k",))))
    data = file.read_bytes()
    for broken in (b"", data[:100], data[:-10], b"PK\x03\x04" + data, data.replace(b"F32", b"F99")):
        file.write_bytes(broken)
        with pytest.raises(UnveilError, match=r"a\.safetensors"):
            read_lora(file, layers())
        file.with_suffix(".pt").write_bytes(broken)
        with pytest.raises(UnveilError, match=r"a\.pt"):
            read_lora(file.with_suffix(".pt"), layers())
    with pytest.raises(UnveilError, match=r"no LoRA here; needed is pytorch_lora_weights.safetensors or"):
        read_lora(tmp_path, layers())
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 1, "lora_alpha": 1}')
    with pytest.raises(UnveilError, match=r"needed is adapter_model.safetensors or adapter_model.bin"):
        read_lora(tmp_path, layers())
    for metadata in ("{", "[]", '{"peft_type": "LOHA"}', "[" * 100_000):
        save_file(DOWN | UP, file, {"lora_adapter_metadata": metadata})
        with pytest.raises(UnveilError, match=r"a LoRA that cannot be used: (its metadata|its peft_type)"):
            read_lora(file, layers())
