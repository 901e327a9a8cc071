"""benchmarks/unet_step.py: both networks answer alike, and take turns."""

import pytest
import torch

import unet_step


def test_both_have_the_same_weights_and_answer_alike():
    pytest.importorskip("diffusers")
    networks = unet_step.pair(unet_step.TINY, torch.float32)
    it = unet_step.inputs(unet_step.TINY, torch.float32, tokens=5)
    ours, theirs = (unet_step.step(who, networks[who], it) for who in unet_step.WHO)
    assert float(theirs.abs().max()) > 0.1 and torch.allclose(ours, theirs, atol=1e-4)
    places = [{weight.data_ptr() for weight in network.parameters()} for network in networks.values()]
    assert places[0] == places[1], "in the same memory"


def test_calls_take_turns_in_reverse_order_every_second_round():
    order, now = [], [0.0, 0.0]

    def call(who, wall, core):
        def work():
            order.append(who)
            now[0] += wall
            now[1] += core

        return work

    calls = {"a": call("a", 1.0, 2.0), "b": call("b", 3.0, 5.0)}
    spent = unet_step.timed(calls, 3, (lambda: now[0], lambda: now[1]))
    assert "".join(order) == "ab" + "ab" + "ba" + "ab"
    assert spent == {"a": [(1.0, 2.0)] * 3, "b": [(3.0, 5.0)] * 3}, "the first of each is not counted"


def test_the_full_size_is_stable_diffusion_1_5():
    network = unet_step.empty("unveil", unet_step.FULL)
    assert sum(weight.numel() for weight in network.parameters()) == 859_520_964


def test_memory_is_that_of_the_weights_and_a_step():
    found = unet_step.memory("unveil", unet_step.TINY, torch.float32)
    network = unet_step.empty("unveil", unet_step.TINY)
    weights = sum(4 * weight.numel() for weight in network.parameters()) / 2**30
    assert found["peak_gb"] > found["step_gb"] >= 0.0 and found["peak_gb"] > weights
