"""Other people's diffusion policies act here: whole decisions against the original's numbers and the
published loop, written out."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import unveil
from foreign_policies import drawn, filled, golden, keypoints, lerobot, unpacked
from foreign_policies import policy as foreign
from tolerance import golden_close
from unveil.cli import main
from unveil.network.condition import Condition
from unveil.policy.weights.description import model_of
from unveil.policy.weights.diffusion_policy import read_policy
from unveil.policy.weights.lerobot import read_policy_folder
from unveil.process.schedule import cosine_betas
from unveil.sampling.noise import generators


def flat(parts, count, steps, spread=100.0, middle=0.0):
    """Observations (count, steps, D): numbers about the middle, pixels 0 .. 255."""
    sizes = [math.prod(part.shape) for part in parts]
    pieces = drawn(*((count, steps, size) for size in sizes))
    return torch.cat(
        [
            x * spread + middle if p.encoder is None else (x + 1) * 127.5
            for p, x in zip(parts, pieces, strict=True)
        ],
        -1,
    )


@pytest.mark.parametrize("name", ["cnn", "transformer"])
@pytest.mark.parametrize("weights", ["raw", "averaged"])
def test_a_decision_of_one_step_has_the_originals_numbers(tmp_path, name, weights):
    """The golden output of the network at times 3 and 77, through observation, belief, clipping and pixels:
    (x - sigma eps) / alpha."""
    wanted, (x, observed) = golden(name), drawn((2, 8, 2), (2, 2, 5))
    alpha_bar = (1 - cosine_betas(100)).cumprod(0)
    limits = read_policy(unpacked(name, tmp_path)).normalization["action"]
    for row, index in enumerate((3, 77)):
        policy = unveil.load(
            unpacked(name, tmp_path), "cpu", raw=weights == "raw", temperature=0.5
        )  # of drawn noise alone
        policy.times = torch.tensor([(index + 1) / 100, 0.0], dtype=torch.float64)
        chunks = policy.predict((observed * 200 + 256).numpy(), noise=x.numpy())
        belief = (x[row] - (1 - alpha_bar[index]) ** 0.5 * wanted[weights][row]) / alpha_bar[index] ** 0.5
        there = limits.raw(belief.clamp(-1, 1)).numpy()
        golden_close(chunks[row], there, 1024)  # eps / alpha at index 77 is large
        assert np.abs(there).max() > 1


@pytest.mark.parametrize("kind", ["cnn", "transformer", "lerobot_state", "hybrid"])
def test_a_whole_decision_is_the_published_loop(tmp_path, kind):
    """DDPM in all steps: clipped x_0, mean of the posterior, variance beta (1 - abar') / (1 - abar), the same
    noise; then units undone."""
    path = foreign(kind, tmp_path)
    read = read_policy_folder(path) if path.is_dir() else read_policy(path)
    it, steps, count = read.described, 100, 3
    policy = unveil.load(path, "cpu", seed=5, solver="ddpm", sampling_steps=steps)
    shape = policy.model.shape
    observed = flat(it.parts, count, shape.n_obs, middle=256.0 if kind in ("cnn", "transformer") else 0.0)
    chunks = policy.predict(observed.numpy())

    model = model_of(it).eval()
    model.load_state_dict(read.raw if read.averaged is None else read.averaged)
    first, parts = 0, {}
    for part in it.parts:
        x = observed[..., first : first + math.prod(part.shape)].unflatten(-1, part.shape)
        parts[part.key] = read.normalization[part.key].normalized(
            x if part.encoder is None else x / 255
        )  # there in [0, 1]
        first += math.prod(part.shape)
    with torch.no_grad():
        told = model["observation"](parts)
    cond = Condition(vector=told.flatten(1), tokens=told)
    betas = cosine_betas(steps)
    alpha_bar = torch.cat([torch.ones(1, dtype=torch.float64), (1 - betas).cumprod(0)]).tolist()
    own = generators(5, count)  # each row has its own: seeds 5, 6, 7

    def noise():
        return torch.stack(
            [torch.randn((shape.horizon, shape.actions), generator=generator) for generator in own]
        )

    x = noise()
    with torch.no_grad():
        for k in range(steps, 0, -1):
            now, after, beta = alpha_bar[k], alpha_bar[k - 1], float(betas[k - 1])
            eps = model["network"](x, torch.full((count,), k - 1.0), cond)
            x_0 = ((x - (1 - now) ** 0.5 * eps) / now**0.5).clamp(-1, 1)
            mean = after**0.5 * beta / (1 - now) * x_0 + (1 - beta) ** 0.5 * (1 - after) / (1 - now) * x
            x = mean if k == 1 else mean + (beta * (1 - after) / (1 - now)) ** 0.5 * noise()
    there = read.normalization["action"].raw(x).numpy()
    golden_close(chunks, there, 2048)  # a hundred steps
    assert there.std() > 0.01


@pytest.mark.parametrize("kind", ["cnn", "transformer", "lerobot_state"])
def test_a_converted_run_decides_as_the_file_itself(tmp_path, kind, capsys):
    path = foreign(kind, tmp_path)
    out = tmp_path / "run"
    assert main(["weights", "convert", str(path), str(out)]) == 0
    said = capsys.readouterr().out
    assert "averaged weights" in said if kind in ("cnn", "transformer") else "raw weights" in said
    sees_pusht = kind in ("cnn", "transformer")
    assert json.loads((out / "config.json").read_text())["recipe"] == ("pusht" if sees_pusht else "policy")
    policies = [unveil.load(place, "cpu", seed=1, sampling_steps=4) for place in (path, out)]
    seen = drawn((2, policies[0].model.shape.observations))[0].numpy() * 50 + 100
    np.testing.assert_array_equal(policies[0].act(seen), policies[1].act(seen))
    assert main(["weights", "convert", str(path), str(out)]) == 0  # again: the same
    (out / "config.json").write_text("{}")
    assert main(["weights", "convert", str(path), str(out)]) == 2
    assert "something else is there" in capsys.readouterr().err


def test_a_number_that_never_changed_stays_finite(tmp_path):
    """LeRobot divides by 1e-8 there; at the recorded value both see -1."""
    it = golden("lerobot_state")
    tensors = filled(it["shapes"])
    low, high = (
        "normalize_inputs.buffer_observation_state.min",
        "normalize_inputs.buffer_observation_state.max",
    )
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
    folder = lerobot(tmp_path / "l", beta_schedule="linear")
    with pytest.raises(unveil.UnveilError, match="its schedule is linear"):
        unveil.load(folder)
    assert main(["weights", "convert", str(folder), str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "its schedule is linear" in line and not (tmp_path / "out").exists()
    assert (
        main(["weights", "convert", str(unpacked("cnn", tmp_path)), str(tmp_path / "out"), "--dataset", "x"])
        == 2
    )
    assert "normaliser with it" in capsys.readouterr().err
    (tmp_path / "no.ckpt").write_bytes(b"PK\x03\x04")
    with pytest.raises(unveil.UnveilError, match="no code in it was run"):
        unveil.load(tmp_path / "no.ckpt")


def test_a_policy_for_other_observations_is_not_scored_on_pusht(tmp_path, capsys):
    """Its recipe is "policy"; earlier versions wrote "pusht", and their folders load, too."""
    out = tmp_path / "run"
    assert main(["weights", "convert", str(lerobot(tmp_path / "l")), str(out)]) == 0
    config = json.loads((out / "config.json").read_text())
    assert config["recipe"] == "policy" and config["observation"] == "other"
    chunks = []
    for recipe in ("policy", "pusht"):
        (out / "config.json").write_text(json.dumps(config | {"recipe": recipe}))
        policy = unveil.load(out, "cpu", sampling_steps=2)
        chunks.append(policy.act(np.ones((1, config["observations"]))))
        for verb, more in (("eval", ["--episodes", "1"]), ("sample", ["--out", str(tmp_path / "c.png")])):
            assert main([verb, "pusht", "--checkpoint", str(out), "--device", "cpu", *more]) == 2
            assert "other observations than PushT's" in capsys.readouterr().err
    np.testing.assert_array_equal(*chunks)
    assert main(["eval", "maze", "--checkpoint", str(out)]) == 2
    assert "trained by recipe 'pusht', but 'maze' is needed" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["lerobot_image", "lerobot_cameras", "hybrid", "multi_image"])
def test_pixels_and_numbers_become_the_originals_features_and_actions(tmp_path, kind):
    """Golden numbers of the original from what our policy is given: parts side by side, pixels 0 .. 255, all
    in the data's units."""
    path, wanted = foreign(kind, tmp_path), golden(kind)
    read = read_policy_folder(path) if path.is_dir() else read_policy(path)
    if kind == "multi_image":  # what was drawn is raw there
        side, tip, front, grip = drawn((2, 3, 64, 60), (2, 2), (2, 3, 64, 60), (2, 1))
        raw, features = {"side": side, "tip": tip, "front": front, "grip": grip}, wanted["features"]
        raw = {key: value[:, None] for key, value in raw.items()}
    else:
        x, state, _, images = drawn((2, 8, 2), (2, 2, 2), (2, 2, 5), (2, 2, 2, 3, 96, 96))
        cameras = [part.key for part in read.described.parts if part.encoder is not None]
        seen = {"observation.state": state} | {key: images[:, :, i] for i, key in enumerate(cameras)}
        if kind == "hybrid":
            image, place, x = drawn((2, 2, 3, 96, 96), (2, 2, 2), (2, 8, 2))
            seen = {"image": image, "agent_pos": place}
        raw = {key: read.normalization[key].raw(value) for key, value in seen.items()}
        features = (wanted["features"] if kind == "hybrid" else wanted["vector"]).reshape(2, -1)
    pieces = [(255 if p.encoder is not None else 1) * raw[p.key].flatten(2) for p in read.described.parts]
    policy = unveil.load(path, "cpu")
    with torch.no_grad():
        cond = policy.model.condition(torch.cat(pieces, dim=-1))
        assert cond.vector is not None
        golden_close(cond.vector, features)
        if kind != "multi_image":
            y = policy.model.denoiser.network(x, torch.tensor([3.0, 77.0]), cond)
            golden_close(y, wanted["y"])


@pytest.mark.parametrize(
    ("kind", "sees"), [("lerobot_image", "agent+picture"), ("keypoints", "agent+vertices")]
)
def test_others_policies_are_scored_on_pusht_as_they_are(tmp_path, kind, sees):
    path = keypoints(tmp_path / "k") if kind == "keypoints" else foreign(kind, tmp_path)
    out = tmp_path / "score.json"
    few = ["--episodes", "2", "--max-steps", "6", "--decisions", "1", "--sampling-steps", "2"]
    few += ["--device", "cpu", "--json", str(out)]
    assert main(["eval", "pusht", "--checkpoint", str(path), *few]) == 0
    result = json.loads(out.read_text())
    assert (
        result["protocol"].startswith(f"PushT, {sees}, ")
        and result["metrics"]["n"] == 2
        and result["checkpoint"] == str(path)
    )
    assert main(["weights", "convert", str(path), str(tmp_path / "run")]) == 0
    assert main(["eval", "pusht", "--checkpoint", str(tmp_path / "run"), *few]) == 0
    assert json.loads(out.read_text())["scores"] == result["scores"]
    sample = ["--candidates", "2", "--out", str(tmp_path / "c.png")]
    assert main(["sample", "pusht", "--checkpoint", str(path), *sample]) == 0


def test_inspect_says_whether_it_can_act(tmp_path, capsys):
    assert main(["weights", "inspect", str(unpacked("cnn", tmp_path))]) == 0
    assert "as a policy   yes: unveil.load(PATH)" in capsys.readouterr().out
    assert main(["weights", "inspect", str(foreign("hybrid", tmp_path))]) == 0
    text = capsys.readouterr().out
    assert "as a policy   yes" in text and "on PushT      picture+agent: unveil eval pusht" in text
