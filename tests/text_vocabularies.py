"""Tiny vocabularies of CLIP, BERT and T5, made without any download."""

from unveil.image.data.tokenizer_files import CLIP_END, CLIP_START, byte_characters

WORDS = ("photo", "cat", "the", "red", "café", "don", "'t", "!!", "日本")
PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "photo", "of", "cat", "##s", "cafe", "!", ",", "日", "un", "##aff", "##able")  # fmt: skip


def clip_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """All bytes, and merges that make each of `WORDS` one token from left to right."""
    single = byte_characters()
    as_byte = dict(zip([*range(33, 127), *range(161, 173), *range(174, 256)], single, strict=False))
    as_byte |= dict(zip((b for b in range(256) if b not in as_byte), single[len(as_byte) :], strict=True))
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        *letters, last = [as_byte[byte] for byte in word.encode()]
        merged = letters[0]
        for letter in [*letters[1:], f"{last}</w>"]:
            merges.append((merged, letter))
            merged += letter
    merges = list(dict.fromkeys(merges))
    tokens = [*single, *(f"{letter}</w>" for letter in single), *("".join(pair) for pair in merges)]
    return {token: number for number, token in enumerate([*tokens, CLIP_START, CLIP_END])}, merges
