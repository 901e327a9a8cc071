"""Which files of a repository are downloaded: one set of weights and its configs, whatever else is in it."""

import pytest

from unveil.errors import UnveilError
from unveil.files.hub_layouts import OURS, needed, weights

# the files of stable-diffusion-v1-5 and its like, with every framework, precision and copy that there is
STABLE_DIFFUSION = """.gitattributes README.md model_index.json v1-5-pruned.ckpt v1-5-pruned.safetensors
v1-5-pruned-emaonly.safetensors v1-inference.yaml
feature_extractor/preprocessor_config.json
safety_checker/config.json safety_checker/model.safetensors safety_checker/pytorch_model.bin
scheduler/scheduler_config.json
text_encoder/config.json text_encoder/model.safetensors text_encoder/model.fp16.safetensors
text_encoder/pytorch_model.bin text_encoder/pytorch_model.fp16.bin text_encoder/flax_model.msgpack
text_encoder/tf_model.h5 text_encoder/openvino_model.bin text_encoder/openvino_model.xml text_encoder/model.onnx
tokenizer/merges.txt tokenizer/special_tokens_map.json tokenizer/tokenizer_config.json tokenizer/vocab.json
unet/config.json unet/diffusion_pytorch_model.safetensors unet/diffusion_pytorch_model.fp16.safetensors
unet/diffusion_pytorch_model.non_ema.safetensors unet/diffusion_pytorch_model.bin
unet/diffusion_pytorch_model.non_ema.bin unet/diffusion_flax_model.msgpack
vae/config.json vae/diffusion_pytorch_model.safetensors vae/diffusion_pytorch_model.fp16.safetensors
vae/diffusion_pytorch_model.bin"""
STABLE = STABLE_DIFFUSION.split()
SMALL = {
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "unet/config.json",
    "vae/config.json",
    *(name for name in STABLE if name.startswith("tokenizer/")),
}
NETWORKS = {"text_encoder/model", "unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model"}


def refused(names, variant="", inside="") -> str:
    with pytest.raises(UnveilError) as caught:
        needed(names, variant, inside)
    return str(caught.value)


@pytest.mark.parametrize(
    ("variant", "end"), [("", ".safetensors"), ("fp16", ".fp16.safetensors"), ("bf16", ".safetensors")]
)
def test_of_stable_diffusion_one_file_a_network(variant, end):
    """Of 34 files 13: no other framework, no .bin, no single file, no safety checker; fp16 only when asked."""
    chosen = needed(STABLE, variant)
    assert set(chosen.files) == SMALL | {name + end for name in NETWORKS} and chosen.place == ""
    assert len(chosen.files) == len(set(chosen.files))


def test_precision_comes_before_format_and_bin_where_there_is_nothing_else():
    """Weights that were not asked for in half precision are whole ones, though as .bin."""
    folder = ["model.fp16.safetensors", "pytorch_model.bin", "pytorch_model.fp16.bin"]
    assert weights(folder) == ["pytorch_model.bin"]
    assert weights(folder, "fp16") == ["model.fp16.safetensors"]
    assert weights(["model.fp16.safetensors", "pytorch_model.fp16.bin"]) == ["model.fp16.safetensors"]
    assert weights(["diffusion_pytorch_model.non_ema.bin"]) == []
    assert weights(["diffusion_pytorch_model.non_ema.bin"], "non_ema") == [
        "diffusion_pytorch_model.non_ema.bin"
    ]


def test_shards_come_with_their_index_and_not_with_another_ones():
    plain = [f"model-0000{k}-of-00002.safetensors" for k in (1, 2)]
    half = [f"model.fp16-0000{k}-of-00002.safetensors" for k in (1, 2)]
    late = [f"model-0000{k}-of-00002.bf16.safetensors" for k in (1, 2)]
    index = "model.safetensors.index"
    bins = [
        "pytorch_model-00001-of-00002.bin",
        "pytorch_model-00002-of-00002.bin",
        "pytorch_model.bin.index.json",
    ]
    folder = [*plain, *half, *late, f"{index}.json", f"{index}.fp16.json", f"{index}.bf16.json", *bins]
    assert weights(folder) == [*plain, f"{index}.json"]
    assert weights(folder, "fp16") == [*half, f"{index}.fp16.json"]
    assert weights(folder, "bf16") == [*late, f"{index}.bf16.json"]
    assert weights(bins) == bins
    assert weights([*plain, f"{index}.json", "model.safetensors"]) == ["model.safetensors"]


