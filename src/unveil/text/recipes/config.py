"""Text by unmasking: the configs. They import nothing heavy; the wiring is in `text_train.py` and `text_run.py`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unveil.runs.flags import Run, RunFlags, changed
from unveil.runs.verb import Verb


@dataclass(frozen=True)
class DataText:
    """Prepare text for training: learn a vocabulary, hold out a tail, and store both as tokens.

    Example: unveil data text --data text/kjv_bible.txt.gz --tokenizer bpe --vocabulary 2048 --out data/kjv
    """

    data: str = "text/tinyshakespeare.txt.gz"
    """a text file, jsonl or a .json array, each also as .gz, .parquet, or a folder of them; also below $UNVEIL_DATA"""
    field: str = "text"
    """of a line of jsonl"""
    encoding: str = "utf-8"
    """of the files, such as latin-1, cp1252 or utf-16"""
    tokenizer: Literal["bpe", "bytes"] = "bpe"
    """byte-pair encoding learned from the data, or plain bytes"""
    vocabulary: int = 1024
    """tokens of the byte-pair encoding, the 256 bytes and 2 special ones included"""
    hold_out: float = 0.1
    """the last share of the characters, which is not trained on"""
    out: Path | None = None
    """folder to write; by default in the cache, $UNVEIL_HOME/text/<name>-<tokenizer>"""
    seed: int = 0
    """unused here; every verb takes it"""
    device: str = "auto"
    """unused here; every verb takes it"""
    json: str | None = None
    """write the numbers here; - is standard output"""


@dataclass(frozen=True)
class TrainText:
    """Train a masked diffusion model of text, or fine-tune one on instructions.

    Example: unveil train text --preset tiny --data text/tinyshakespeare.txt.gz --out runs/shakespeare

    Example: unveil train text --checkpoint runs/shakespeare --sft pairs.jsonl --lora-rank 8 --steps 500 --out runs/chat
    """

    preset: Literal["tiny", "default", "paper"] = "default"
    """tiny proves learning in minutes; paper has LLaDA-8B's published numbers, for a cluster; other flags change single fields"""
    data: str = "text/tinyshakespeare.txt.gz"
    """a folder of `unveil data text`, or text as it takes it, which is then read as bytes"""
    field: str = "text"
    """of a line of jsonl"""
    encoding: str = "utf-8"
    """of the files, those of --sft too, such as latin-1, cp1252 or utf-16"""
    hold_out: float = 0.1
    """the last share of the characters, which is not trained on; a prepared folder has its own"""
    sft: str | None = None
    """fine-tune on instructions: jsonl, a .json array or .parquet of prompts and responses, Alpaca's fields, or turns under "messages"
    (OpenAI, TRL) or "conversations" (ShareGPT); only responses are masked"""
    prompt_field: str = "prompt"
    """of a line of --sft"""
    response_field: str = "response"
    """of a line of --sft"""
    checkpoint: str | None = None
    """go on from this model, with its shape and tokenizer: a run, a checkpoint folder, a zoo name, or a folder of LLaDA's weights"""
    lora_rank: int = 0
    """train low-rank changes of the checkpoint's linear maps instead of its weights; 0: all weights"""
    lora_alpha: float = 16.0
    """the changes' scale is alpha / rank"""
    lora_targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "attn_out")
    """linear maps that LoRA changes; of the feed-forward part: ff_proj, up_proj, ff_out"""
    width: int = 192
    """of the transformer"""
    depth: int = 6
    """blocks"""
    heads: int = 6
    """attention heads"""
    kv_heads: int = 0
    """heads of keys and values; 0: as many"""
    hidden: int = 0
    """of SwiGLU; 0: 8/3 of the width"""
    theta: float = 10_000.0
    """of the rotary places"""
    tied: bool = False
    """the head shares the embedding's weights"""
    context: int = 256
    """tokens of a piece"""
    schedule: Literal["linear", "cosine"] = "linear"
    """share of tokens kept against time"""
    block: int = 0
    """block diffusion (BD3) with blocks of so many tokens, each masked diffusion given those before; 0: masked diffusion of the whole"""
    causal: bool = False
    """autoregressive on the same trunk, for comparison; form and times do not apply"""
    form: Literal["l", "t"] = "l"
    """of the bound: exactly l tokens masked, or each with probability t and weight 1/t as published; the same mean, l has less variance"""
    times: Literal["stratified", "antithetic", "independent"] = "stratified"
    """how the t of a batch are drawn, or with --block those of a block; of --form t, as the numbers of --form l are stratified"""
    truncated: float = 0.01
    """share of batches cut to a random length"""
    run: Run = RunFlags(batch_size=16, weight_decay=0.1, adam_betas=(0.9, 0.95), out=Path("runs/text"))


