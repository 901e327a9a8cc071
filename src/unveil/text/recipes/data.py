"""`unveil data text`: documents as tokens, prepared once."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unveil.runs.progress import Progress
    from unveil.text.data.documents import Prepared
    from unveil.text.recipes.config import DataText


def make_text_data(config: DataText, progress: Progress) -> dict[str, Any]:
    """Learn the vocabulary on what is trained on, and write the folder."""
    from unveil.errors import UnveilError
    from unveil.files.places import home
    from unveil.text.data.documents import (
        Prepared,
        made_by_data_text,
        pack,
        read_documents,
        split_documents,
        write_prepared,
    )
    from unveil.text.data.tokens import FILE, ByteTokens, train_bpe

    if config.out is not None and config.out.exists() and not config.out.is_dir():
        raise ValueError(f"{config.out} is a file, but --out needs a folder")
    name = Path(config.data).name.split(".")[0] or "text"
    if config.out is not None and not made_by_data_text(config.out):
        for own in (FILE, "train.npy", "held.npy", "streams.json"):
            if (config.out / own).exists():
                raise UnveilError(
                    f"{config.out / own} exists, and {config.out} was not made by unveil data text; give another --out"
                )
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
    vocabulary = (
        f"--tokenizer bpe --vocabulary {config.vocabulary}"
        if config.tokenizer == "bpe"
        else "--tokenizer bytes"
    )
    field = f" --field {config.field}" if config.field != "text" else ""
    encoding = f" --encoding {config.encoding}" if config.encoding != "utf-8" else ""
    return f"unveil data text --data {Path(config.data).name}{field}{encoding} {vocabulary} --hold-out {config.hold_out}"


def prepared_text(data: str, field: str, hold_out: float, encoding: str) -> Prepared:
    """A folder of `unveil data text`, or other text as bytes with its tail held out."""
    from unveil.files.notes import note
    from unveil.files.places import found
    from unveil.text.data.documents import (
        Prepared,
        is_prepared,
        pack,
        read_documents,
        read_prepared,
        split_documents,
    )
    from unveil.text.data.tokens import ByteTokens

    folder = found(Path(data))
    if is_prepared(folder):
        if (field, encoding) != ("text", "utf-8"):
            note(f"{data} is prepared already: --field and --encoding are of text, and are not used")
        return read_prepared(folder)
    tokens = ByteTokens()
    train, held = split_documents(read_documents(data, field, encoding), hold_out)
    return Prepared(tokens, pack(train, tokens), pack(held, tokens))
