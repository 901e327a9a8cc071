"""Tiny models of unCLIP with random weights, in the layout of Karlo in diffusers."""

import os
from pathlib import Path
from typing import Any

import torch

from text_vocabularies import clip_vocabulary

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is looked for

from unveil.image.data.tokenizer_files import clip_tokenizer, write_clip_tokenizer

WIDTH, LENGTH, CONTEXT = 32, 12, 24


def drawn(module: Any, seed: int) -> Any:
    """The module with random weights, also where they start at zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.15 * torch.randn(parameter.shape, generator=generator) + (parameter == 1.0))
    return module.eval()


def prior():
    from diffusers import PriorTransformer

    options: dict[str, Any] = {
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "num_layers": 2,
        "embedding_dim": WIDTH,
    }
    return drawn(PriorTransformer(**options, num_embeddings=LENGTH), 1)


def decoder():
    from diffusers import UNet2DConditionModel

    return drawn(
        UNet2DConditionModel(
            sample_size=16,
            in_channels=3,
            out_channels=6,
            layers_per_block=1,
            block_out_channels=(32, 64),
            down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
            up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
            mid_block_type="UNetMidBlock2DSimpleCrossAttn",
            cross_attention_dim=CONTEXT,
            attention_head_dim=8,
            resnet_time_scale_shift="scale_shift",
            class_embed_type="identity",
        ),
        2,
    )


def projection():
    from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel

    return drawn(
        UnCLIPTextProjModel(clip_embeddings_dim=WIDTH, time_embed_dim=128, cross_attention_dim=CONTEXT), 3
    )


def upsampler(seed: int):
    from diffusers import UNet2DModel

    return drawn(
        UNet2DModel(
            sample_size=32,
            in_channels=6,
            out_channels=3,
            layers_per_block=1,
            block_out_channels=(32, 64),
            down_block_types=("ResnetDownsampleBlock2D",) * 2,
            up_block_types=("ResnetUpsampleBlock2D",) * 2,
            resnet_time_scale_shift="scale_shift",
            add_attention=False,
        ),
        seed,
    )


def text():
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    vocabulary, _ = clip_vocabulary()
    config = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        projection_dim=WIDTH,
        bos_token_id=len(vocabulary) - 2,
        eos_token_id=len(vocabulary) - 1,
    )
    return drawn(CLIPTextModelWithProjection(config), 4)


def write_karlo(folder: Path) -> Path:
    """Write all components into a folder."""
    from diffusers import UnCLIPScheduler

    parts = {"prior": prior(), "decoder": decoder(), "text_proj": projection(), "text_encoder": text()}
    parts |= {"super_res_first": upsampler(5), "super_res_last": upsampler(6)}
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    schedulers: dict[str, dict[str, Any]] = {
        "prior": {"prediction_type": "sample", "clip_sample_range": 5.0},
        "decoder": {"variance_type": "learned_range"},
        "super_res": {},
    }
    for name, options in schedulers.items():
        UnCLIPScheduler(num_train_timesteps=1000, **options).save_pretrained(folder / f"{name}_scheduler")
    write_clip_tokenizer(clip_tokenizer(*clip_vocabulary(), {}, LENGTH), folder / "tokenizer")
    return folder