@dataclass(frozen=True)
class SampleText:
    """Write text: after a prompt, or into the gaps of a pattern.

    Example: unveil sample text --checkpoint runs/text --prompt "ROMEO:" --length 128 --blocks 32 --order confidence --steps 64 --watch
    """

    checkpoint: str = "runs/text"
    """a run folder, a checkpoint folder, a zoo name, or a folder of LLaDA's weights"""
    adapter: str | None = None
    """a folder of LoRA weights for it, ours or PEFT's"""
    prompt: str = ""
    """what the text begins with"""
    infill: str | None = None
    """a pattern with gaps of so many tokens, instead of a prompt: "To be, [*8] that is the question" """
    length: int | None = None
    """new tokens after the prompt; by default 128, or fewer where the context ends before; 0: parts of --blocks tokens (32), --steps for
    each, until the text ends or the context is full"""
    count: int = 1
    """samples, in one batch; sample i has the random numbers of seed + i, so that it is the same among however many"""
    blocks: int = 0
    """tokens of a block; blocks are finished from left to right; 0: one block, or the blocks that the model was trained with"""
    order: Literal[
        "confidence", "margin", "entropy", "random", "left-to-right", "ancestral", "first-hitting"
    ] = "first-hitting"
    """which masks are filled first; ancestral and first-hitting follow the model's own process, the latter exactly, one token a call"""
    steps: int = 64
    """calls of the network, shared out over the blocks; first-hitting takes one a token"""
    temperature: float = 1.0
    """0 takes the best token"""
    scale: float = 1.0
    """of classifier-free guidance against the masked prompt; 1: none; LLaDA's cfg_scale + 1"""
    threshold: float | None = None
    """with --order confidence: also commit every token at least this probable"""
    factor: float | None = None
    """with --order confidence: also commit the r surest tokens while the r-th is surer than 1 - factor / (r + 1)"""
    remask: float = 0.0
    """how much of what is written is masked again on the way (ReMDM), in 0 .. 1"""
    edit: float | None = None
    """written tokens give way to others at least this probable, in up to 16 more calls a block (LLaDA 2.1's token editing)"""
    cache: Literal["auto", "none", "prefix", "dual"] = "auto"
    """what the network remembers between calls: auto changes nothing (models of blocks remember those before); prefix and dual, of masked
    models, remember what stands before, or all around, the block as it was when it was begun: faster, and a little different"""
    stop: bool = True
    """end at the end of text"""
    watch: bool = False
    """show the tokens as they are decided"""
    seed: int = 0
    """of order and tokens"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:0 or mps"""
    threads: int = 0
    """CPU threads; 0 lets torch decide"""
    json: str | None = None
    """write text and numbers here; - is standard output"""


@dataclass(frozen=True)
class ChatText:
    """Talk to a model that was fine-tuned on instructions; an empty line or Ctrl-D ends, /new begins another chat.

    Example: unveil chat --checkpoint runs/chat

    Example: unveil chat --checkpoint LLaDA-8B-Instruct --prompt "What is a mask?" "And why?" --json -
    """

    checkpoint: str = "runs/text"
    """a run folder, a checkpoint folder, a zoo name, or a folder of LLaDA's weights"""
    adapter: str | None = None
    """a folder of LoRA weights for it, ours or PEFT's"""
    prompt: tuple[str, ...] = ()
    """answer these and stop: each a chat of its own, all in one batch"""
    system: str = ""
    """what the model is told first"""
    length: int | None = None
    """longest answer, in tokens; by default 128, at most half of the context"""
    blocks: int = 32
    """tokens of a block; blocks are finished from left to right; 0: one block"""
    order: Literal[
        "confidence", "margin", "entropy", "random", "left-to-right", "ancestral", "first-hitting"
    ] = "confidence"
    """which masks are filled first"""
    steps: int = 0
    """calls of the network, shared out over the blocks; 0: one a token"""
    temperature: float = 0.0
    """0 takes the best token"""
    scale: float = 1.0
    """of classifier-free guidance against the masked chat; 1: none; LLaDA's cfg_scale + 1"""
    threshold: float | None = None
    """with --order confidence: also commit every token at least this probable"""
    watch: bool = True
    """in a terminal, show the tokens as they are decided"""
    seed: int = 0
    """of order and tokens"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:0 or mps"""
    threads: int = 0
    """CPU threads; 0 lets torch decide"""
    json: str | None = None
    """with --prompt: write answers and numbers here; - is standard output"""


