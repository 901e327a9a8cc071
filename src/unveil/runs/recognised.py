"""Checkpoints of other programs, as the applications recognise them, and the operations on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple


@dataclass(frozen=True)
class Reading:
    """What a checkpoint of another program does not record."""

    epoch: str = "latest"
    """epoch (the number in state_<epoch>.pt) to read: latest, or a number"""
    raw: bool = False
    """use the raw weights instead of their moving average (EMA)"""
    dataset: str | None = None
    """training data of a Diffuser, by name or file, for the statistics of its normaliser;
    by default plans stay normalised"""
    size: int = 0
    """image size in pixels of an image model whose checkpoint does not record it; 0: as recorded"""
    flags: str = ""
    """training flags of an image model of openai, such as "num_heads=4 diffusion_steps=4000";
    by default those of the released models"""
    tokenizer: str = ""
    """folder or file of the vocabulary of a model that reads prompts and does not hold it: GPT-2's
    encoder.json and vocab.bpe for GLIDE, CLIP's for its noised CLIP; default: the folder of the model"""
    layout: Literal["ours", "diffusers", "single"] = "ours"
    """layout to write a model of Stable Diffusion in: a run folder of unveil, a folder of diffusers, or one
    .safetensors file with the names of CompVis"""
    dtype: Literal["stored", "float32", "float16", "bfloat16"] = "stored"
    """precision of the weights of a model of Stable Diffusion that is written; default: that of the files"""


AS_RECORDED = Reading()


class Recognised(NamedTuple):
    """A recognised checkpoint; its functions keep what recognition has read.

    Args:
        load: (device, seed, **settings) -> the model, planner or policy that `unveil.load` returns.
        inspect: settings -> a description for people.
        convert: (folder to write, settings) -> a description of what was written, for people.
    """

    load: Callable[..., Any]  # settings and result are of each application's own types
    inspect: Callable[[Reading], str]
    convert: Callable[[Path, Reading], str]
