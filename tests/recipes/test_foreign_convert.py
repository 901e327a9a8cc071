"""Other people's diffusion policies act here: whole decisions against the original's numbers and the published loop, written out."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import unveil
from foreign_policies import drawn, filled, golden, unpacked
from unveil.cli import main
from unveil.network.condition import Condition
from unveil.process.schedule import cosine_betas
from unveil.weights.diffusion_policy import read_policy
from unveil.weights.lerobot import read_policy_folder
from unveil.weights.policies import model_of


def lerobot(folder):
    it = golden("lerobot_state")
    folder.mkdir(exist_ok=True)
    save_file(filled(it["shapes"]), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(it["config"]))
    return folder


@pytest.mark.parametrize("name", ["cnn", "transformer"])
@pytest.mark.parametrize("weights", ["raw", "averaged"])
def test_a_decision_of_one_step_has_the_originals_numbers(tmp_path, monkeypatch, name, weights):
    """The golden output of the network at times 3 and 77, through observation, belief, clipping and pixels: (x - sigma eps) / alpha."""
    wanted, (x, observed) = golden(name), drawn((2, 8, 2), (2, 2, 5))
    alpha_bar = (1 - cosine_betas(100)).cumprod(0)
    limits = read_policy(unpacked(name, tmp_path)).normalization["action"]
    monkeypatch.setattr("unveil.apps.policy.normal_like", lambda like, generator: x.clone())
    for row, index in enumerate((3, 77)):
        policy = unveil.load(unpacked(name, tmp_path), "cpu", raw=weights == "raw")
        policy.times = torch.tensor([(index + 1) / 100, 0.0], dtype=torch.float64)
        chunks = policy.predict((observed * 200 + 256).numpy())
        belief = (x[row] - (1 - alpha_bar[index]) ** 0.5 * wanted[weights][row]) / alpha_bar[index] ** 0.5
        there = limits.raw(belief.clamp(-1, 1)).numpy()
        np.testing.assert_allclose(chunks[row], there, atol=2e-3)  # pixels of 512
        assert np.abs(there).max() > 1


@pytest.mark.parametrize("kind", ["cnn", "transformer", "lerobot"])
def test_a_whole_decision_is_the_published_loop(tmp_path, kind):
    """DDPM in all steps: clipped x_0, mean of the posterior, variance beta (1 - abar') / (1 - abar), the same noise; then units undone."""
    path = lerobot(tmp_path / "l") if kind == "lerobot" else unpacked(kind, tmp_path)
    read = read_policy_folder(path) if kind == "lerobot" else read_policy(path)
    it, steps, count = read.described, 100, 3
    policy = unveil.load(path, "cpu", seed=5, solver="ddpm", sampling_steps=steps)
    shape = policy.model.shape
    observed = 100 * drawn((count, shape.n_obs, shape.observations))[0] + (0 if kind == "lerobot" else 256)
    chunks = policy.predict(observed.numpy())

    model = model_of(it).eval()
    model.load_state_dict(read.raw if read.averaged is None else read.averaged)
    first, parts = 0, []
    for part in it.parts:
        parts.append(read.normalization[part.key].normalized(observed[..., first : first + part.shape[0]]))
        first += part.shape[0]
    told = torch.cat(parts, dim=-1)
    cond = Condition(vector=told.flatten(1), tokens=told)
    betas = cosine_betas(steps)
    alpha_bar = torch.cat([torch.ones(1, dtype=torch.float64), (1 - betas).cumprod(0)]).tolist()
    generator = torch.Generator().manual_seed(5)
    x = torch.randn((count, shape.horizon, shape.actions), generator=generator)
    with torch.no_grad():
        for k in range(steps, 0, -1):
            now, after, beta = alpha_bar[k], alpha_bar[k - 1], float(betas[k - 1])
            eps = model["network"](x, torch.full((count,), k - 1.0), cond)
            x_0 = ((x - (1 - now) ** 0.5 * eps) / now**0.5).clamp(-1, 1)
            mean = after**0.5 * beta / (1 - now) * x_0 + (1 - beta) ** 0.5 * (1 - after) / (1 - now) * x
            x = mean if k == 1 else mean + (beta * (1 - after) / (1 - now)) ** 0.5 * torch.randn(x.shape, generator=generator)
    there = read.normalization["action"].raw(x).numpy()
    np.testing.assert_allclose(chunks, there, atol=1e-4 * np.abs(there).max())
    assert there.std() > 0.01


@pytest.mark.parametrize("kind", ["cnn", "transformer", "lerobot"])
def test_a_converted_run_decides_as_the_file_itself(tmp_path, kind, capsys):
    path = lerobot(tmp_path / "l") if kind == "lerobot" else unpacked(kind, tmp_path)
    out = tmp_path / "run"
    assert main(["weights", "convert", str(path), str(out)]) == 0
    said = capsys.readouterr().out
    assert "averaged weights" in said if kind != "lerobot" else "raw weights" in said
    policies = [unveil.load(place, "cpu", seed=1, sampling_steps=4) for place in (path, out)]
    seen = drawn((2, policies[0].model.shape.observations))[0].numpy() + 100
    np.testing.assert_array_equal(policies[0].act(seen), policies[1].act(seen))
    assert main(["weights", "convert", str(path), str(out)]) == 0  # again: the same
    (out / "config.json").write_text("{}")
    assert main(["weights", "convert", str(path), str(out)]) == 2
    assert "something else is there" in capsys.readouterr().err


def test_a_number_that_never_changed_stays_finite(tmp_path):
    """LeRobot divides by 1e-8 there; at the recorded value both see -1."""
    it = golden("lerobot_state")
    tensors = filled(it["shapes"])
    low, high = ("normalize_inputs.buffer_observation_state.min", "normalize_inputs.buffer_observation_state.max")
    assert low in tensors and high in tensors
    tensors[high] = tensors[low].clone()
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(it["config"]))
    policy = unveil.load(tmp_path, "cpu", sampling_steps=2)
    seen = torch.zeros(1, policy.model.shape.observations)
    seen[:, :2] = tensors[low].reshape(-1)
    torch.testing.assert_close(policy.model.observed.normalized(seen)[0, :2], torch.full((2,), -1.0))
    assert np.isfinite(policy.act(np.ones((1, policy.model.shape.observations)))).all()


