"""Prompts as conditions of an image model: tokenizer, text encoder, and the null condition of guidance."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from unveil.files.notes import note
from unveil.image.data.tokenizer import Tokenizer
from unveil.image.networks.text_encoder import EncodedText
from unveil.image.prompts.emphasis import emphasised
from unveil.image.prompts.prompt import WeightedText
from unveil.image.prompts.prompt_chunks import ChunkRules, chunks, level
from unveil.network.condition import Condition

KEPT = 2**29  # numbers of encoded prompts that a frozen encoder keeps, 2 GiB


class TextConditioning(nn.Module):
    """Prompts -> `Condition` with the fields `tokens`, `token_valid` and perhaps `vector`.

    It runs once an image, never once a step of sampling. The null condition of classifier-free guidance is
    the encoding of the empty prompt "", as in Stable Diffusion: training replaces dropped captions by it.

    Args:
        tokenizer: prompts -> token ids and their mask.
        encoder: (ids (B, N), valid (B, N)) -> `EncodedText`.
        pooled: pass the pooled text (B, P) on as `vector`, which joins the time embedding.
        frozen: the encoder is not trained; each prompt is encoded once and kept.
        stored: the encoder's weights belong to the model's. Weights that are not stored are found again by
            the recipe, such as those of a package.
        chunked: texts of any length are read in `weighted`, in chunks; else they are cut, with a note.
        restore: weights of words leave the mean of an encoded text as it is, see `emphasised`; for CLIP. The
            mean of encoders that end in a layer norm without learned shift is near 0.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        encoder: nn.Module,
        *,
        pooled: bool = True,
        frozen: bool = False,
        stored: bool = True,
        chunked: bool = True,
        restore: bool = False,
    ) -> None:
        super().__init__()
        self.chunked, self._noted = chunked, False
        self.tokenizer, self.pooled, self.frozen, self.restore = tokenizer, pooled, frozen, restore
        if frozen:
            encoder.requires_grad_(False).eval()
        if stored:
            self.encoder = encoder
        self._apart = None if stored else (encoder,)  # in a tuple, it is no submodule
        self.learned: dict[int, tuple[int, ...]] = {}  # token of the tokenizer -> rows of the encoder's table
        self._kept: dict[str, EncodedText] = {}
        self._sizes: tuple[torch.Size, torch.Size] | None = None  # of tokens and pooled text, one prompt

    @property
    def network(self) -> nn.Module:
        """The encoder, stored or not."""
        return self.encoder if self._apart is None else self._apart[0]

    def unfreeze(self) -> None:
        """Encode prompts anew each time, so that gradients reach what is trained in the encoder or before it;
        the weights that are frozen stay so. The encoder becomes a submodule, if it was none."""
        if self._apart is not None:
            self.encoder, self._apart = self._apart[0], None
        self.frozen = False
        self._kept.clear()

    def freeze(self) -> None:
        """Freeze the encoder, which then encodes each prompt once."""
        self.network.requires_grad_(False).eval()
        self.frozen = True
        self._kept.clear()

    def know(self, tokenizer: Tokenizer, learned: Mapping[int, tuple[int, ...]]) -> None:
        """Read prompts with a tokenizer of more words.

        Args:
            learned: the rows of the encoder's table for tokens of learned words.
        """
        self.tokenizer, self.learned = tokenizer, dict(learned)
        self._kept.clear()

    def ids(self, prompt: str) -> list[int]:
        """All ids of a text, without start, end and padding; a learned word has one for each of its
        vectors."""
        plain = self.tokenizer.ids(prompt)
        return [row for number in plain for row in self.learned.get(number, (number,))]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "TextConditioning":
        if self._apart is not None:  # moves to a device with the model
            self._apart[0]._apply(fn)
        self._kept.clear()
        return super()._apply(fn, recurse)

    def forward(self, prompts: Sequence[str], device: torch.device) -> Condition:
        """The condition (B rows) of B prompts; each different prompt is encoded once."""
        kinds = {prompt: row for row, prompt in enumerate(dict.fromkeys(prompts))}
        rows = torch.tensor([kinds[prompt] for prompt in prompts], device=device)
        tokens, valid, pooled = self._encoded(list(kinds), device)
        return Condition(
            tokens=tokens[rows], token_valid=valid[rows], vector=pooled[rows] if self.pooled else None
        )

    def weighted(self, texts: Sequence[WeightedText], device: torch.device) -> Condition:
        """The condition (B rows) of B texts of the prompt language, of any length.

        A text is cut into chunks that the encoder has room for; each is encoded apart, its vectors are
        multiplied by the weights, and the chunks are joined along the axis of tokens. Shorter texts get empty
        chunks. `vector` is that of the first chunk.
        """
        commas = map(self.tokenizer.id_of, (",</w>", ","))
        comma = next((number for number in commas if number is not None), -1) if self.chunked else -1
        rules = ChunkRules(comma, self.tokenizer.room)
        blocks = {rows[0]: len(rows) for rows in self.learned.values()}
        each = level(
            [
                chunks(
                    [[(self.ids(it.text), it.weight) for it in passage] for passage in text], rules, blocks
                )
                for text in texts
            ]
        )
        if not self.chunked and len(each[0]) > 1:
            self._note_cut()
            each = [text[:1] for text in each]
        rows = [chunk for text in each for chunk in text]
        ids, valid = self.tokenizer.framed([chunk.ids for chunk in rows])
        encoded = self.network(ids.to(device), valid.to(device))
        factors = torch.ones(ids.shape, device="cpu")
        first = int(self.tokenizer.start is not None)
        for row, chunk in enumerate(rows):
            factors[row, first : first + len(chunk.weights)] = torch.tensor(chunk.weights)
        tokens = emphasised(encoded.tokens, factors.to(device), self.restore)
        shape = (len(texts), len(each[0]))
        return Condition(
            tokens=tokens.unflatten(0, shape).flatten(1, 2),
            token_valid=encoded.valid.unflatten(0, shape).flatten(1, 2),
            vector=encoded.pooled.unflatten(0, shape)[:, 0] if self.pooled else None,
        )

    def _encoded(self, kinds: list[str], device: torch.device) -> EncodedText:
        if not self.frozen:
            return self._encode(kinds, device)
        if device.type == "meta" and self._sizes is not None:  # memory is counted, and nothing computed
            tokens, pooled = (torch.empty((len(kinds), *size), device=device) for size in self._sizes)
            return EncodedText(tokens, torch.empty(tokens.shape[:2], dtype=torch.bool, device=device), pooled)
        for prompt in kinds:  # one by one, so that no encoding depends on what else is in the batch
            if prompt not in self._kept:
                with torch.no_grad():
                    one = self._encode([prompt], device)
                if len(self._kept) * one.tokens.numel() > KEPT:
                    self._kept.clear()
                self._kept[prompt] = one
                self._sizes = one.tokens.shape[1:], one.pooled.shape[1:]
        each = [self._kept[prompt] for prompt in kinds]
        return EncodedText(*(torch.cat(parts).to(device) for parts in zip(*each, strict=True)))

    def _encode(self, prompts: list[str], device: torch.device) -> EncodedText:
        rows = [self.ids(prompt) for prompt in prompts]
        if max(map(len, rows), default=0) > self.tokenizer.room:
            self._note_cut()
        ids, valid = self.tokenizer.framed(rows)
        return self.network(ids.to(device), valid.to(device))

    def _note_cut(self) -> None:
        """Say once that texts are cut."""
        if not self._noted:
            note(f"texts of more than the {self.tokenizer.room} tokens that the text encoder reads are cut")
        self._noted = True


def with_text(cond: Condition | None, text: Condition) -> Condition:
    """A condition of classes or images together with one of text."""
    return replace(cond or Condition(), tokens=text.tokens, token_valid=text.token_valid, vector=text.vector)
