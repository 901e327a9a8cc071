"""Tiny pipelines of Stable Diffusion's family with random weights, and CompVis' names by the rules of the
reference, which are written down here a second time."""

import os
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from text_vocabularies import clip_vocabulary

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is looked for

from unveil.image.data.tokenizer_files import clip_tokenizer

SIZES = {"1": (32, 64), "2": (64, 128)}
USES = {"text to image": 4, "inpainting": 9, "depth to image": 5, "editing": 8, "x4 upscaler": 7}


def tokenizer():
    return clip_tokenizer(*clip_vocabulary(), {}, 12)


def unet(version: str, use: str = "text to image"):
    from diffusers import UNet2DConditionModel

    options = {}
    if use == "x4 upscaler":
        options = {"num_class_embeds": 20, "only_cross_attention": (True, False), "attention_head_dim": 8}
        options |= {
            "down_block_types": ("CrossAttnDownBlock2D",) * 2,
            "up_block_types": ("CrossAttnUpBlock2D",) * 2,
        }
    return UNet2DConditionModel(
        **{
            "sample_size": 8,
            "in_channels": USES[use],
            "block_out_channels": SIZES["1" if use == "x4 upscaler" else version],
            "layers_per_block": 2,
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
            "cross_attention_dim": 64,
            "attention_head_dim": 8 if version == "1" else [1, 2],
            "use_linear_projection": version == "2",
            **options,
        }
    ).eval()


def vae(use: str = "text to image"):
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(32, 64),
        layers_per_block=2,
        latent_channels=4,
        sample_size=16,
        scaling_factor=0.08333 if use == "x4 upscaler" else 0.18215,
    ).eval()


def text(version: str, width: int = 64):
    from transformers import CLIPTextConfig, CLIPTextModel

    vocabulary, _ = clip_vocabulary()
    config = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=1,
        max_position_embeddings=12,
        hidden_act="quick_gelu" if version == "1" else "gelu",
        bos_token_id=len(vocabulary) - 2,
        eos_token_id=len(vocabulary) - 1,
    )
    return CLIPTextModel(config).eval()


def scheduler(version: str):
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="epsilon" if version == "1" else "v_prediction",
    )


def components(version: str, use: str = "text to image", seed: int = 0) -> dict:
    """The networks, none of whose weights is zero."""
    torch.manual_seed(seed)
    made = {"unet": unet(version, use), "vae": vae(use), "text_encoder": text(version)}
    with torch.no_grad():
        for network in made.values():
            for weight in network.parameters():
                weight.add_(0.05 * torch.randn(weight.shape))
    return made


def save(folder, parts: Mapping, version: str, **options) -> None:
    """A pipeline's folder, by the libraries themselves but for the tokenizer."""
    from unveil.image.data.tokenizer_files import write_clip_tokenizer

    for name, network in parts.items():
        network.save_pretrained(folder / name, **options)
    scheduler(version).save_pretrained(folder / "scheduler")
    write_clip_tokenizer(tokenizer(), folder / "tokenizer")


def compvis_unet(name: str, use: str, blocks: int = 2) -> str:
    """CompVis' name of a parameter of diffusers' U-Net of `unet`: of two levels, of which the second has
    attention in upscalers only."""
    n = blocks + 1

    def at(match: re.Match) -> str:
        way, level, kind, index, rest = match.groups()
        level, index = int(level), int(index)
        if way == "down":
            if kind == "downsamplers":
                return f"input_blocks.{(level + 1) * n}.0.op{rest.removeprefix('.conv')}"
            return f"input_blocks.{level * n + index + 1}.{int(kind == 'attentions')}{rest}"
        if kind == "upsamplers":
            attended = level > 0 or use == "x4 upscaler"  # the coarsest level goes up first
            return f"output_blocks.{level * n + blocks}.{1 + attended}{rest}"
        return f"output_blocks.{level * n + index}.{int(kind == 'attentions')}{rest}"

    name = re.sub(r"^(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)(.*)$", at, name)
    for old, new in (
        ("time_embedding.linear_1", "time_embed.0"),
        ("time_embedding.linear_2", "time_embed.2"),
        ("class_embedding", "label_emb"),
        ("conv_in", "input_blocks.0.0"),
        ("conv_norm_out", "out.0"),
        ("conv_out", "out.2"),
        ("mid_block.resnets.0", "middle_block.0"),
        ("mid_block.attentions.0", "middle_block.1"),
        ("mid_block.resnets.1", "middle_block.2"),
    ):
        name = re.sub(rf"^{re.escape(old)}\.", f"{new}.", name)
    if "transformer_blocks" in name:
        return name
    for old, new in (
        ("norm1", "in_layers.0"),
        ("conv1", "in_layers.2"),
        ("time_emb_proj", "emb_layers.1"),
        ("norm2", "out_layers.0"),
        ("conv2", "out_layers.3"),
        ("conv_shortcut", "skip_connection"),
    ):
        name = name.replace(f".{old}.", f".{new}.")
    return name


