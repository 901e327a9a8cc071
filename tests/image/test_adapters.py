"""Adapters of image models: kohya's layers of Stable Diffusion, an unchanged model at first, gradients in the
adapters alone, and the merged weights."""

import pytest
import torch

from prompted_models import batch, small, words
from unveil.image.adapters import AdapterShape, adapted_layers, add_adapters, settle, updates
from unveil.image.model import ImageModel
from unveil.image.networks.clip import STABLE_DIFFUSION_1, ClipText
from unveil.image.networks.unet2d import UNet2d, UNet2dShape
from unveil.image.prompts.text_conditioning import TextConditioning
from unveil.image.shape import ImageShape
from unveil.image.training import image_loss
from unveil.image.weights.lora_layers import layers_of
from unveil.image.weights.lora_names import kohya_table
from unveil.network.lora import adapted

STABLE_DIFFUSION = UNet2dShape(
    4,
    320,
    (1, 2, 4, 4),
    2,
    (0, 1, 2),
    norm_epsilon=1e-5,
    heads=8,
    cosine_first=True,
    inclusive=False,
    context=768,
    cross="transformer",
)


def full_size() -> ImageModel:
    """Stable Diffusion 1 without numbers."""
    with torch.device("meta"):
        network, encoder = UNet2d(STABLE_DIFFUSION), ClipText(STABLE_DIFFUSION_1)
    text = TextConditioning(words().tokenizer, encoder, pooled=False, frozen=True)
    shape = ImageShape(64, 4, attention=(), groups=32, stem=1, context=768, width=320)
    return ImageModel(shape, network, text)


@pytest.mark.parametrize(
    ("shape", "unet", "text"),
    [
        (AdapterShape(), 128, 0),
        (AdapterShape(layers="transformer", text_encoder=True), 192, 72),
        (AdapterShape(layers="transformer", conv_rank=8), 278, 0),
    ],
)
def test_the_layers_of_stable_diffusion_are_those_of_kohya_and_diffusers(shape, unet, text):
    """diffusers: 4 of each of 32 attentions; kohya: 192, with LoCon 278, of the text encoder 72; rank 4 on
    the 192 has 1,695,744 numbers."""
    model = full_size()
    layers = adapted_layers(model, shape)
    assert (len(layers["unet"]), len(layers["text_encoder"])) == (unet, text)
    network, encoder = model.denoiser.network, model.text.network
    names = layers_of(network, encoder)
    table = {place: name for name, place in kohya_table(names).items()}
    for part, found in layers.items():
        theirs = {ours: name for name, ours in names.ours(part).items()}
        assert all((part, theirs[path]) in table for path in found)
    convolutions = [lora for lora in layers["unet"].values() if lora.rank == 8]
    assert len(convolutions) == (50 if shape.conv_rank else 0)
    if unet == 192:
        tree = add_adapters(model, layers)
        assert sum(p.numel() for p in tree.get_submodule("unet").parameters()) == 1_695_744


@pytest.mark.parametrize("shape", [AdapterShape(), AdapterShape(conv_rank=2, text_encoder=True, alpha=1.0)])
def test_adapters_change_nothing_at_first_and_alone_have_gradients(shape):
    model = small()
    data, cpu = batch(model), torch.device("cpu")
    x, time = torch.ones(1, 1, 8, 8), torch.ones(1)
    with torch.no_grad():
        wanted, _ = image_loss(model, data)
        cond = model.text(["a red cat"], cpu)
        before = model.denoiser.network(x, time, cond)
    tree = add_adapters(model, adapted_layers(model, shape))
    with torch.no_grad():
        assert torch.equal(model.text(["a red cat"], cpu).tokens, cond.tokens)
        assert torch.equal(model.denoiser.network(x, time, cond), before)
    loss, _ = image_loss(model, data)
    torch.testing.assert_close(loss.detach(), wanted)
    loss.backward()
    own = {id(p) for p in tree.parameters()}
    for name, weight in model.named_parameters():
        assert (weight.grad is not None) == (id(weight) in own), name
    for name, weight in tree.named_parameters():
        assert bool(weight.grad.any()) == ("lora_B" in name), name  # of A it is 0 while B is


def test_merged_weights_are_the_base_plus_the_update():
    """W + alpha / rank B A for linear layers; convolutions of another rank have the same scale."""
    model, base = small(), small()
    layers = adapted_layers(model, AdapterShape(rank=3, alpha=1.5, conv_rank=2))
    tree = add_adapters(model, layers)
    with torch.no_grad():
        for weight in tree.parameters():
            weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel())))
    found = updates(layers, tree.state_dict())
    settle(model)
    assert not any(True for _ in adapted(model.denoiser.network))
    for path, update in found["unet"].items():
        b, a = update.up.flatten(1).double(), update.down.flatten(1).double()
        before = base.denoiser.network.get_submodule(path).weight
        wanted = before.double() + 0.5 * (b @ a).reshape(before.shape)
        now = model.denoiser.network.get_submodule(path).weight
        torch.testing.assert_close(now, wanted.float(), atol=1e-6, rtol=0)
        assert update.rank == (2 if update.down.shape[2:] == (3, 3) else 3)
    assert {update.scale for update in found["unet"].values()} == {0.5}


def test_a_picture_is_learned_by_the_adapters_alone():
    """AdamW on the same noisy pictures: their loss falls, and no weight of the base moves."""
    model = small()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    data = batch(model)
    tree = add_adapters(model, adapted_layers(model, AdapterShape(rank=4, conv_rank=4)))
    optimizer, losses = torch.optim.AdamW(tree.parameters(), 1e-2), []
    for _ in range(40):
        loss, _ = image_loss(model, data)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0], losses[::10]
    after = {name.replace(".base.", "."): value for name, value in model.state_dict().items()}
    assert all(torch.equal(after[name], weight) for name, weight in before.items())


def test_what_has_no_text_or_other_networks_is_refused():
    shape = ImageShape(8, 1, width=8, multiples=(1, 2), attention=(4,), groups=4, diffusion_steps=25)
    with pytest.raises(ValueError, match="read text, and this model does not"):
        adapted_layers(ImageModel(shape), AdapterShape())
