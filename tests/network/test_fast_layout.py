"""A fast layout is the network of the weights as they are now, however they were changed, copied or saved; a
trace has no frozen time."""

import copy
import io

import pytest
import torch

from unveil.network.inference_layout import Watch
from unveil.planning.networks.temporal_unet import TemporalUNet, ValueNetwork
from unveil.planning.networks.temporal_unet_inference import FastUNet, FastValue

TIME = torch.full((2,), 7.0)


@pytest.fixture
def x():
    return torch.randn(2, 8, 3, generator=torch.Generator().manual_seed(0))


def unet():
    torch.manual_seed(0)
    return TemporalUNet(3, 8, (1, 2)).eval()


def value():
    torch.manual_seed(0)
    return ValueNetwork(3, 16, (1, 2)).eval()


def by_optimizer(plain):
    for weight in plain.parameters():
        weight.grad = torch.ones_like(weight)
    torch.optim.Adam(plain.parameters(), 0.05).step()


def by_data(plain):
    for weight in plain.parameters():
        weight.data.mul_(1.3)


def by_numpy(plain):
    for weight in plain.parameters():
        weight.detach().numpy()[...] *= 1.3


def by_replaced_memory(plain):
    for weight in plain.parameters():
        weight.data = weight.data * 1.3


def by_a_new_parameter(plain):
    plain.time[0].weight = torch.nn.Parameter(plain.time[0].weight.detach() * 1.3)


def by_a_new_module(plain):
    plain.time[2] = torch.nn.Linear(plain.time[2].in_features, plain.time[2].out_features)


def by_loading(plain):
    plain.load_state_dict({name: 1.3 * weight for name, weight in plain.state_dict().items()})


def in_inference_mode(plain):
    with torch.inference_mode():
        for weight in plain.parameters():
            weight.mul_(1.3)


CHANGES = [
    by_optimizer,
    by_data,
    by_numpy,
    by_replaced_memory,
    by_a_new_parameter,
    by_a_new_module,
    by_loading,
    in_inference_mode,
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("make", "fast"), [(unet, FastUNet), (value, FastValue)])
@torch.no_grad()
def test_changed_weights_act_at_once(change, make, fast, x):
    plain = make()
    laid = fast(plain)
    before = laid(x, TIME)
    torch.testing.assert_close(before, plain(x, TIME), rtol=1e-4, atol=1e-5)
    change(plain)
    after = laid(x, TIME)
    assert (after - before).abs().max() > 1e-3, "the change matters"
    torch.testing.assert_close(after, plain(x, TIME), rtol=1e-4, atol=1e-5)


def test_a_watch_says_no_while_nothing_changes():
    watch = Watch(unet())
    assert watch.changed() and not watch.changed() and not watch.changed()
    watch.forget()
    assert watch.changed() and not watch.changed()


@pytest.mark.parametrize(("make", "fast"), [(unet, FastUNet), (value, FastValue)])
def test_training_what_acts(make, fast, x):
    plain, laid = make(), fast(make())
    with torch.no_grad():
        laid(x, TIME)
    for training in (True, False):
        laid.train(training).zero_grad()
        plain.zero_grad()
        laid(x, TIME).square().sum().backward()
        plain(x, TIME).square().sum().backward()
        for weight, other in zip(plain.parameters(), laid.parameters(), strict=True):
            torch.testing.assert_close(other.grad, weight.grad)


@pytest.mark.parametrize(("make", "fast"), [(unet, FastUNet), (value, FastValue)])
@torch.no_grad()
def test_copies_have_their_own_weights(make, fast, x):
    laid = fast(make())
    before = laid(x, TIME)
    twin = copy.deepcopy(laid)
    by_data(laid)
    torch.testing.assert_close(twin(x, TIME), before)
    by_data(twin)
    torch.testing.assert_close(twin(x, TIME), laid(x, TIME))
    buffer = io.BytesIO()
    torch.save(laid, buffer)
    buffer.seek(0)
    torch.testing.assert_close(torch.load(buffer, weights_only=False)(x, TIME), laid(x, TIME))


@torch.no_grad()
def test_weights_are_saved_under_the_plain_names_and_read_under_both(x):
    plain, laid = unet(), FastUNet(unet())
    both = torch.nn.ModuleDict({"network": laid, "plainer": torch.nn.Linear(1, 1)})
    assert list(laid.state_dict()) == list(plain.state_dict())
    assert set(both.state_dict()) == {
        "plainer.weight",
        "plainer.bias",
        *(f"network.{name}" for name in plain.state_dict()),
    }
    changed = {name: 1.3 * weight for name, weight in plain.state_dict().items()}
    for prefix in ("network.", "network.plain."):
        by_data(laid)
        both.load_state_dict({prefix + name: weight for name, weight in changed.items()}, strict=False)
        torch.testing.assert_close(laid.state_dict(), changed)
    with pytest.raises(RuntimeError, match="Missing"):
        laid.load_state_dict({})


@pytest.mark.parametrize(("make", "fast"), [(unet, FastUNet), (value, FastValue)])
@pytest.mark.filterwarnings("ignore")
@torch.no_grad()
def test_a_trace_is_the_same_function_of_the_time(make, fast, x):
    plain, laid = make(), fast(make())
    laid(x, TIME)
    traced = torch.jit.trace(laid, (x, TIME), check_trace=False)
    for time in (TIME, 0.0 * TIME, 2.0 * TIME):
        torch.testing.assert_close(traced(x, time), plain(x, time))


def test_no_time_is_frozen_by_a_compilation(x):
    laid = FastUNet(unet())
    with torch.no_grad():
        laid(x, TIME)
        program = torch.export.export(laid, (x, TIME)).module()
        torch.testing.assert_close(program(x, 2.0 * TIME), unet()(x, 2.0 * TIME))
