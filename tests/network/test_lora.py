"""LoRA: nothing changes at first, the formula, merging and unmerging, gradients, and PEFT's layout both
ways."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from unveil.errors import UnveilError
from unveil.network.lora import LoRA, adapted, add_lora, merge_lora, strip_lora, unmerge_lora
from unveil.text.networks.transformer import LanguageTransformer
from unveil.text.weights.peft import fitting, read_adapter, write_adapter

X = torch.tensor([[1, 5, 9, 2]])


def network(seed: int = 0) -> LanguageTransformer:
    torch.manual_seed(seed)
    net = LanguageTransformer(12, width=16, depth=2, heads=2)
    for weight in net.parameters():
        if weight.ndim == 2:
            weight.data = torch.randn_like(weight) * 0.3
    return net


def changed(net: LanguageTransformer, seed: int = 1) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _, module in adapted(net):
        module.lora_B.weight.data = torch.randn(module.lora_B.weight.shape, generator=generator) * 0.1


def test_nothing_changes_at_first_and_only_the_matrices_learn():
    net = network()
    before = net(X).detach()
    parts = add_lora(net, LoRA(3, 6.0, ("q_proj", "ff_out")))
    assert torch.equal(net(X), before)
    net(X).square().sum().backward()
    learning = {name for name, weight in net.named_parameters() if weight.requires_grad}
    assert learning == {
        f"blocks.{i}.{m}.lora_{ab}.weight" for i in range(2) for m in ("q_proj", "ff_out") for ab in "AB"
    }
    assert {
        name: tuple(value.shape) for name, value in parts.state_dict().items() if ".0.ff_out" in name
    } == {"blocks.0.ff_out.lora_A.weight": (3, 64), "blocks.0.ff_out.lora_B.weight": (16, 3)}
    assert all(weight.grad is not None for weight in parts.parameters()) and net.wte.weight.grad is None


def test_the_formula_and_merging_are_one_and_unmerging_is_exact():
    net = network()
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    add_lora(net, LoRA(2, 5.0))
    changed(net)
    out = net(X)
    by_hand = network()
    for name, module in adapted(net):
        change = 2.5 * module.lora_B.weight.data @ module.lora_A.weight.data
        by_hand.get_submodule(name).weight.data += change
    torch.testing.assert_close(out, by_hand(X), atol=1e-6, rtol=1e-6)
    assert not torch.allclose(out, network()(X), atol=1e-2)
    merge_lora(net)
    merge_lora(net)  # once is enough
    torch.testing.assert_close(net(X), out, atol=1e-6, rtol=1e-6)
    unmerge_lora(net)
    assert torch.equal(net(X), out)
    for name, module in adapted(net):
        assert torch.equal(module.base.weight, weights[f"{name}.weight"])
    merge_lora(net)
    strip_lora(net)
    assert set(net.state_dict()) == set(weights)
    torch.testing.assert_close(net(X), out, atol=1e-6, rtol=1e-6)


def test_bfloat16_bases_take_float32_matrices():
    net = network().to(torch.bfloat16)
    add_lora(net, LoRA(2, 4.0))
    changed(net)
    out = net(X)
    assert out.dtype == torch.bfloat16 and {m.lora_A.weight.dtype for _, m in adapted(net)} == {torch.float32}
    merge_lora(net)
    torch.testing.assert_close(net(X).float(), out.float(), atol=0.1, rtol=0.1)
    unmerge_lora(net)
    assert torch.equal(net(X), out)


def test_pefts_layout_is_written_and_read(tmp_path):
    """Names and shapes as PEFT has them for LLaDA's own class: `base_model.model.` before the module's path,
    A (r, in), B (out, r)."""
    net, other = network(), network()
    parts = add_lora(net, LoRA(2, 6.0, ("v_proj", "ff_out")))
    changed(net)
    write_adapter(tmp_path, LoRA(2, 6.0, ("v_proj", "ff_out")), parts.state_dict(), "GSAI-ML/LLaDA-8B-Base")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"], config["bias"]) == (
        "LORA",
        2,
        6.0,
        "none",
    )
    import re

    for name, hit in (
        ("model.transformer.blocks.11.ff_out", True),
        ("model.transformer.ff_out", False),
    ):  # PEFT: a full match
        assert bool(re.fullmatch(config["target_modules"], name)) is hit
    file = load_file(tmp_path / "adapter_model.safetensors")
    assert (
        file["base_model.model.model.transformer.blocks.1.v_proj.lora_B.weight"].shape == (16, 2)
        and len(file) == 8
    )
    lora, tensors = read_adapter(tmp_path)
    assert lora == LoRA(2, 6.0, ("ff_out", "v_proj"))
    again = add_lora(other, lora)
    again.load_state_dict(fitting(tmp_path, tensors, again.state_dict()))
    torch.testing.assert_close(other(X), net(X), atol=0, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_dora": True}, "use_dora is True; False is known"),
        ({"bias": "all"}, "bias is all; none is known"),
        ({"rank_pattern": {"x": 2}}, "other ranks for some maps"),
        ({"r": 0}, "r must be a whole number in 1 .. 10000, got 0"),
        ({"peft_type": "IA3"}, "peft_type is not LORA"),
    ],
)
def test_other_adapters_are_refused(change, message, tmp_path):
    lora = LoRA(2, 4.0)
    write_adapter(tmp_path, lora, add_lora(network(), lora).state_dict(), "base")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | change))
    with pytest.raises(UnveilError, match=message):
        read_adapter(tmp_path)


def test_adapters_of_other_models_are_refused(tmp_path):
    lora = LoRA(2, 4.0)
    write_adapter(tmp_path, lora, add_lora(network(), lora).state_dict(), "base")
    torch.manual_seed(0)
    for depth, width, message in (
        (3, 16, "blocks.2.attn_out.lora_A.weight is missing"),
        (2, 32, "for another model: blocks"),
    ):
        wanted = add_lora(LanguageTransformer(12, width=width, depth=depth, heads=2), lora).state_dict()
        with pytest.raises(UnveilError, match=message):
            fitting(tmp_path, read_adapter(tmp_path)[1], wanted)
    save_file({"lm_head.lora_A.weight": torch.zeros(2, 2)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(UnveilError, match="no LoRA matrix of a text model"):
        read_adapter(tmp_path)
    with pytest.raises(UnveilError, match="no adapter here"):
        read_adapter(tmp_path / "nowhere")


def test_impossible_adaptations_are_refused():
    net = network()
    with pytest.raises(ValueError, match="no linear map named out_proj"):
        add_lora(net, LoRA(2, 4.0, ("q_proj", "out_proj")))
    add_lora(net, LoRA())
    with pytest.raises(ValueError, match="adapted already"):
        add_lora(net, LoRA())
    for rank, alpha, targets in ((0, 1.0, ("a",)), (1, 0.0, ("a",)), (1, 1.0, ())):
        with pytest.raises(ValueError, match=r"LoRA: (rank|alpha|targets) must be"):
            LoRA(rank, alpha, targets)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"rank": rank} for rank in (0, -1, 1.5, True, "8")),
        *({"alpha": alpha} for alpha in (0.0, -1.0, float("nan"), float("inf"), "16", True)),
        *({"targets": targets} for targets in ((), "q_proj", (1,), ("",))),
    ],
    ids=str,
)
def test_every_setting_is_checked(wrong):
    how = object.__new__(LoRA)  # without the tests' own check of types
    vars(how).update({"rank": 8, "alpha": 16.0, "targets": ("q_proj",)} | wrong)
    with pytest.raises(ValueError, match=f"LoRA: {next(iter(wrong))} must be"):
        how.__post_init__()