def compvis_vae(name: str, value: Tensor, levels: int = 2) -> tuple[str, Tensor]:
    name = re.sub(r"encoder\.down_blocks\.(\d)\.resnets\.(\d)", r"encoder.down.\1.block.\2", name)
    name = re.sub(r"decoder\.up_blocks\.(\d)", lambda m: f"decoder.up.{levels - 1 - int(m[1])}", name)
    name = re.sub(r"encoder\.down_blocks\.(\d)", r"encoder.down.\1", name)
    name = re.sub(r"\.resnets\.(\d)", lambda m: f".block.{m[1]}", name) if "mid_block" not in name else name
    name = name.replace("mid_block.resnets.0", "mid.block_1").replace("mid_block.resnets.1", "mid.block_2")
    for old, new in (
        (".downsamplers.0.", ".downsample."),
        (".upsamplers.0.", ".upsample."),
        ("conv_norm_out", "norm_out"),
        ("conv_shortcut", "nin_shortcut"),
        ("mid_block.attentions.0.group_norm", "mid.attn_1.norm"),
        ("mid_block.attentions.0.to_out.0", "mid.attn_1.proj_out"),
        ("mid_block.attentions.0.to_", "mid.attn_1."),
    ):
        name = name.replace(old, new)
    return name, value[:, :, None, None] if "attn_1" in name and value.ndim == 2 else value


def compvis(parts: Mapping, version: str, use: str = "text to image") -> dict[str, Tensor]:
    """The tensors of a single file, by the inverse of the reference's rules."""
    found = {
        f"model.diffusion_model.{compvis_unet(name, use)}": value
        for name, value in parts["unet"].state_dict().items()
    }
    for name, value in parts["vae"].state_dict().items():
        name, value = compvis_vae(name, value)
        found[f"first_stage_model.{name}"] = value
    tower = {k.removeprefix("text_model."): v for k, v in parts["text_encoder"].state_dict().items()}
    tower = {name: value for name, value in tower.items() if "position_ids" not in name}
    if version == "1":
        found |= {f"cond_stage_model.transformer.text_model.{name}": value for name, value in tower.items()}
        found["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(12)[None]
        return {name: value.detach().clone() for name, value in found.items()}
    clip = {
        "token_embedding.weight": tower["embeddings.token_embedding.weight"],
        "positional_embedding": tower["embeddings.position_embedding.weight"],
        "ln_final.weight": tower["final_layer_norm.weight"],
        "ln_final.bias": tower["final_layer_norm.bias"],
        "text_projection": torch.zeros(64, 64),
        "logit_scale": torch.tensor(1.0),
    }
    for i in range(2):
        theirs, inside = f"transformer.resblocks.{i}", f"encoder.layers.{i}"
        for end in ("weight", "bias"):
            qkv = [tower[f"{inside}.self_attn.{part}_proj.{end}"] for part in "qkv"]
            clip[f"{theirs}.attn.in_proj_{end}"] = torch.cat(qkv)
            for new, old in (
                ("attn.out_proj", "self_attn.out_proj"),
                ("mlp.c_fc", "mlp.fc1"),
                ("mlp.c_proj", "mlp.fc2"),
                ("ln_1", "layer_norm1"),
                ("ln_2", "layer_norm2"),
            ):
                clip[f"{theirs}.{new}.{end}"] = tower[f"{inside}.{old}.{end}"]
    found |= {f"cond_stage_model.model.{name}": value for name, value in clip.items()}
    return {name: value.detach().clone() for name, value in found.items()}
