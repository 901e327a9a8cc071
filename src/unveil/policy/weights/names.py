"""Tables of parameter names: ours to those of either release, for a policy's network and image encoders."""

from collections.abc import Iterable, Mapping

from torch import Tensor

from unveil.policy.weights.description import TransformerShape, UNetShape

Names = dict[str, str]


def unet_names(shape: UNetShape, theirs: str, lerobot: bool) -> Names:
    """The table of a `ConditionalUNet`; `theirs` is the prefix of the release's names."""
    levels, last = len(shape.widths), len(shape.widths) - 1
    ends = ("conv1", "conv2") if lerobot else ("blocks.0", "blocks.1")
    resample = "2" if lerobot else "2.conv"
    pairs = {"time.0": "diffusion_step_encoder.1", "time.2": "diffusion_step_encoder.3"}
    sizes = (shape.features, *shape.widths)
    blocks = [
        (f"down.{k}.{i}", f"down_modules.{k}.{i}", not i and sizes[k] != sizes[k + 1])
        for k in range(levels)
        for i in range(2)
    ]
    blocks += [(f"middle.{i}", f"mid_modules.{i}", False) for i in range(2)]
    for k in range(last):
        above, below = shape.widths[last - k - 1], shape.widths[last - k]
        blocks += [(f"up.{k}.{i}", f"up_modules.{k}.{i}", not i and 2 * below != above) for i in range(2)]
    for ours, mine, changes in blocks:
        for end, name in zip(ends, ("first", "second"), strict=True):
            pairs |= {
                f"{ours}.{name}.conv": f"{mine}.{end}.block.0",
                f"{ours}.{name}.norm": f"{mine}.{end}.block.1",
            }
        pairs |= {f"{ours}.about": f"{mine}.cond_encoder.1"} | (
            {f"{ours}.skip": f"{mine}.residual_conv"} if changes else {}
        )
    pairs |= {f"halvings.{k}": f"down_modules.{k}.{resample}" for k in range(last)}
    pairs |= {f"doublings.{k}": f"up_modules.{k}.{resample}" for k in range(last)}
    pairs |= {
        "final.0.conv": "final_conv.0.block.0",
        "final.0.norm": "final_conv.0.block.1",
        "final.1": "final_conv.1",
    }
    return _both(pairs, "network.", theirs)


def transformer_names(shape: TransformerShape, theirs: str) -> Names:
    """The table of a `PolicyTransformer`, after `split`."""
    pairs = {
        "enter": "input_emb",
        "memory.0": "encoder.0",
        "memory.2": "encoder.2",
        "norm": "ln_f",
        "leave": "head",
    }
    if shape.observation:
        pairs["observe"] = "cond_obs_emb"
    for i in range(shape.depth):
        mine = {"own": "norm1", "told": "norm2", "last": "norm3", "rise": "linear1", "fall": "linear2"}
        mine |= {
            "merge": "self_attn.out_proj",
            "gather": "multihead_attn.out_proj",
            "query": "query",
            "memory": "memory",
            "qkv": "qkv",
        }
        pairs |= {f"blocks.{i}.{a}": f"decoder.layers.{i}.{b}" for a, b in mine.items()}
    return _both(pairs, "network.", theirs) | {
        "network.place": f"{theirs}pos_emb",
        "network.memory_place": f"{theirs}cond_pos_emb",
    }


def split(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Split PyTorch's attention matrices.

    Self-attention has `qkv`; cross-attention has `query`, and `memory` for keys and values.
    """
    parts: dict[str, Tensor] = {}
    for name, value in tensors.items():
        head, _, end = name.rpartition(".in_proj_")
        if head.endswith(".self_attn"):
            parts[f"{head.removesuffix('self_attn')}qkv.{end}"] = value
        elif head.endswith(".multihead_attn"):
            layer, width = head.removesuffix("multihead_attn"), len(value) // 3
            parts[f"{layer}query.{end}"], parts[f"{layer}memory.{end}"] = value[:width], value[width:]
        else:
            parts[name] = value
    return parts


def encoder_names(
    number: int,
    backbone: str,
    mix: str,
    leave: str,
    blocks: tuple[int, ...] = (2, 2, 2, 2),
    batch_norm: bool = False,
) -> Names:
    """The table of one image encoder of an `ObservationEncoder`, whose parts have these names in the release.

    Args:
        number: number of the encoder.
        backbone: torchvision's ResNet-18; its parts are numbered in encoders without its last layers, and
            named by torchvision in others.
        mix, leave: the spatial softmax and the last layer; "" for an encoder without them.
        blocks: residual blocks of each level.
        batch_norm: norms have the statistics of BatchNorm, too.
    """
    ends, levels = (("0", "1"), "{}") if mix else (("conv1", "bn1"), "layer{}")
    pairs = {"stem": f"{backbone}.{ends[0]}", "norm": f"{backbone}.{ends[1]}"} | (
        {"pool.mix": mix, "leave": leave} if mix else {}
    )
    for level in range(4):
        for block in range(blocks[level]):
            theirs = levels.format(level + (4 if mix else 1))
            ours, mine = f"levels.{level}.{block}", f"{backbone}.{theirs}.{block}"
            pairs |= {f"{ours}.first": f"{mine}.conv1", f"{ours}.second": f"{mine}.conv2"}
            pairs |= {f"{ours}.first_norm": f"{mine}.bn1", f"{ours}.second_norm": f"{mine}.bn2"}
            if level and not block:
                pairs |= {f"{ours}.skip": f"{mine}.downsample.0", f"{ours}.skip_norm": f"{mine}.downsample.1"}
    bare = {"stem", *(name for name in pairs if name.endswith((".first", ".second", ".skip")))}
    ours = f"observation.encoders.{number}."
    table = _both(pairs, ours, "", bare)
    if batch_norm:
        norms = [name for name in pairs if name.endswith("norm")]
        table |= {
            f"{ours}{n}.{end}": f"{pairs[n]}.{end}" for n in norms for end in ("running_mean", "running_var")
        }
    return table


def _both(pairs: Mapping[str, str], ours: str, theirs: str, bare: Iterable[str] = ()) -> Names:
    """Weight and bias of each module; of the bare ones only the weight."""
    ends = {name: ("weight",) if name in bare else ("weight", "bias") for name in pairs}
    return {f"{ours}{a}.{end}": f"{theirs}{b}.{end}" for a, b in pairs.items() for end in ends[a]}
