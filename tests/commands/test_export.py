"""`unveil export`: graphs that equal the library, at other batches and horizons, and run without unveil."""

import json
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch

import unveil
from unveil.cli import main
from unveil.commands.export import (
    TOLERANCE,
    Export,
    _onnx_runner,
    _torch_runner,
    compared,
    export,
    offered,
    onnx_bytes,
    recorded,
    torch_bytes,
)
from unveil.errors import UnveilError
from unveil.planning.diffuser import Diffuser, maze_shape
from unveil.planning.guided_planner import GuidedPlanner
from unveil.planning.guided_planner_settings import GuidedSettings
from unveil.planning.networks.trajectory_transformer import SequenceTransformer, SequenceValue
from unveil.planning.path_model import PathModel, PathModelShape
from unveil.planning.planner import Planner
from unveil.planning.trajectory_model import TrajectoryModel, TrajectoryShape, ValueModel
from unveil.planning.value_guidance import belief_shift, unguided, value_at
from unveil.policy.model import PolicyModel, PolicyShape, fast_policy
from unveil.policy.networks.conditional_unet1d import ConditionalUNet
from unveil.policy.networks.observation import ObservationEncoder, Part
from unveil.policy.networks.transformer import PolicyTransformer
from unveil.policy.policy import Policy
from unveil.runs.exported import Sampling
from unveil.sampling.gaussian import DDIM, Ancestral
from unveil.text.data.tokens import ByteTokens
from unveil.text.model import TextModel
from unveil.text.shape import TextShape

OUT = Path("model.pt2")


def shaken(model, seed=0):
    """With random weights everywhere, so that no part of the network is 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=generator))
    return model


def policy(kind="film", solver=DDIM, steps=2, **settings):
    torch.manual_seed(0)
    parts = (Part("state", (3,)), Part("wrist", (3, 40, 40), 0, (36, 36))) if kind == "pictures" else ()
    observations = 3 + 3 * 40 * 40 if parts else 3
    condition = {"pictures": "film"}.get(kind, kind)
    shape = PolicyShape(observations, 2, 2, 8, 4, 10, "v", condition, parts=parts)
    encoder = ObservationEncoder(parts, 4, width=16) if parts else None
    vector = {"tokens": 0, "inpainting": 0}.get(kind, 2 * (encoder.size if encoder else 3))
    network = (
        PolicyTransformer(2, 8, 3, 2, 16, 1, 2)
        if kind == "tokens"
        else ConditionalUNet(shape.row, vector, (8, 16), 3, 8)
    )
    model = PolicyModel(shape, network, encoder)
    generator = np.random.default_rng(0)
    model.observed.learn(generator.uniform(-3, 50, (9, 3)), "limits")
    model.acted.learn(generator.uniform(-20, 90, (9, 2)), "limits")
    model = fast_policy(shaken(model).eval())
    return Policy(model, solver(model.denoiser.schedule), steps, **settings)


def paths():
    torch.manual_seed(0)
    model = PathModel(PathModelShape(patch=4, width=16, depth=1, heads=2, longest=16))
    model.mean.copy_(torch.tensor([3.0, -2.0]))
    model.deviation.copy_(torch.tensor([2.0, 1.5]))
    model.support.fill_(1)
    model.support_bin.fill_(0.01)
    return Planner(shaken(model))


def trajectories(guided=False, sharpness=None, ask=None, scale=1.0, solver=DDIM, steps=1):
    torch.manual_seed(0)
    shape = TrajectoryShape(8, 10, 2, 3, 16, returns=ask is not None)
    model = TrajectoryModel(shape, SequenceTransformer(5, 16, 1, 2, 4, condition=2 if shape.returns else 0))
    value = shaken(ValueModel(shape, SequenceValue(5, 16, 1, 2, 4)), 1)
    model.normalization.learn(np.random.default_rng(0).uniform(-4, 9, (20, 5)), "limits")
    schedule = model.denoiser.schedule
    form = belief_shift(value, schedule, DDIM(schedule), 0.5) if guided else unguided(solver(schedule))
    settings = GuidedSettings(
        candidates=3, steps=steps, ask=ask, ask_scale=scale, sharpness=sharpness, temperature=1.0
    )
    return GuidedPlanner(shaken(model), form, value_at(value, 0.0), settings)


def diffuser():
    torch.manual_seed(0)
    model = TrajectoryModel(maze_shape(8, 3, 8, (1, 2)))
    model.normalization.learn(np.random.default_rng(0).uniform(-4, 9, (20, 6)), "limits")
    return Diffuser(shaken(model))


def text(**more):
    torch.manual_seed(0)
    tokens = ByteTokens()
    return TextModel(TextShape(tokens.size, 24, 16, 1, 2, **more), tokens)


def image():
    from unveil.image.model import ImageModel
    from unveil.image.shape import ImageShape

    torch.manual_seed(0)
    shape = ImageShape(8, 1, 3, True, 16, (1, 2), attention=(4,), schedule="cosine", predicts="v")
    return shaken(ImageModel(shape))


MODELS = {
    "policy": policy,
    "transformer policy": lambda: policy("tokens"),
    "inpainting policy": lambda: policy("inpainting"),
    "pictures": lambda: policy("pictures", steps=1),
    "stochastic policy": lambda: policy("tokens", solver=Ancestral, steps=3),
    "paths": paths,
    "trajectories": lambda: trajectories(ask=1.0, scale=2.0),
    "mean of candidates": lambda: trajectories(sharpness=2.0, solver=Ancestral, steps=2),
    "diffuser": diffuser,
    "text": text,
    "causal text": lambda: text(causal=True),
    "image": image,
}


LONGER = ("policy", "paths", "trajectories")  # as ONNX graphs


def chosen(names, slow):
    """Parameters, of which some are slow."""
    return [pytest.param(name, marks=[pytest.mark.slow] if name in slow else []) for name in names]


@pytest.fixture(scope="module")
def programs():
    """Each model's offer, and its recorded program, recorded once."""
    made = {}

    def program(name):
        if name not in made:
            config = Export(name, OUT)
            it = offered(MODELS[name](), config)
            made[name] = it, recorded(it)
        return made[name]

    return program


