"""A tiny random model in LLaDA's published layout, its forward pass written again in NumPy, and the published
sampler on top of it."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL = [
    "<|startoftext|>",
    "<|endoftext|>",
    "<|mdm_mask|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
]
TEMPLATE = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + "
    "'<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}"
    "{% endif %}{{ content }}{% endfor %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
)
CONFIG = {  # as LLaDA-8B's config.json, but for the sizes
    "activation_type": "silu",
    "alibi": False,
    "alibi_bias_max": 8.0,
    "architectures": ["LLaDAModelLM"],
    "attention_dropout": 0.0,
    "attention_layer_norm": False,
    "attention_layer_norm_with_affine": True,
    "auto_map": {"AutoModel": "modeling_llada.LLaDAModelLM"},
    "bias_for_layer_norm": False,
    "block_group_size": 1,
    "block_type": "llama",
    "d_model": 32,
    "embedding_size": 320,
    "flash_attention": False,
    "include_bias": False,
    "include_qkv_bias": False,
    "init_device": "meta",
    "input_emb_norm": False,
    "layer_norm_type": "rms",
    "max_sequence_length": 64,
    "mlp_hidden_size": 72,
    "mlp_ratio": 4,
    "model_type": "llada",
    "multi_query_attention": None,
    "n_heads": 4,
    "n_kv_heads": 2,
    "n_layers": 2,
    "precision": "amp_bf16",
    "rms_norm_eps": 1e-05,
    "rope": True,
    "rope_full_precision": True,
    "rope_theta": 500000.0,
    "scale_logits": False,
    "vocab_size": 320,
    "weight_tying": False,
}


def tiny_tokenizer() -> Tokenizer:
    """Byte-level pairs, 6 special tokens last, as LLaDA's are."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=290, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(["user and assistant, the one and the other, and so on"] * 8, trainer)
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def save_llada(
    folder: Path, dtype: torch.dtype = torch.float32, shards: int = 2, **changes
) -> dict[str, np.ndarray]:
    """Write a random model of that layout; returns its tensors, in float64, by their published names."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tiny_tokenizer()
    ids = {
        "mask_token_id": tokenizer.token_to_id(SPECIAL[2]),
        "eos_token_id": tokenizer.token_to_id(SPECIAL[1]),
    }
    config = {**CONFIG, **ids, "pad_token_id": ids["eos_token_id"], **changes}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(tokenizer.to_str())
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": SPECIAL[0], "chat_template": TEMPLATE})
    )
    width, hidden, vocabulary = config["d_model"], config["mlp_hidden_size"], config["embedding_size"]
    keys = width // config["n_heads"] * config["n_kv_heads"]
    generator = torch.Generator().manual_seed(3)

    def random(*shape: int) -> torch.Tensor:
        scale = shape[1] ** -0.5 if len(shape) == 2 else 0.1
        return torch.randn(shape, generator=generator) * scale + (len(shape) == 1)

    tensors = {"wte": random(vocabulary, width) * width**0.5, "ln_f": random(width)}
    tensors["wte"][ids["mask_token_id"]] *= 0.05  # so that what a mask becomes depends on where it is
    tensors["ff_out"] = random(vocabulary, width)
    tensors["ff_out"][ids["mask_token_id"]] = (
        0.0  # a probability, though never the best: as trained weights have it
    )
    for i in range(config["n_layers"]):
        shapes = {
            "q_proj": (width, width),
            "k_proj": (keys, width),
            "v_proj": (keys, width),
            "attn_out": (width, width),
            "ff_proj": (hidden, width),
            "up_proj": (hidden, width),
            "ff_out": (width, hidden),
            "attn_norm": (width,),
            "ff_norm": (width,),
        }
        tensors |= {
            f"blocks.{i}.{name}": random(*shape) * (2.0 if name[:2] in ("q_", "k_") else 1.0)
            for name, shape in shapes.items()
        }
    named = {f"model.transformer.{name}.weight": value.to(dtype) for name, value in tensors.items()}
    write_shards(folder, named, shards)
    return {name: value.double().numpy() for name, value in named.items()}


def write_shards(folder: Path, named: dict[str, torch.Tensor], shards: int) -> None:
    """One file, or several and an index, as `save_pretrained` writes."""
    if shards == 1:
        save_file(named, folder / "model.safetensors")
        return
    places = {
        name: f"model-{i % shards + 1:05d}-of-{shards:05d}.safetensors"
        for i, name in enumerate(sorted(named))
    }
    for file in set(places.values()):
        save_file(
            {name: named[name] for name, place in places.items() if place == file},
            folder / file,
            {"format": "pt"},
        )
    size = sum(value.numel() * value.element_size() for value in named.values())
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": size}, "weight_map": places})
    )


def plain_logits(
    tensors: dict[str, np.ndarray], ids: np.ndarray, theta: float = 500000.0, heads: int = 4
) -> np.ndarray:
    """LLaDA's forward pass for rows (B, L), of its paper's section 2.1 and its layout alone: float64,
    rotations as complex numbers."""

    def weight(name: str) -> np.ndarray:
        return tensors[f"model.transformer.{name}.weight"]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * weight(name)

    def rotated(x: np.ndarray) -> np.ndarray:
        half = x.shape[-1] // 2
        turns = np.exp(1j * np.arange(x.shape[1])[:, None] * theta ** (-np.arange(half) / half))
        z = (x[..., :half] + 1j * x[..., half:]) * turns[None, :, None]
        return np.concatenate([z.real, z.imag], -1)

    h = weight("wte")[ids]
    size = h.shape[-1] // heads
    for i in range(len({name.split(".")[3] for name in tensors if ".blocks." in name})):
        x = norm(h, f"blocks.{i}.attn_norm")
        q, k, v = ((x @ weight(f"blocks.{i}.{part}_proj").T).reshape(*ids.shape, -1, size) for part in "qkv")
        q, k = rotated(q), rotated(k)
        mixed = np.empty_like(q)
        for head in range(heads):
            shared = head * k.shape[2] // heads
            scores = np.einsum("bqd,bkd->bqk", q[:, :, head], k[:, :, shared]) / np.sqrt(size)
            chances = np.exp(scores - scores.max(-1, keepdims=True))
            mixed[:, :, head] = chances / chances.sum(-1, keepdims=True) @ v[:, :, shared]
        h = h + mixed.reshape(h.shape) @ weight(f"blocks.{i}.attn_out").T
        x = norm(h, f"blocks.{i}.ff_norm")
        gate = x @ weight(f"blocks.{i}.ff_proj").T
        h = (
            h
            + (gate / (1.0 + np.exp(-gate)) * (x @ weight(f"blocks.{i}.up_proj").T))
            @ weight(f"blocks.{i}.ff_out").T
        )
    return norm(h, "ln_f") @ weight("ff_out").T


def published_generate(
    tensors: dict[str, np.ndarray],
    prompt: list[int],
    mask_id: int,
    steps: int,
    length: int,
    block: int,
    temperature: float = 0.0,
    cfg_scale: float = 0.0,
    remasking: str = "low_confidence",
    seed: int = 0,
    drawn: str = "masks",
) -> list[int]:
    """LLaDA's sampler (the paper's algorithms 4 and 5, with the quirks of its released program) for one
    prompt.

    [MASK] stays in the softmax; probabilities are of the guided logits, without the Gumbel noise; a token's
    place in the running is by float64; counts are fixed when a block begins, the larger ones first. Its
    random numbers are drawn as ours are: not for the whole canvas, but for the block alone (`drawn` "block"),
    or for its masks ("masks").
    """
    rng = torch.Generator().manual_seed(seed)
    canvas = np.array([[*prompt, *[mask_id] * length]])
    start = len(prompt)
    assert length % block == 0 and steps % (length // block) == 0
    each = steps // (length // block)
    for first in range(start, start + length, block):
        here = slice(first, first + block)
        counts = [block // each + (i < block % each) for i in range(each)]
        for count in counts:
            logits = plain_logits(tensors, canvas)[0]
            if cfg_scale > 0.0:
                unprompted = canvas.copy()
                unprompted[:, :start] = mask_id
                null = plain_logits(tensors, unprompted)[0]
                logits = null + (cfg_scale + 1.0) * (logits - null)
            noise = 1.0
            rows = np.arange(block) if drawn == "block" else np.flatnonzero(canvas[0, here] == mask_id)
            chances = np.exp(logits[here] - logits[here].max(-1, keepdims=True))
            if temperature > 0.0:
                uniform = np.full((block, logits.shape[-1]), 0.5)
                uniform[rows] = torch.rand(
                    (1, len(rows), logits.shape[-1]), dtype=torch.float64, generator=rng
                ).numpy()[0]
                noise = (-np.log(np.maximum(uniform, 2.0**-60))) ** temperature
            chosen = (chances / noise).argmax(-1)
            confidence = np.take_along_axis(chances / chances.sum(-1, keepdims=True), chosen[:, None], -1)[
                :, 0
            ]
            if remasking == "random":
                confidence = np.zeros(block)
                confidence[rows] = torch.rand((1, len(rows)), dtype=torch.float64, generator=rng).numpy()[0]
            confidence = np.where(canvas[0, here] == mask_id, confidence, -np.inf)
            best = np.argsort(-confidence, kind="stable")[:count]
            best = best[np.isfinite(confidence[best])]
            canvas[0, first + best] = chosen[best]
    return canvas[0].tolist()
