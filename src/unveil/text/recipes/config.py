"""Text by unmasking: the config of each verb, as `unveil` and Python use it. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes

from unveil.checks import Bounds, check_fields
from unveil.runs.flags import Job, JobFlags, Run, RunFlags, changed
from unveil.runs.verb import Verb
from unveil.text.settings import TextSettings
from unveil.text.shape import Form, TextShape, Times

Fraction = Annotated[float, Bounds(0, 1, below=True)]


@dataclass(frozen=True)
class TextFiles:
    """How text files are read."""

    field: str = "text"
    """name of the field that holds the document, in JSON objects and parquet rows"""
    encoding: str = "utf-8"
    """character encoding of the files, such as latin-1, cp1252 or utf-16"""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class ModelFlags:
    """Which text model is used."""

    checkpoint: str = "runs/text"
    """run folder, checkpoint folder, name of a packaged model such as text-shakespeare (see `unveil
    weights`), or folder of LLaDA's weights"""
    adapter: str | None = None
    """folder of LoRA weights for this model: a run of `unveil train text --lora-rank`, or one of PEFT"""

    def __post_init__(self) -> None:
        check_fields(self)


Model = OmitArgPrefixes[ModelFlags]
Files = OmitArgPrefixes[TextFiles]
Writing = OmitArgPrefixes[TextSettings]
SHAPE = TextShape()
SAMPLED = TextSettings(length=None, order="first-hitting", temperature=1.0)  # the model's own distribution
ANSWERED = TextSettings(length=None, steps=0, block=32)  # as LLaDA's published chat


@dataclass(frozen=True)
class DataText:
    """Prepare text for training: learn a vocabulary, hold out the end of the text, and store both parts as
    tokens.

    Example: unveil data text --data text/kjv_bible.txt.gz --tokenizer bpe --vocabulary 2048 --out data/kjv
    """

    data: str = "text/tinyshakespeare.txt.gz"
    """text file, jsonl or .json array (each also as .gz), .parquet, or a folder of these; looked for in the
    current folder, then in $UNVEIL_DATA"""
    files: Files = TextFiles()
    tokenizer: Literal["bpe", "bytes"] = "bpe"
    """byte-pair encoding learned from the data, or plain bytes"""
    vocabulary: int = 1024
    """number of tokens with `tokenizer=bpe`, including the 256 bytes and 2 special tokens; more make the same
    text shorter, and the network larger"""
    hold_out: Fraction = 0.1
    """fraction of the characters, at the end of the text, that is held out for evaluation"""
    out: Path | None = None
    """folder to write; default: $UNVEIL_HOME/text/<name>-<tokenizer>, in the cache"""
    json: str | None = None
    """file for the numbers, as JSON; - is standard output"""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class TrainText:
    """Train a masked diffusion model of text, or fine-tune one on instructions.

    Example: unveil train text --preset tiny --data text/tinyshakespeare.txt.gz --out runs/shakespeare

    Example: unveil train text --checkpoint runs/shakespeare --sft pairs.jsonl --lora-rank 8 --out runs/chat
    """

    preset: Literal["tiny", "default", "paper"] = "default"
    """set of defaults, which other flags change: tiny trains in minutes; paper has the published settings of
    LLaDA-8B, for a cluster"""
    data: str = "text/tinyshakespeare.txt.gz"
    """folder made by `unveil data text`; or text files as that command takes them, with bytes as tokens"""
    files: Files = TextFiles()
    hold_out: Fraction = 0.1
    """fraction of the characters, at the end of the text, that is held out for evaluation; not used for a
    prepared folder, which has its own"""
    sft: str | None = None
    """file of instructions for supervised fine-tuning: jsonl, .json array or .parquet of prompts and
    responses, Alpaca's fields, or turns under "messages" (OpenAI, TRL) or "conversations" (ShareGPT); only
    responses are masked"""
    prompt_field: str = "prompt"
    """name of the prompt's field in the file of `sft`"""
    response_field: str = "response"
    """name of the response's field in the file of `sft`"""
    checkpoint: str | None = None
    """model whose weights the training begins with, and whose shape and tokenizer are kept: a run folder, a
    checkpoint folder, the name of a packaged model (see `unveil weights`), or a folder of LLaDA's weights.
    Default: random weights"""
    lora_rank: Annotated[int, Bounds(0)] = 0
    """rank of the low-rank updates (LoRA) that are trained in place of the checkpoint's weights; 0 trains all
    weights"""
    lora_alpha: Annotated[float, Bounds(0, above=True, below=True)] = 16.0
    """scale of the low-rank updates: they are multiplied by `lora_alpha` / `lora_rank`"""
    lora_targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "attn_out")
    """linear layers that LoRA updates; by default those of attention; those of the feed-forward part are
    ff_proj, up_proj and ff_out"""
    shape: OmitArgPrefixes[TextShape] = SHAPE
    form: Form = "l"
    """form of the loss. l: a random number l of tokens is masked, and the loss is their mean; t: each token
    is masked with probability t and weighted by 1/t, as published. Both have the same mean; l has a lower
    variance"""
    times: Times = "stratified"
    """how the times t of a batch are sampled with `form=t`; antithetic: in pairs t and 1 - t. The numbers l
    of `form=l` are always stratified"""
    truncated: Annotated[float, Bounds(0, 1)] = 0.01
    """fraction of batches that are cut to a random length, so that texts shorter than `context` are learned,
    too; 0.01 is LLaDA's; 0 disables it"""
    run: Run = RunFlags(batch_size=16, weight_decay=0.1, adam_betas=(0.9, 0.95), out=Path("runs/text"))

    def __post_init__(self) -> None:
        check_fields(self)
        if self.run.source and self.checkpoint not in (None, self.run.source):
            raise ValueError("`from` and `checkpoint` both name the initial weights; give one of them")
        if self.run.statistics != "kept" or self.run.freeze != "none":
            raise ValueError("`statistics` and `freeze`: text models have no statistics and no encoder")
        if self.lora_rank and self.checkpoint is None and not self.run.source:
            raise ValueError("`lora_rank` needs a `checkpoint` to adapt")
        if self.shape.vocabulary != SHAPE.vocabulary:
            raise ValueError("`vocabulary` is that of the tokenizer: give it to `unveil data text`")
        if self.times != "stratified" and self.form != "t":
            raise ValueError(
                f"`times={self.times}` needs `form=t`: the counts of masks of `form=l` are always stratified"
            )
        if self.shape.block and self.shape.context % self.shape.block:
            raise ValueError(
                f"`context` must be a multiple of `block`, got {self.shape.context} and {self.shape.block}"
            )

    def rows(self, count: int) -> int:
        """The rows of a batch of `count`: one more if antithetic times need pairs and only the memory of a
        smaller batch is counted."""
        return count + (count % 2 if self.times == "antithetic" and count < self.run.batch_size else 0)


