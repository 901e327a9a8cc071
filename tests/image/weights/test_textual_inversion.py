"""Learned words: the three forms of files, diffusers' reading of ours, and the table that they extend."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from unveil.errors import UnveilError
from unveil.image.prompts.prompt_chunks import ChunkRules, chunks
from unveil.image.weights.textual_inversion import LearnedWord, extended, read_words, write_word

VECTORS = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
AUTOMATIC = {
    "string_to_token": {"*": 265},
    "name": "style",
    "step": 500,
    "sd_checkpoint": "81761151",
    "sd_checkpoint_name": "v1-5-pruned",
}


def parameters() -> nn.ParameterDict:
    return nn.ParameterDict({"*": nn.Parameter(VECTORS.clone())})


FORMS = {
    "diffusers, a vector": ("learned_embeds.bin", lambda: {"<cat>": VECTORS[0].clone()}, "<cat>", 1),
    "diffusers, a matrix": ("a.safetensors", lambda: {"<cat>": VECTORS.clone()}, "<cat>", 3),
    "diffusers, a parameter": ("a.bin", lambda: {"<cat>": nn.Parameter(VECTORS.clone())}, "<cat>", 3),
    "automatic1111": (
        "style.pt",
        lambda: {**AUTOMATIC, "string_to_param": {"*": VECTORS.clone()}},
        "style",
        3,
    ),
    "automatic1111, half": ("style.pt", lambda: {"string_to_param": {"*": VECTORS.half()}}, "style", 3),
    "the paper's": ("style.pt", lambda: {**AUTOMATIC, "string_to_param": parameters()}, "style", 3),
    "kohya": ("my word.safetensors", lambda: {"emb_params": VECTORS.clone()}, "my word", 3),
    "kohya, pickled": ("word.pt", lambda: {"emb_params": VECTORS.clone()}, "word", 3),
}


@pytest.mark.parametrize(("name", "made", "token", "count"), FORMS.values(), ids=FORMS)
def test_each_form_is_vectors_by_word(name, made, token, count, tmp_path):
    tree = made()
    (save_file if name.endswith("safetensors") else torch.save)(tree, tmp_path / name)
    (word,) = read_words(tmp_path / name)
    assert word.token == token and word.vectors.dtype == torch.float32
    torch.testing.assert_close(word.vectors, VECTORS[:count], atol=1e-3, rtol=1e-3)
    assert "half" in str(tree) or name.startswith("style") or torch.equal(word.vectors, VECTORS[:count])


class Vocabulary:
    """What diffusers asks of a tokenizer."""

    def get_vocab(self) -> dict[str, int]:
        """Its words."""
        return {"a": 0}


def test_diffusers_reads_what_is_written(tmp_path):
    write_word(tmp_path / "learned_embeds.safetensors", LearnedWord("<a>", VECTORS))
    (back,) = read_words(tmp_path)
    assert back.token == "<a>" and torch.equal(back.vectors, VECTORS)
    loaders = pytest.importorskip("diffusers.loaders.textual_inversion")
    states = loaders.load_textual_inversion_state_dicts([str(tmp_path)], local_files_only=True)
    (token,), (vectors,) = loaders.TextualInversionLoaderMixin._retrieve_tokens_and_embeddings(
        [None], states, Vocabulary()
    )
    assert token == "<a>" and torch.equal(vectors, VECTORS)
    save_file({"<a>": VECTORS, "<b>": VECTORS[0].clone()}, tmp_path / "two.safetensors")
    assert [(w.token, len(w.vectors)) for w in read_words(tmp_path / "two.safetensors")] == [
        ("<a>", 3),
        ("<b>", 1),
    ]


def test_the_table_grows_by_the_vectors():
    table = torch.randn(10, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    words = [LearnedWord("<a>", VECTORS), LearnedWord("<b>", VECTORS[:1])]
    grown = extended(table, words)
    assert grown.ids == {"<a>": (10, 11, 12), "<b>": (13,)}
    assert torch.equal(grown.table[:10], table) and len(table) == 10
    assert torch.equal(grown.table[10:], torch.cat([VECTORS, VECTORS[:1]]).double())
    blocks = {ids[0]: len(ids) for ids in grown.ids.values()}
    made = chunks([[([5] * 74 + [10, 11, 12], 1.0)]], ChunkRules(), blocks)
    assert [chunk.ids[0] for chunk in made] == [5, 10]
    with pytest.raises(
        UnveilError, match="learned word for another base: the vectors of <c> are 9 wide, those"
    ):
        extended(table, [LearnedWord("<c>", torch.ones(1, 9))])
    with pytest.raises(ValueError, match="<a> is there twice"):
        extended(table, [words[0], words[0]])


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"clip_l": VECTORS, "clip_g": VECTORS.clone()}, "for Stable Diffusion XL"),
        ({"string_to_param": {"*": VECTORS, "+": VECTORS.clone()}}, "string_to_param has 2 words"),
        ({"string_to_param": {"*": 3}}, "style is no vector and no matrix"),
        ({"<a>": VECTORS[0, 0]}, "<a> is no vector and no matrix"),
        ({"<a>": VECTORS.long()}, "<a> is no vector and no matrix"),
        ({"<a>": torch.ones(76, 2)}, r"<a> has 76 vectors; 1 .. 75 are known"),
        ({"<a>": torch.ones(0, 2)}, "<a> has 0 vectors"),
        ({"<a>": torch.tensor([1.0, float("nan")])}, "<a> holds numbers that are not finite"),
        ({"<a>": "b"}, "needed are tensors by token"),
        ({}, "needed are tensors by token"),
        ([VECTORS], "needed are tensors by token"),
        ({"<a>": nn.Linear(2, 2)}, "refused, no code in it was run"),
    ],
)
def test_other_files_are_refused_in_one_line(tree, message, tmp_path):
    torch.save(tree, tmp_path / "style.pt")
    with pytest.raises(UnveilError, match=message) as caught:
        read_words(tmp_path / "style.pt")
    assert "style.pt" in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_without_words_is_refused(tmp_path):
    with pytest.raises(UnveilError, match=r"learned_embeds\.safetensors: cannot be read"):
        read_words(tmp_path)
