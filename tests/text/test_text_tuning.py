"""Fine-tuning on instructions: the loss by hand, prompts never masked, a toy learned with its end, and
answers in ragged batches."""

import pytest
import torch
from torch.nn import functional as F

from unveil.text.chat import answer
from unveil.text.data.chat import Turn
from unveil.text.data.instructions import Chat, Examples
from unveil.text.data.tokens import ByteTokens
from unveil.text.finetuning import tuning_batches
from unveil.text.generation import TextSettings
from unveil.text.model import TextModel, TextShape
from unveil.text.training import text_loss

TOKENS = ByteTokens()


def pair(prompt: str, response: str) -> Chat:
    return Chat((Turn("user", prompt), Turn("assistant", response)), "here")


def random_model(width: int = 32) -> TextModel:
    torch.manual_seed(0)
    model = TextModel(TextShape(TOKENS.size, context=64, width=width, depth=2, heads=2, theta=30.0), TOKENS)
    for weight in model.parameters():
        if weight.ndim == 2:
            weight.data = torch.randn_like(weight) * 0.25
    return model


def test_the_loss_is_equation_5_by_hand():
    """Masked response tokens over t, divided by the response's whole length, end-of-text that fills it up
    included."""
    model = random_model()
    examples = Examples([pair("a", "xy"), pair("bcd", "uvwxyz")], TOKENS, 48)
    generator = torch.Generator().manual_seed(2)
    batch = next(
        b
        for b in iter(lambda: tuning_batches(examples, 4, "t", "independent")(generator), None)
        if len(set(b.known.sum(1).tolist())) > 1
    )
    loss = float(text_loss(model, batch)[0].detach())
    by_hand = []
    for ids, known, uniform, t in zip(batch.ids, batch.known, batch.uniform, batch.t, strict=True):
        masked = ~known & (uniform < t)
        logits = model.denoiser(ids.masked_fill(masked, TOKENS.mask_id)[None], t[None]).logits[0].detach()
        logits[:, TOKENS.mask_id] = float("-inf")
        nats = F.cross_entropy(logits, ids, reduction="none")
        by_hand.append(float(nats[masked].sum()) / float(t) / int((~known).sum()))
        assert int((ids == TOKENS.eos_id).sum()) > 1
    assert loss == pytest.approx(sum(by_hand) / len(by_hand), rel=1e-4)


@pytest.mark.parametrize(("form", "times"), [("l", "stratified"), ("t", "stratified"), ("t", "antithetic")])
def test_prompts_are_never_masked_and_both_forms_have_one_mean(form, times, generator):
    model, seen = random_model(), []
    examples = Examples([pair("a", "x"), pair("bcd", "uvwxyz")], TOKENS, 48)
    reference = tuning_batches(examples, 64, "t", "independent")
    with torch.no_grad():
        wanted = torch.tensor([float(text_loss(model, reference(generator))[0]) for _ in range(12)])
        model.denoiser.network.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        draw, found = tuning_batches(examples, 64, form, times), []
        for _ in range(12):
            batch = draw(generator)
            found.append(float(text_loss(model, batch)[0]))
            assert torch.equal(seen[-1][batch.known], batch.ids[batch.known]) and bool(
                (seen[-1] == TOKENS.mask_id).any()
            )
    spread = float((wanted.var() / 12 + torch.tensor(found).var() / 12) ** 0.5)
    assert sum(found) / 12 == pytest.approx(float(wanted.mean()), abs=4 * spread)
    if form == "l":
        total = (~batch.known).sum(1)
        assert bool((batch.masks >= 1).all()) and bool((batch.masks <= total).all())
        share = (batch.masks / total).sort().values  # evenly: one in each 64th, to the rounding of counts
        assert float((share - torch.arange(1, 65) / 64).abs().max()) < 0.2


def test_antithetic_batches_are_even():
    with pytest.raises(ValueError, match="must be even"):
        tuning_batches(Examples([pair("a", "b")], TOKENS, 48), 3, "t", "antithetic")


@pytest.fixture(scope="module")
def tuned() -> TextModel:
    """Trained to answer one letter by as many of the next: a -> b, b -> cc, c -> ddd."""
    model = random_model()
    draw = tuning_batches(Examples([pair("a", "b"), pair("b", "cc"), pair("c", "ddd")], TOKENS, 48), 12)
    optimizer, generator = (
        torch.optim.AdamW(model.parameters(), weight_decay=0.0),
        torch.Generator().manual_seed(0),
    )
    for step in range(100):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / 100)
        loss, _ = text_loss(model, draw(generator))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def test_answers_end_where_they_were_learned_to_and_stop_the_sampler(tuned):
    chats = [[Turn("user", letter)] for letter in ("c", "a", "b")]
    done = answer(tuned, chats, TextSettings(length=16, steps=16, block=4))
    assert done.texts == ["ddd", "b", "cc"] and done.tokens == 6
    assert done.ended == [True] * 3
    assert answer(tuned, chats, TextSettings(length=2, steps=2)).ended == [
        False,
        True,
        False,
    ]  # no room for the end
    assert done.calls == 4  # the first block of 4 has every end: 12 of 16 calls are saved


def test_chats_of_different_lengths_are_what_they_are_alone():
    model = random_model()
    chats = [
        [Turn("user", "a")],
        [Turn("system", "be"), Turn("user", "longer")],
        [Turn("user", "a b"), Turn("assistant", "c"), Turn("user", "d")],
    ]
    settings = TextSettings(length=8, steps=8, block=4, stop=False)
    together = answer(model, chats, settings).texts
    assert (
        together == [answer(model, [chat], settings).texts[0] for chat in chats] and len(set(together)) == 3
    )