@dataclass(frozen=True)
class SampleText:
    """Write text: after a prompt, or into the gaps of a pattern.

    Example: unveil sample text --checkpoint runs/text --prompt "ROMEO:" --length 128 --watch
    """

    model: Model = ModelFlags()
    prompt: str = ""
    """beginning of the text"""
    infill: str | None = None
    """text with gaps to fill, in place of a prompt: "To be, [*8] that is the question" has a gap of 8
    tokens"""
    count: Annotated[int, Bounds(1)] = 1
    """number of samples, in one batch; sample i uses the seed `seed` + i, so that more samples do not change
    the first ones"""
    writing: Writing = SAMPLED
    watch: bool = False
    """show the tokens as they are revealed"""
    job: Job = JobFlags()

    def __post_init__(self) -> None:
        check_fields(self)
        if self.prompt and self.infill is not None:
            raise ValueError("give `prompt` or `infill`, not both; the pattern may begin with the prompt")


@dataclass(frozen=True)
class ChatText:
    """Talk to a model that was fine-tuned on instructions; an empty line or Ctrl-D ends, /new begins another
    chat.

    Example: unveil chat --checkpoint runs/chat

    Example: unveil chat --checkpoint LLaDA-8B-Instruct --prompt "What is a mask?" "What is a token?" --json -
    """

    model: Model = ModelFlags()
    prompt: tuple[str, ...] = ()
    """messages to answer, each in a chat of its
    own that does not see the others, after which the program ends; default: an interactive chat"""
    system: str = ""
    """system message, at the beginning of each chat"""
    writing: Writing = ANSWERED
    watch: bool = True
    """in a terminal, show the tokens as they are revealed"""
    job: Job = JobFlags()

    def __post_init__(self) -> None:
        check_fields(self)
        if self.writing.length == 0:
            raise ValueError("`length` must be at least 1 token: the room for an answer")