@dataclass(frozen=True)
class DemoText:
    """Watch a packaged model write: a passage appearing out of masks, and a line with a gap filled.

    Example: unveil demo text
    """

    checkpoint: str | None = None
    """a zoo name, a run folder or a checkpoint folder; by default the packaged text model"""
    prompt: str = "ROMEO:"
    """what the passage begins with"""
    infill: str = "To be, [*8] that is the question"
    """the line with its gap"""
    length: int = 128
    """tokens of the passage"""
    seed: int = 0
    """of order and tokens"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:0 or mps"""


@dataclass(frozen=True)
class EvalText:
    """Score text: a bound on its negative log-likelihood, with a confidence interval.

    Example: unveil eval text --checkpoint runs/text --json -
    """

    checkpoint: str = "runs/text"
    """a run folder, a checkpoint folder, a zoo name, or a folder of LLaDA's weights"""
    adapter: str | None = None
    """a folder of LoRA weights for it, ours or PEFT's"""
    data: str | None = None
    """text as of `unveil data text`, all of it; by default the tail that was held out of the model's own data"""
    field: str = "text"
    """of a line of jsonl"""
    encoding: str = "utf-8"
    """of the files of --data, such as latin-1, cp1252 or utf-16"""
    draws: int = 8
    """calls of the network for each piece, each with another number of masks; one is all that an exact likelihood needs"""
    form: Literal["l", "t"] = "l"
    """of the bound: l has less variance than t; the same mean"""
    times: Literal["stratified", "antithetic", "independent"] = "stratified"
    """how the numbers of masks, or times, of a piece are drawn"""
    tasks: str = ""
    """instead: tasks of EleutherAI's lm-evaluation-harness, as arc_easy,lambada_openai; needs unveil[harness], which fetches their data"""
    limit: int = 0
    """questions of each of these tasks; 0: all"""
    scores: Path | None = None
    """also write -log p of every token given the others (masked), or those before (causal, blocks), a line of jsonl a piece"""
    pieces: int = 0
    """score this many pieces of the context's length, spread evenly; 0: all"""
    batch_size: int = 32
    """pieces at a time"""
    seed: int = 0
    """of the masks"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:0 or mps"""
    threads: int = 0
    """CPU threads; 0 lets torch decide"""
    json: str | None = None
    """write the result here; - is standard output"""


TRAIN_PRESETS = {
    "default": TrainText(),
    "tiny": changed(
        TrainText(),
        preset="tiny",
        width=128,
        depth=4,
        heads=4,
        context=128,
        steps=1_000,
        learning_rate=2e-3,
        warmup=100,
        save_every=500,
    ),
    "paper": changed(
        TrainText(),
        preset="paper",
        width=4096,
        depth=32,
        heads=32,
        hidden=12_288,
        theta=500_000.0,
        context=4096,
        form="t",
        times="independent",
        steps=438_000,
        batch_size=1280,
        learning_rate=4e-4,
        warmup=2_000,
        final_fraction=0.025,
    ),
}
DATA = Verb(
    {"default": DataText()},
    "text.recipes.data:make_text_data",
    "text as tokens",
    ("data", "tokenizer", "vocabulary", "hold_out", "out"),
)
TRAIN = Verb(
    TRAIN_PRESETS,
    "text.recipes.train:train_text",
    "a masked diffusion model of text, or a chat model from one",
    (
        "preset",
        "data",
        "sft",
        "checkpoint",
        "context",
        "width",
        "depth",
        "steps",
        "batch_size",
        "learning_rate",
        "out",
        "resume",
    ),
    after="text.recipes.train:after_training",
)
EVAL = Verb(
    {"default": EvalText()},
    "text.recipes.evaluate:evaluate_text",
    "a bound on the negative log-likelihood",
    ("checkpoint", "data", "draws", "tasks", "json"),
)
SAMPLE = Verb(
    {"default": SampleText()},
    "text.recipes.sample:sample_text",
    "text after a prompt, or in the gaps of a pattern",
    (
        "checkpoint",
        "prompt",
        "infill",
        "length",
        "count",
        "blocks",
        "order",
        "steps",
        "temperature",
        "watch",
        "seed",
    ),
)
DEMO = Verb(
    {"default": DemoText()},
    "text.recipes.demo:run_demo_text",
    "text out of masks",
    ("checkpoint", "prompt", "infill", "length"),
)
CHAT = Verb(
    {"default": ChatText()},
    "text.recipes.chat:converse",
    "talk to a model that was fine-tuned on instructions",
    ("checkpoint", "adapter", "prompt", "system", "length", "temperature", "seed"),
)