def last(it, inputs):
    """The last output, of the module itself."""
    with torch.no_grad():
        result = it.module(*inputs.values())
    return result[-1] if isinstance(result, tuple) and len(it.outputs) < 3 else result[0]


@pytest.mark.parametrize("name", chosen(MODELS, ("diffuser", "mean of candidates")))
def test_the_program_is_the_library(programs, name):
    it, program = programs(name)
    measured = compared(it, _torch_runner(torch_bytes(program, it), it))
    assert measured.error <= TOLERANCE
    first, second = it.draw(1), it.draw(2)
    assert not torch.equal(last(it, first), last(it, second)[:1])


@pytest.mark.parametrize(
    "name", chosen(("transformer policy", "policy", "paths", "trajectories", "text", "image"), LONGER)
)
def test_the_onnx_graph_is_the_library_without_unveil(programs, name, tmp_path):
    """Another process with numpy and onnxruntime alone runs the file; nothing of this machine is in it."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    it, program = programs(name)
    data = onnx_bytes(program, it)
    assert compared(it, _onnx_runner(data, it, 1)).error <= TOLERANCE
    assert b"site-packages" not in data and b"/src/unveil/" not in data
    (tmp_path / "model.onnx").write_bytes(data)
    inputs = it.draw(2)
    np.savez(tmp_path / "inputs.npz", **{key: value.numpy() for key, value in inputs.items()})
    code = """
import json, sys, numpy as np, onnxruntime
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
print(json.loads(session.get_modelmeta().custom_metadata_map["unveil"])["kind"])
np.savez("outputs.npz", *session.run(None, dict(np.load("inputs.npz"))))
assert not {"unveil", "torch"} & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == it.described["kind"]
    outputs = np.load(tmp_path / "outputs.npz")
    for got, wanted in zip(outputs.values(), it.library(inputs), strict=True):
        scale = max(1.0, float(wanted.abs().max()))
        np.testing.assert_allclose(got, wanted.numpy(), rtol=0, atol=TOLERANCE * scale)


def test_the_horizon_is_dynamic_where_the_network_allows(programs):
    """A chunk of 12 actions by a graph that was recorded at 8, as the module computes it itself."""
    it, program = programs("policy")
    inputs = it.draw(2)
    longer = inputs["observations"], torch.randn((2, 12, 2), generator=torch.Generator().manual_seed(0))
    run = _torch_runner(torch_bytes(program, it), it)
    (got,) = run(dict(zip(inputs, longer, strict=True)))
    with torch.no_grad():
        torch.testing.assert_close(got, it.module(*longer), rtol=0.0, atol=90 * TOLERANCE)
    assert got.shape == (2, 12, 2)
    assert "horizon" not in str(offered(policy("tokens"), Export("p", OUT)).axes)


