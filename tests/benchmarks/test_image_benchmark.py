"""benchmarks/images.py: its rows are the tables that its text names, its cells differ in what they are named
for, its intervals cover."""

import json
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from unveil.image.evaluation.distances import frechet_distance
from unveil.runs.flags import flat

BENCHMARK = runpy.run_path(str(Path(__file__).resolve().parents[2] / "benchmarks" / "images.py"))


def test_rows_are_those_of_the_text():
    named = {
        line.split("-")[0].strip()
        for line in re.findall(r"^    ([a-z]+-<.*?|duel-rates)\s", BENCHMARK["__doc__"], re.MULTILINE)
    }
    rows = BENCHMARK["rows"]()
    assert {name.split("-")[0] for name in rows} == named | {"guide", "duel"}
    counts = {
        t: len([n for n in rows if n.startswith(t)])
        for t in ("solvers", "objective", "variance", "guide", "order", "restore", "duel")
    }
    assert counts == {
        "solvers": 30,
        "objective": 12,
        "variance": 24,
        "guide": 26,
        "order": 24,
        "restore": 8,
        "duel": 7,
    }
    assert {
        f"{n}-s1" for n in rows if not n.endswith("-s1") and not n.startswith(("duel", "packaged"))
    } <= set(rows)


def test_cells_are_one_network_under_each_objective():
    configs = {name: BENCHMARK["config_of"](name) for name in BENCHMARK["MODELS"]}
    found = {
        (c.schedule, c.learned_variance, c.loss) for name, c in configs.items() if name in BENCHMARK["CELLS"]
    }
    kinds = ((False, "simple"), (True, "hybrid"), (True, "vlb"))
    assert found == {
        (schedule, learned, loss) for schedule in ("linear", "cosine") for learned, loss in kinds
    }
    same = ("width", "multiples", "steps", "batch_size", "learning_rate", "predicts", "data")
    assert len({tuple(flat(c)[name] for name in same) for c in configs.values()}) == 1
    assert (
        configs["cosine-vlb-s1"].run.seed == 1
        and configs["classes"].classes
        and len({c.run.out for c in configs.values()}) == len(configs)
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("order-heun-5", "--train linear-simple"),
        ("guide-classifier-2", "--train linear-simple"),
        ("guide-free-2-s1", "--train classes-s1"),
        ("restore-inpaint-s1", "--train linear-simple-s1"),
        ("solvers-ddim-10", "--train linear-simple"),
        ("duel-ours-s1", "--train duel-ours-s1"),
    ],
)
def test_a_row_without_its_run_says_how_to_train_it(row, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception, match=re.escape(message)):
        BENCHMARK["rows"]()[row]()


def test_the_judge_and_the_guide_of_the_rows_are_kept(tmp_path, monkeypatch):
    """The judge knows what most plain shapes of its classes are: a shirt-like block is no shoe."""
    monkeypatch.chdir(tmp_path)
    judge = BENCHMARK["judge"]()
    assert judge.name.startswith("classifier image-judge") and judge.classifier.clean
    wide, tall = np.zeros((1, 1, 28, 28), np.uint8), np.zeros((1, 1, 28, 28), np.uint8)
    wide[..., 14:22, 2:27], tall[..., 2:27, 10:18] = 180, 180
    shoes = {5, 7, 9}
    assert int(judge.classifier.predicted(torch.from_numpy(wide))[0]) in {*shoes, 8}
    assert int(judge.classifier.predicted(torch.from_numpy(tall))[0]) not in shoes


def test_the_interval_of_a_frechet_distance_is_its_spread_over_sets_of_samples():
    rng = np.random.default_rng(0)
    real = rng.standard_normal((2000, 3))
    sets = [rng.standard_normal((300, 3)) + np.array([0.5, 0.0, 0.0]) for _ in range(60)]
    spread = 1.96 * np.std([frechet_distance(real, made) for made in sets])
    guessed = np.mean([BENCHMARK["frechet_ci95"](real, made) for made in sets[:4]])
    assert 0.75 < guessed / spread < 1.35


def test_a_peer_that_is_not_installed_is_named_with_what_installs_it(tmp_path, monkeypatch):
    broken = tmp_path / "ema_pytorch.py"
    broken.write_text("raise ImportError('no ema_pytorch here')")
    (tmp_path / "denoising_diffusion_pytorch.py").write_text("GaussianDiffusion = Unet = None")
    flags = ["--who", "lucidrains", "--out", str(tmp_path / "out")]
    images = np.zeros((2, 1, 28, 28), np.uint8)
    duel = runpy.run_path(str(Path(__file__).resolve().parents[2] / "benchmarks" / "images_duel.py"))
    monkeypatch.setitem(duel["learn"].__globals__, "images", lambda: images)
    monkeypatch.setattr("sys.argv", ["images_duel.py", *flags])
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SystemExit, match="no ema_pytorch here; pip install"):
        duel["main"]()


def test_rates_of_a_duel_are_ours_by_theirs_and_name_who_is_absent(tmp_path, monkeypatch):
    duel = runpy.run_path(str(Path(__file__).resolve().parents[2] / "benchmarks" / "images_duel.py"))
    now, drawn = [0.0], []

    def player(cost: float, steps: int):
        def spend(seconds: float) -> None:
            now[0] += seconds

        averaged = torch.nn.Linear(1, 1)

        def settle():
            averaged.bias.data.fill_(10.0 * cost)

        def draw(count: int, asked: int | None):
            drawn.append(float(averaged.bias.detach()))
            spend(count * (asked or steps) * cost)
            return torch.zeros(count, 1, 28, 28, dtype=torch.uint8), asked or steps

        return lambda seed: duel["Player"](
            7, lambda pixels, spent: spend(3.0 * len(pixels) * cost), averaged, settle, draw
        )

    def missing(seed: int):
        raise ImportError("no diffusers here")

    names = duel["rates"].__globals__
    monkeypatch.setitem(names, "images", lambda: torch.zeros(256, 1, 28, 28, dtype=torch.uint8))
    monkeypatch.setitem(
        names, "PLAYERS", {"ours": player(0.1, 20), "lucidrains": player(0.4, 250), "diffusers": missing}
    )
    duel["rates"](lambda: now[0], 3, 4, tmp_path / "rates.json")
    row = json.loads((tmp_path / "rates.json").read_text())
    assert row["ours_by_lucidrains_training"] == pytest.approx(4.0) and row[
        "ours_by_lucidrains_equal"
    ] == pytest.approx(4.0)
    assert (
        row["ours_by_lucidrains_default"] == pytest.approx(4.0 * 250 / 20)
        and row["lucidrains_parameters"] == 7
    )
    assert row["absent"] == ["diffusers (no diffusers here)"]
    duel["learn"]("lucidrains", 200.0, 0, lambda: now[0], tmp_path / "out")
    names["PLAYERS"]["lucidrains"] = player(0.0, 250)  # whose average would be zero
    drawn.clear()
    duel["draw"]("lucidrains", 0, (3, 2), tmp_path / "out")
    assert drawn == [4.0, 4.0]
    said = json.loads((tmp_path / "out" / "made.json").read_text())
    assert said["steps"] == 3 and said["training_images_per_second"] == pytest.approx(1 / 1.2)  # 76.8 a step
    with np.load(tmp_path / "out" / "samples.npz") as made:
        assert made["equal"].shape == (3, 1, 28, 28) and made["default"].shape == (2, 1, 28, 28)
