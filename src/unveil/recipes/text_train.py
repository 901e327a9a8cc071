"""Training on text: `unveil data text` and `unveil train text`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from unveil.apps.text_model import TextShape
    from unveil.data.text import Prepared
    from unveil.recipes.progress import Progress
    from unveil.recipes.text import DataText, TrainText
    from unveil.training.trainer import Training


def make_text_data(config: DataText, progress: Progress) -> dict[str, Any]:
    """Learn the vocabulary on what is trained on, and write the folder."""
    from unveil.data.files import home
    from unveil.data.text import Prepared, made_by_data_text, pack, read_documents, split_documents, write_prepared
    from unveil.data.tokens import FILE, ByteTokens, train_bpe
    from unveil.errors import UnveilError

    if config.out is not None and config.out.exists() and not config.out.is_dir():
        raise ValueError(f"{config.out} is a file, but --out needs a folder")
    name = Path(config.data).name.split(".")[0] or "text"
    if config.out is not None and not made_by_data_text(config.out):
        for own in (FILE, "train.npy", "held.npy", "streams.json"):
            if (config.out / own).exists():
                raise UnveilError(f"{config.out / own} exists, and {config.out} was not made by unveil data text; give another --out")
    kind = f"bpe{config.vocabulary}" if config.tokenizer == "bpe" else "bytes"
    out = config.out or home() / "text" / f"{name}-{kind}"
    train, held = split_documents(read_documents(config.data, config.field, config.encoding), config.hold_out)
    progress(f"preparing {name}", 1, 3, {})
    tokens = ByteTokens() if config.tokenizer == "bytes" else train_bpe(train, config.vocabulary)
    progress(f"preparing {name}", 2, 3, {})
    prepared = Prepared(tokens, pack(train, tokens), pack(held, tokens), _command(config))
    write_prepared(prepared, out)
    progress(f"preparing {name}", 3, 3, {})
    per_token = prepared.train.characters / max(1, len(prepared.train) - len(train))
    return {
        "path": str(out),
        "protocol": f"{kind} tokens of {config.data}",
        "metrics": {
            "train_tokens": len(prepared.train),
            "held_tokens": len(prepared.held),
            "vocabulary": tokens.size,
            "characters_per_token": per_token,
            "documents": len(train),
        },
        "summary": f"{out}: {len(prepared.train):,} tokens to train on and {len(prepared.held):,} held out, vocabulary {tokens.size:,}, "
        f"{per_token:.2f} characters a token\nnext: unveil train text --data {quote(str(out))}",
    }


def _command(config: DataText) -> str:
    """What prepares the same data, wherever they lie."""
    vocabulary = f"--tokenizer bpe --vocabulary {config.vocabulary}" if config.tokenizer == "bpe" else "--tokenizer bytes"
    field = f" --field {config.field}" if config.field != "text" else ""
    encoding = f" --encoding {config.encoding}" if config.encoding != "utf-8" else ""
    return f"unveil data text --data {Path(config.data).name}{field}{encoding} {vocabulary} --hold-out {config.hold_out}"


def prepared_text(data: str, field: str, hold_out: float, encoding: str) -> Prepared:
    """A folder of `unveil data text`, or other text as bytes with its tail held out."""
    from unveil.data.files import found
    from unveil.data.notes import note
    from unveil.data.text import Prepared, is_prepared, pack, read_documents, read_prepared, split_documents
    from unveil.data.tokens import ByteTokens

    folder = found(Path(data))
    if is_prepared(folder):
        if (field, encoding) != ("text", "utf-8"):
            note(f"{data} is prepared already: --field and --encoding are of text, and are not used")
        return read_prepared(folder)
    tokens = ByteTokens()
    train, held = split_documents(read_documents(data, field, encoding), hold_out)
    return Prepared(tokens, pack(train, tokens), pack(held, tokens))


def train_text(config: TrainText, progress: Progress) -> Path:
    """Train a `TextModel`; returns the run folder."""
    from dataclasses import asdict

    import torch

    from unveil.apps.text_model import TextModel
    from unveil.apps.text_training import text_batches, text_loss
    from unveil.data.text import Pieces
    from unveil.data.tokens import FILE, digest, write_tokens
    from unveil.recipes.device import find_device
    from unveil.recipes.resuming import check_folder
    from unveil.recipes.run import Task, as_json, run_task
    from unveil.recipes.text import TrainText
    from unveil.training.checkpoint import latest_checkpoint

    check(config)
    if config.sft is not None or config.checkpoint is not None:
        from unveil.recipes.text_tune import tune_text

        return tune_text(config, progress)
    check_folder(config.out, config.resume)
    device = find_device(config.device)
    if config.threads:
        torch.set_num_threads(config.threads)
    prepared = prepared_text(config.data, config.field, config.hold_out, config.encoding)
    pieces = Pieces(prepared.train, config.context, config.truncated)
    more = {"recipe": "text", "vocabulary": prepared.tokens.size, "tokenizer": digest(prepared.tokens), "tokens": len(prepared.train)}
    more |= {"prepared_by": prepared.command} if prepared.command else {}
    described = as_json(asdict(config) | more)
    torch.manual_seed(config.seed)  # initial weights
    model = TextModel(shape_of(described), prepared.tokens)

    def draws(count: int) -> Callable[[torch.Generator], Any]:
        odd = count % 2 if config.times == "antithetic" and count < config.batch_size else 0  # of those that are only counted
        return text_batches(pieces, count + odd, config.form, config.times, block=config.block)

    check_text(config, described)
    if latest_checkpoint(config.out, warn=False) is None:
        write_tokens(prepared.tokens, config.out / FILE)
    size = config.batch_size
    task = Task(model, draws(size), text_loss, {}, {}, draws=draws, size=size, lower="--context, --width or --depth")
    run_task(task, training_of(config), device, config.out, described, TrainText(), progress, resume=config.resume, log=config.log)
    return config.out


def check_text(config: TrainText, described: Mapping[str, Any]) -> None:
    """Refuse a run folder that holds another program's tokenizer.json, and to resume a run with another tokenizer than it began with.

    Raises:
        UnveilError: the file; or the command that trains on from what was learned.
    """
    import json
    from hashlib import sha256

    from unveil.data.tokens import FILE
    from unveil.errors import UnveilError

    out = config.out
    try:
        before: Any = json.loads((out / "config.json").read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        before = None
    if not isinstance(before, dict) or "recipe" not in before:
        if (out / FILE).exists() and sha256((out / FILE).read_bytes()).hexdigest() != described["tokenizer"]:
            raise UnveilError(f"{out / FILE} exists and was not made by unveil, so it is not replaced; give another folder for the run")
    elif config.resume and before.get("tokenizer", described["tokenizer"]) != described["tokenizer"]:
        source = f"--sft {quote(config.sft)}" if config.sft else f"--data {quote(config.data)}"
        raise UnveilError(
            f"{out} was started on other text: the tokenizer is not that of {config.sft or config.data} now. Give the old text to resume, "
            f"or train on from what was learned: unveil train text --checkpoint {quote(str(out))} {source} --out {quote(f'{out}-more')}"
        )


def shape_of(config: Mapping[str, Any]) -> TextShape:
    """The tensors' shapes that a run's `config.json` describes."""
    from unveil.apps.text_model import TextShape

    names = ("vocabulary", "context", "width", "depth", "heads", "kv_heads", "hidden", "theta", "tied", "schedule")
    later = {name: config[name] for name in ("epsilon", "forbid_mask", "block", "causal") if name in config}
    return TextShape(**{name: config[name] for name in names}, **later)


def training_of(config: TrainText) -> Training:
    """How to train, as flags say it."""
    from unveil.training.trainer import Training

    return Training(
        steps=config.steps,
        learning_rate=config.learning_rate,
        warmup=config.warmup,
        final_fraction=config.final_fraction,
        weight_decay=config.weight_decay,
        betas=(0.9, 0.95),
        ema=config.ema_decay,
        ema_power=config.ema_power,
        bfloat16=config.bfloat16,
        accumulate=config.accumulate,
        save_every=config.save_every,
        keep=config.keep,
        seed=config.seed,
        log_every=min(100, config.steps),
    )


def check(config: TrainText) -> None:
    """Refuse impossible numbers.

    Raises:
        ValueError: the field, what was got and what is needed.
    """
    from unveil.recipes.sinks import needed
    from unveil.recipes.text import TRAIN_PRESETS, TrainText

    if config.log != "none":
        needed(config.log)
    for name in ("width", "depth", "heads", "context", "steps", "batch_size", "accumulate", "save_every"):
        if getattr(config, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(config, name)}")
    for name in ("kv_heads", "hidden", "warmup", "keep", "threads", "weight_decay", "block"):
        if getattr(config, name) < 0:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 0, got {getattr(config, name)}")
    for name in ("truncated", "hold_out", "final_fraction"):
        if not 0.0 <= getattr(config, name) <= 1.0:
            raise ValueError(f"--{name.replace('_', '-')} must lie in 0 .. 1, got {getattr(config, name)}")
    if config.width % (2 * config.heads) or config.heads % (config.kv_heads or config.heads):
        raise ValueError(
            f"--width must be a multiple of twice --heads, and --heads of --kv-heads, got {config.width}, {config.heads} and "
            f"{config.kv_heads}"
        )
    if config.lora_rank < 0 or not config.lora_alpha > 0.0 or (config.lora_rank and config.checkpoint is None):
        raise ValueError("--lora-rank needs a --checkpoint to adapt, a rank of at least 1 and --lora-alpha above 0")
    if config.times != TrainText().times and config.form != "t":
        raise ValueError(f"--times {config.times} is of --form t; the numbers of masks of --form l are always stratified")
    if config.causal and config.form != TRAIN_PRESETS[config.preset].form:
        raise ValueError(f"--form {config.form} is of masked models; a --causal one has its exact likelihood for a loss: leave --form out")
    if config.block and (config.causal or config.context % config.block):
        raise ValueError(
            f"--context must be a multiple of --block, and --causal has none, got {config.context}, {config.block} and {config.causal}"
        )
    if not config.learning_rate > 0.0 or not config.theta > 0.0:
        raise ValueError(f"--learning-rate and --theta must be above 0, got {config.learning_rate} and {config.theta}")