@dataclass(frozen=True)
class DemoText:
    """Watch a packaged model write: a passage that emerges from masks, and a line whose gap is filled.

    Example: unveil demo text
    """

    checkpoint: str | None = None
    """run folder, checkpoint folder, or name of a packaged model (see
    `unveil weights`); default: the packaged text model"""
    prompt: str = "ROMEO:"
    """beginning of the passage"""
    infill: str = "To be, [*8] that is the question"
    """line with a gap to fill: [*8] is a gap of 8 tokens"""
    length: Annotated[int, Bounds(1)] = 128
    """number of tokens of the passage"""
    seed: Annotated[int, Bounds(0, 2**63 - 1)] = 0
    """seed of both texts"""
    device: str = "auto"
    """device: auto, cpu, cuda, cuda:0 or mps; auto takes the fastest that is available"""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class EvalText:
    """Score text: an upper bound on its negative log-likelihood, with a confidence interval.

    Example: unveil eval text --checkpoint runs/text --json -
    """

    model: Model = ModelFlags()
    data: str | None = None
    """text to score, as `unveil data text` takes it; default: the held-out part of the training data"""
    files: Files = TextFiles()
    draws: Annotated[int, Bounds(1)] = 8
    """number of network calls per piece, each with another number of masks; more narrow the interval; 1 is
    enough where the likelihood is exact (causal models, blocks of 1)"""
    form: Form = "l"
    """form of the bound, as `form` of `unveil train text`; l has a lower variance than t, and the same
    mean"""
    times: Times = "stratified"
    """how the numbers of masks (`form=l`) or the times (`form=t`) of a piece are sampled"""
    tasks: str = ""
    """tasks of EleutherAI's lm-evaluation-harness to run instead, separated by commas, such as
    arc_easy,lambada_openai; needs `pip install 'unveil[harness]'`, and downloads their data"""
    limit: Annotated[int, Bounds(0)] = 0
    """number of questions per task with `tasks`; 0: all"""
    scores: Path | None = None
    """jsonl file for -log p of every token, one line per piece: conditioned on all other tokens (masked
    models), or on those before it (causal models, block diffusion)"""
    pieces: Annotated[int, Bounds(0)] = 0
    """number of pieces to score, each as long as the context, evenly spaced in the text; 0: all"""
    batch_size: Annotated[int, Bounds(1)] = 32
    """number of pieces per batch; lower it if memory runs out"""
    job: Job = JobFlags()

    def __post_init__(self) -> None:
        check_fields(self)
        if self.times == "antithetic" and self.draws % 2:
            raise ValueError(f"`times=antithetic` samples pairs: `draws` must be even, got {self.draws}")


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
BLOCKS = {"--blocks": "--block"}
DATA = Verb(
    {"default": DataText()},
    "text.recipes.data:make_text_data",
    "text as tokens",
    "data tokenizer vocabulary hold_out out",
)
TRAIN = Verb(
    TRAIN_PRESETS,
    "text.recipes.train:train_text",
    "a masked diffusion model of text, or a chat model from one",
    "preset data sft checkpoint context width depth steps batch_size learning_rate out resume",
    after="text.recipes.train:after_training",
)
EVAL = Verb(
    {"default": EvalText()},
    "text.recipes.evaluate:evaluate_text",
    "an upper bound on the negative log-likelihood",
    "checkpoint data draws tasks json",
)
SAMPLE = Verb(
    {"default": SampleText()},
    "text.recipes.sample:sample_text",
    "text after a prompt, or in the gaps of a pattern",
    "checkpoint prompt infill length count block order steps temperature watch seed",
    aliases=BLOCKS,
)
DEMO = Verb(
    {"default": DemoText()},
    "text.recipes.demo:run_demo_text",
    "text that emerges from masks",
    "checkpoint prompt infill length",
)
CHAT = Verb(
    {"default": ChatText()},
    "text.recipes.chat:converse",
    "talk to a model that was fine-tuned on instructions",
    "checkpoint adapter prompt system length temperature seed",
    aliases=BLOCKS,
)