def test_what_cannot_act_is_one_line(tmp_path, capsys):
    it = golden("lerobot_image")
    save_file(filled(it["shapes"]), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(it["config"]))
    with pytest.raises(unveil.UnveilError, match="sees images"):
        unveil.load(tmp_path)
    assert main(["weights", "convert", str(tmp_path), str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "sees images" in line and not (tmp_path / "out").exists()
    assert main(["weights", "convert", str(unpacked("cnn", tmp_path)), str(tmp_path / "out"), "--dataset", "x"]) == 2
    assert "normaliser with it" in capsys.readouterr().err
    (tmp_path / "no.ckpt").write_bytes(b"PK\x03\x04")
    with pytest.raises(unveil.UnveilError, match="no code in it was run"):
        unveil.load(tmp_path / "no.ckpt")


def test_a_policy_for_other_observations_is_not_scored_on_pusht(tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["weights", "convert", str(lerobot(tmp_path / "l")), str(out)]) == 0
    assert main(["eval", "pusht", "--checkpoint", str(out), "--episodes", "1", "--device", "cpu"]) == 2
    assert "other observations than PushT's" in capsys.readouterr().err


def test_inspect_says_whether_it_can_act(tmp_path, capsys):
    assert main(["weights", "inspect", str(unpacked("cnn", tmp_path))]) == 0
    assert "as a policy   yes: unveil.load(PATH)" in capsys.readouterr().out