LLADA = [f"model-0000{k}-of-00002.safetensors" for k in (1, 2)]
LLADA += ["config.json", "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json"]
LEROBOT = ["config.json", "model.safetensors", "policy_preprocessor.json", "policy_postprocessor.json"]
LEROBOT += ["policy_preprocessor_step_3_normalizer_processor.safetensors"]
EXPERIMENT = ["model_config.pkl", "dataset_config.pkl"]


@pytest.mark.parametrize(
    ("wanted", "others"),
    [
        (LLADA, ["modeling_llada.py", "configuration_llada.py", "README.md", "onnx/model.onnx", "trainer_state.json"]),
        (LEROBOT, ["README.md", "training_state/optimizer_state.safetensors", "eval/video.mp4"]),
        (
            [f"checkpoints/0200/pretrained_model/{name}" for name in LEROBOT],
            [f"checkpoints/0100/pretrained_model/{name}" for name in LEROBOT]
            + ["checkpoints/0200/training_state/optimizer_state.safetensors"],
        ),
        (
            [f"hopper-medium-v2/diffusion/H32/{name}" for name in (*EXPERIMENT, "state_200.pt")]
            + [f"hopper-medium-v2/values/H32/{name}" for name in (*EXPERIMENT, "state_90.pt")],
            ["hopper-medium-v2/diffusion/H32/state_100.pt", "hopper-medium-v2/diffusion/H32/args.json"],
        ),
        (["config.json", "manifest.json", "tokenizer.json", "weights.safetensors"], ["README.md", "picture.png"]),
        (
            ["config.json", *(f"checkpoint-20/{n}" for n in ("ema.safetensors", "manifest.json", "state.json"))],
            [f"checkpoint-9/{n}" for n in ("ema.safetensors", "manifest.json")]
            + ["checkpoint-20/optimizer.safetensors", "metrics.jsonl"],
        ),
        (["adapter_config.json", "adapter_model.safetensors"], ["README.md", "tokenizer.model"]),
        (
            ["config.json", "diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json"],
            ["diffusion_pytorch_model.bin", "diffusion_pytorch_model.fp16.safetensors"],
        ),
        (
            [
                "scheduler/scheduler_config.json",
                *(f"checkpoint-20/{part}/config.json" for part in ("unet", "unet_ema")),
                *(f"checkpoint-20/{part}/diffusion_pytorch_model.safetensors" for part in ("unet", "unet_ema")),
            ],
            ["checkpoint-20/optimizer.bin", "checkpoint-20/random_states_0.pkl", "checkpoint-5/unet/config.json"],
        ),
        (["sd-v1-4.ckpt", "sd-v1-4.yaml"], ["README.md", "optimizer.pt", "requirements.txt"]),
        (["checkpoints/latest.ckpt"], ["logs.json.txt", ".hydra/config.yaml"]),
        (["model-10.pt"], ["optimizer.pt", "config.yaml"]),
    ],
)  # fmt: skip
def test_every_layout_without_what_it_does_not_need(wanted, others):
    chosen = needed([*wanted, *others])
    assert sorted(chosen.files) == sorted(wanted)
    inside = needed([f"a/b/{name}" for name in (*wanted, *others)], inside="a/b")
    assert sorted(inside.files) == sorted(f"a/b/{name}" for name in wanted) and inside.place.startswith("a/b")


def test_a_single_file_is_the_checkpoint_itself():
    chosen = needed([*STABLE, "v1-5-pruned.yaml"], inside="v1-5-pruned.safetensors")
    assert chosen.place == "v1-5-pruned.safetensors"
    assert set(chosen.files) == {"v1-5-pruned.safetensors", "v1-5-pruned.yaml"}
    assert needed(["a.ckpt", "a.safetensors"]).place == "a.safetensors"
    both = ["model.fp16.ckpt", "model-v2.ckpt"]
    assert "holds 2 checkpoints" in refused(both) and "ORG/NAME/model" in refused(both)
    assert needed(both, "fp16").place == "model.fp16.ckpt"


def test_what_cannot_be_read_is_said_before_anything_is_downloaded():
    flax = [n for n in STABLE if not n.startswith("unet/") or "flax" in n or n.endswith("config.json")]
    assert "its unet has no weights as .safetensors or .bin" in refused(flax)
    assert "in no layout that unveil reads" in refused(["README.md", "data.parquet"])
    assert "there is no vae/x in it" in refused(STABLE, inside="vae/x")
    assert "it is empty" in refused([])


def test_names_that_leave_the_folder_are_never_asked_for():
    chosen = needed(
        ["config.json", "model.safetensors", "../evil.json", "/etc/a.json", "a\\b.json", "x/../b.json"]
    )
    assert set(chosen.files) == {"config.json", "model.safetensors"} and chosen.layout != OURS