def test_steps_and_solver_are_those_that_are_asked(monkeypatch):
    few = offered(policy(), Export("p", OUT, sampling=Sampling(steps=5)))
    assert (few.described["steps"], few.described["solver"]) == (5, "DDIM")
    other = offered(policy(), Export("p", OUT, sampling=Sampling("ddpm", 3)))
    assert other.draw(1)["noise"].shape == (1 + 2, 1, 8, 2), "the step to t = 0 draws no noise"
    wanted = policy(solver=Ancestral, steps=3)
    inputs = other.draw(2)
    torch.testing.assert_close(
        other.library(inputs)[0],
        torch.from_numpy(wanted.predict(inputs["observations"].numpy(), noise=inputs["noise"])).float(),
    )
    with pytest.raises(ValueError, match="`solver=consistency` is for distilled students"):
        offered(policy(), Export("p", OUT, sampling=Sampling("consistency")))
    with pytest.raises(ValueError, match="`steps` and `solver` are for policies"):
        offered(text(), Export("p", OUT, sampling=Sampling(steps=3)))


def test_what_a_graph_cannot_hold_is_refused():
    with pytest.raises(UnveilError, match="gradient of a value"):
        offered(trajectories(guided=True), Export("p", OUT))
    steered = policy()
    steered.steer = lambda denoise: denoise
    with pytest.raises(UnveilError, match="steer"):
        offered(steered, Export("p", OUT))
    with pytest.raises(UnveilError, match="p is a Linear, which cannot be exported"):
        offered(torch.nn.Linear(1, 1), Export("p", OUT))


def test_the_command_line(tmp_path, monkeypatch, capsys):
    """The file tells of itself, is replaced only if unveil made it, and its ending says the format."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("unveil.loading.load", lambda name, device: policy("tokens"))
    assert main(["export", "mine", "policy.pt2", "--steps", "1", "--threads", "1"]) == 0
    said = capsys.readouterr().out
    assert "policy.pt2: " in said and "largest difference from the library" in said and " ms" in said
    program = torch.export.load("policy.pt2", extra_files=(extra := {"unveil.json": ""}))
    assert json.loads(extra["unveil.json"])["executed_rows"] == [1, 5]
    assert "unveil/src" not in str(program.graph) and zipfile.is_zipfile("policy.pt2")
    assert main(["export", "mine", "policy.pt2", "--steps", "1"]) == 0
    assert capsys.readouterr().out
    (tmp_path / "notes.pt2").write_text("mine")
    for words, wanted in (
        (["notes.pt2"], "was not made by unveil"),
        (["policy.txt"], "the file must end in .pt2 or .onnx"),
        (["policy.pt2", "--format", "onnx"], "the file must end in .onnx"),
        (["policy.pt2", "--steps", "11"], "10"),
    ):
        assert main(["export", "mine", *words]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and wanted in error, error
    assert (tmp_path / "notes.pt2").read_text() == "mine"


def test_a_graph_that_differs_is_not_written(tmp_path, monkeypatch):
    def wrong(*_):
        it = offered(text(), Export("p", OUT))
        return it._replace(library=lambda inputs: tuple(1.001 * out for out in it.library(inputs)))

    monkeypatch.setattr("unveil.loading.load", lambda name, device: text())
    monkeypatch.setattr("unveil.commands.export.offered", wrong)
    with pytest.raises(UnveilError, match="differs from the library by"):
        export(Export("mine", tmp_path / "policy.pt2"))
    assert not (tmp_path / "policy.pt2").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_tracing_by_hand_freezes_no_time():
    """A traced network, and a traced denoiser, are right for every t; guidance in an interval refuses."""
    from unveil.sampling.guidance import Branch, cfg

    acting = policy()
    acting.act(np.full((1, 3), 2.0))
    denoiser = acting.model.denoiser
    cond = acting.model.condition(torch.ones(1, 2, 3))

    class Flat(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.denoiser = denoiser

        def forward(self, x, t):
            return self.denoiser(x, t, cond).mean

    x = torch.randn((1, 8, 2), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        traced = torch.jit.trace(Flat(), (x, torch.tensor([0.9], dtype=torch.float64)), check_trace=False)
        for time in (0.9, 0.5, 0.1):
            t = torch.tensor([time], dtype=torch.float64)
            torch.testing.assert_close(traced(x, t), denoiser(x, t, cond).mean)
        guided = cfg(denoiser, Branch(cond), Branch(cond), 2.0, interval=(0.2, 0.8))
        with pytest.raises(ValueError, match="would keep one t"):
            torch.jit.trace(lambda x, t: guided(x, t).mean, (x, torch.tensor([0.5], dtype=torch.float64)))


def test_the_archive_of_torch_has_no_paths_of_this_machine(programs):
    it, program = programs("policy")
    archive = zipfile.ZipFile(BytesIO(torch_bytes(program, it)))
    whole = b"".join(archive.read(name) for name in archive.namelist())
    assert b"site-packages" not in whole and unveil.__file__.encode() not in whole
