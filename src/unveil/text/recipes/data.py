"""`unveil data text`: documents as tokens, prepared once."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

from unveil.errors import UnveilError
from unveil.files.notes import note
from unveil.files.places import home
from unveil.runs.progress import Progress
from unveil.text.data.documents import (
    Prepared,
    Stream,
    made_by_data_text,
    pack,
    prepared_folder,
    read_documents,
    read_prepared,
    split_documents,
    write_prepared,
)
from unveil.text.data.tokens import FILE, ByteTokens, Tokens, train_bpe
from unveil.text.recipes.config import DataText, TextFiles


def make_text_data(config: DataText, progress: Progress) -> dict[str, object]:
    """Learn the vocabulary from the training part, and write the folder."""
    if config.out is not None and config.out.exists() and not config.out.is_dir():
        raise ValueError(f"{config.out} is a file, but `out` must be a folder")
    name = Path(config.data).name.split(".")[0] or "text"
    if config.out is not None and not made_by_data_text(config.out):
        for own in (FILE, "train.npy", "held.npy", "streams.json"):
            if (config.out / own).exists():
                raise UnveilError(
                    f"{config.out / own} exists, and {config.out} was not made by unveil data text; give "
                    "another `out`"
                )
    kind = f"bpe{config.vocabulary}" if config.tokenizer == "bpe" else "bytes"
    out = config.out or home() / "text" / f"{name}-{kind}"
    train, held = _parts(config.data, config.files, config.hold_out)
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
        "summary": f"{out}: {len(prepared.train):,} tokens to train on and {len(prepared.held):,} held out, "
        f"vocabulary {tokens.size:,}, {per_token:.2f} characters per token\nnext: unveil train text --data "
        f"{quote(str(out))}",
    }


def _command(config: DataText) -> str:
    """The command that prepares the same data, wherever the files are."""
    bpe = config.tokenizer == "bpe"
    tokenizer = f"--tokenizer bpe --vocabulary {config.vocabulary}" if bpe else "--tokenizer bytes"
    field = f" --field {config.files.field}" if config.files.field != "text" else ""
    encoding = f" --encoding {config.files.encoding}" if config.files.encoding != "utf-8" else ""
    source = f"--data {Path(config.data).name}{field}{encoding}"
    return f"unveil data text {source} {tokenizer} --hold-out {config.hold_out}"


def _parts(data: str, files: TextFiles, hold_out: float) -> tuple[list[str], list[str]]:
    """The documents to train on, and those that are held out."""
    return split_documents(read_documents(data, files.field, files.encoding), hold_out)


def prepared_text(data: str, files: TextFiles, hold_out: float) -> Prepared:
    """A folder of `unveil data text`, or other text as bytes with its end held out."""
    if (folder := prepared_folder(data)) is not None:
        if (files.field, files.encoding) != ("text", "utf-8"):
            note(f"{data} is prepared already: --field and --encoding are not used")
        return read_prepared(folder)
    tokens = ByteTokens()
    train, held = (pack(part, tokens) for part in _parts(data, files, hold_out))
    return Prepared(tokens, train, held)


def stream_for(tokens: Tokens, data: str, files: TextFiles, hold_out: float, *, held: bool = False) -> Stream:
    """The training or the held-out part of data, in the tokens of a model that exists already.

    Raises:
        UnveilError: a folder that was prepared with another tokenizer.
    """
    if prepared_folder(data) is None:
        return pack(_parts(data, files, hold_out)[held], tokens)
    prepared = prepared_text(data, files, hold_out)
    if prepared.tokens.written() != tokens.written():
        raise UnveilError(
            f"{data} was prepared with another tokenizer than this model has; give the text itself"
        )
    return prepared.held if held else prepared.train
