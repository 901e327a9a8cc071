"""benchmarks/text_to_image.py: its trainings, holes, saturated pixels, paths and rows, without a training."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from latent import program, rows
from latent.rows import Bench, NotRunError
from latent.shapes import KINDS, scenes_of
from text_to_image import data, glide, imagen, judged, trainings, unclip
from unveil.image.data.shapes import Scene, SceneObject, coverage, drawn
from unveil.image.evaluation.shapes import score
from unveil.runs.flags import flat
from unveil.training.checkpoint import save_checkpoint

BENCHMARK = runpy.run_path(str(Path(__file__).resolve().parents[2] / "benchmarks" / "text_to_image.py"))
NAME = "text-to-image"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rows, "RESULTS", tmp_path / "results")
    for name in ("shapes_file", "shapes64_file", "shapes16_file", "coded_file"):
        monkeypatch.setattr(trainings, name, lambda name=name: Path(f"{name}.npz"))


def checkpoint(run: Path, steps: int, seconds: float = 0.5) -> Path:
    """A finished run, as the trainer leaves it."""
    run.mkdir(parents=True, exist_ok=True)
    (run / "config.json").write_text(json.dumps({"steps": steps}))
    record = {"step": steps, "steps_per_second": 1.0, "cpu_seconds_per_step": seconds}
    (run / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    parts = {part: {"a": torch.zeros(2)} for part in ("network", "ema", "optimizer")}
    save_checkpoint(run / f"checkpoint-{steps}", parts, {"step": steps})
    return run / f"checkpoint-{steps}"


def finished(*names: str) -> Bench:
    """A bench with these trainings."""
    bench = Bench(name=NAME)
    for name in names:
        checkpoint(bench.folder(name), 4)
    return bench


def differing(one: str, other: str, bench: Bench) -> set[str]:
    a, b = (flat(trainings.recipe_of(name, bench).config) for name in (one, other))
    return {name for name in a if a[name] != b[name]} - {"out"}


def test_trainings_differ_in_what_they_are_named_for():
    with pytest.raises(NotRunError, match=r"text_to_image\.py --train clip --seeds 1"):
        trainings.recipe_of("prior-diffusion-s1", finished("clip"))
    bench = finished("glide", "clip", "ae-shapes", "clip-s1")
    assert differing("plain", "glide", bench) == {"encoder", "label_drop"}
    assert differing("plain", "efficient", bench) == {"efficient"}
    assert differing("plain", "decoder", bench) == {"image_embedding", "label_drop"}
    assert differing("plain", "imagen-small", bench) == {"data", "stem"}
    assert differing("plain", "latent", bench) == {"data", "stem", "latent"}
    assert differing("glide", "glide-inpaint", bench) == {"beside", "start_from"}
    assert differing("imagen-upsampler", "imagen-upsampler-plain", bench) == {"noise_levels"}
    assert differing("clip", "clip-noised", bench) == {"noised"}
    assert differing("prior-diffusion", "prior-autoregressive", bench) == {"kind"}
    assert differing("prior-diffusion", "prior-diffusion-s1", bench) == {"seed", "image_embedding"}
    config = trainings.recipe_of("glide", bench).config
    assert (config.label_drop, config.predicts, config.schedule) == (0.2, "v", "cosine")
    assert trainings.recipe_of("decoder", bench).config.label_drop == 0.5
    recipes = [trainings.recipe_of(name, bench) for name in trainings.NAMES]
    assert [recipe.minutes for recipe in recipes] == list(trainings.MINUTES.values())
    assert all(flat(recipe.config)["hold_out"] == 0.0 for recipe in recipes)
    other = Bench(name=NAME, minutes=0.5)
    assert trainings.recipe_of("plain", other).minutes == 0.5


def test_needs_are_trained_before():
    order = {name: k for k, name in enumerate(trainings.NAMES)}
    assert all(order[before] < order[name] for name, before in trainings.NEEDS.items())


def test_small_pictures_are_means_of_squares():
    pixels = np.zeros((1, 1, 8, 8), np.uint8)
    pixels[0, 0, :4, :2], pixels[0, 0, 4:, :4], pixels[0, 0, 7, 7] = 200, 7, 16
    assert data.shrunk(pixels).tolist() == [[[[100, 0], [7, 1]]]]


def test_files_of_64_and_16_pixels_show_the_same_scenes():
    from unveil.image.data.reading import Reading
    from unveil.image.data.source import read_images

    large, small = (read_images(str(make(6)), Reading()) for make in (data.shapes64_file, data.shapes16_file))
    assert (data.shrunk(large.pixels) == small.pixels).all() and large.captions == small.captions


def test_a_hole_covers_its_object_and_spares_the_other():
    for kind in glide.TWO:
        for scene in scenes_of(kind, 40, 5):
            for which in (0, 1):
                hole = glide.hole_of(scene, which)
                one, other = scene.objects[which], scene.objects[1 - which]
                ours, theirs = (coverage(it.shape, it.x, it.y, it.side, 32) for it in (one, other))
                assert (ours[~hole] < 0.6).all() and ours[hole].sum() > 0.95 * ours.sum()
                assert not theirs[hole].any()


def test_what_stands_in_a_hole_is_judged_alone():
    scene = scenes_of(KINDS[2], 1, 3)[0]
    picture = drawn(scene, 32)
    hole = glide.hole_of(scene, 1)[None, None]
    alone = Scene((scene.objects[1]._replace(size="", place=""),))
    right = glide.inside(picture[None], hole, [alone])
    assert right["inside_all"] == 1.0 and right["inside_all_n"] == 1
    other = alone.objects[0]._replace(colour="red" if scene.objects[1].colour != "red" else "blue")
    wrong = glide.inside(picture[None], hole, [Scene((other,))])
    assert (wrong["inside_colour"], wrong["inside_shape"], wrong["inside_all"]) == (0.0, 1.0, 0.0)
    empty = glide.inside(np.full((1, 3, 32, 32), 255, np.uint8), hole, [alone])
    assert empty["inside_all"] == empty["inside_colour"] == 0.0


def test_saturated_pixels_are_those_of_objects():
    pixels = np.full((1, 3, 2, 2), 255, np.uint8)  # white ground does not count
    pixels[0, :, 0, 0] = 255, 40, 40  # at the upper end
    pixels[0, :, 0, 1] = 225, 45, 40
    pixels[0, :, 1, 0] = 30, 0, 30  # at the lower end
    assert imagen.saturated(pixels).tolist() == [True, False, True]
    real = data.true_pictures(scenes_of(KINDS[0], 20, 1) + scenes_of(KINDS[2], 20, 1), 32)
    found = imagen.saturated(real)
    assert len(found) > 1000 and not found.any()


def test_paths_that_never_fall_are_monotone():
    assert unclip.monotone(np.array([[0.1, 0.1, 0.3], [0.1, 0.3, 0.2], [0.3, 0.2, 0.1]])).tolist() == [
        True,
        False,
        False,
    ]


def test_pixel_distances_are_root_mean_squares():
    first, second = np.zeros((2, 1, 1, 2), np.uint8), np.array([[[[3, 4]]], [[[0, 250]]]], np.uint8)
    assert unclip.rms(first, second) == pytest.approx([12.5**0.5, (250.0**2 / 2) ** 0.5])


def test_attributes_come_with_the_distance_of_pictures_of_seen_pairs(monkeypatch):
    monkeypatch.setattr(judged, "describe", lambda: lambda pixels: pixels.mean((2, 3)))
    monkeypatch.setattr(data, "describe", lambda: lambda pixels: pixels.mean((2, 3)))
    data.real_features.cache_clear()
    bench = Bench(name=NAME, count=6)
    found = judged.attributes(lambda scenes: data.true_pictures(scenes, 32), bench)
    assert {found[f"{kind.name}_all"] for kind in KINDS} == {1.0} and found["one_held_all_n"] == 6
    assert found["kernel_distance_n"] == 12 and found["side"] == 32
    assert len(data.real_features(32)) == 2 * data.REAL
    shifted = judged.attributes(lambda scenes: data.true_pictures(scenes, 32) // 2, bench)
    assert shifted["kernel_distance"] > 10 * abs(found["kernel_distance"])
    data.real_features.cache_clear()


def test_scenes_of_distances_choices_and_reports_differ():
    parts = [
        {scene for kind in KINDS for scene in scenes_of(kind, 50, seed)}
        for seed in (data.REAL_ON, rows.CHOSEN_ON, rows.REPORTED_ON)
    ]
    assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])


def test_minutes_of_all_parts_are_added():
    bench = Bench(name=NAME)
    checkpoint(bench.folder("decoder-s1"), 120, seconds=1.0)
    checkpoint(bench.folder("clip-s1"), 60, seconds=1.0)
    said = judged.spent(bench, 1, "decoder", "clip")
    assert (said["training_core_minutes"], said["all_core_minutes"]) == (2.0, 3.0)
    bench.plan("decoder-s1").write_text(json.dumps({"preparation_seconds": 30.0}))
    said = judged.spent(bench, 1, "decoder", "clip")
    assert said["training_core_minutes"] == 2.5, "embedding the images counts"
    assert said["checkpoints"] == ["checkpoint-120", "checkpoint-60"]


def test_every_row_without_its_training_says_so(monkeypatch):
    """No row fails otherwise on a machine that has neither data nor runs."""
    monkeypatch.setenv("UNVEIL_DATA", "nowhere")
    monkeypatch.setenv("UNVEIL_HOME", "nowhere")
    data.real_features.cache_clear()
    made = BENCHMARK["rows"](Bench(name=NAME, count=1), (0,))
    for row in made.values():
        with pytest.raises(program.MISSING):
            row()
    assert {name for name in made if name.endswith("-s1")} == set()


def test_a_quick_look_does_not_write_into_the_results(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["text_to_image.py", "--count", "3"])
    with pytest.raises(SystemExit):
        program.run(BENCHMARK["PROGRAM"])
    assert "--count is for a quick look; give --results" in capsys.readouterr().err
    bench = Bench(name=NAME, count=3, results=Path("look"))
    rows.write_row("plain-s1", {"two_seen_all": 0.5}, 1.0, bench)
    found = json.loads(Path("look/text-to-image.json").read_text())
    assert (
        found["metrics"]["plain-s1"]["seed"] == 1 and found["protocol"] == "see benchmarks/text_to_image.py"
    )
    assert " --count 3" in found["metrics"]["plain-s1"]["command"]


def test_the_parser_reads_the_objects_that_holes_leave():
    scene = Scene((SceneObject("red", "circle", x=0.26, y=0.5), SceneObject("blue", "square", x=0.74, y=0.5)))
    picture = np.where(glide.hole_of(scene, 0)[None], 255, drawn(scene, 32)).astype(np.uint8)
    found = score(picture, scene)
    assert (found.number, found.colour, found.all) == (False, False, False)
