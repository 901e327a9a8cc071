"""benchmarks/latent.py: its splits, plans, choices of scales, rows and commands, without a training."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from latent import data, emoji, lora, program, rows, shapes, trainings
from latent.rows import Bench, NotRunError
from unveil.commands.parsing import configured
from unveil.image.data.caption_sampler import Drawing
from unveil.image.data.images import ImageSet
from unveil.image.data.shapes import caption_of_scene, drawn, held_out
from unveil.image.recipes.config import TrainImage
from unveil.runs.flags import changed, flat
from unveil.training.checkpoint import save_checkpoint
from unveil.verbs import RECIPES

BENCHMARK = runpy.run_path(str(Path(__file__).resolve().parents[2] / "benchmarks" / "latent.py"))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rows, "RESULTS", tmp_path / "results")


def drawings() -> ImageSet:
    """Eighteen concepts of two words, each word in six of them or three, in six styles; no two pictures are equal."""
    names = [f"{a} {b}" for a in ("red", "small", "old") for b in ("cat", "dog", "car", "hat", "sun", "man")]
    found = [
        Drawing(style, name, (), f"c{code}", f"group {code % 3}")
        for style in (*data.STYLES, data.NEW_STYLE)
        for code, name in enumerate(names)
    ]
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (len(found), 3, 8, 8), dtype=np.uint8)
    return ImageSet(pixels, drawings=tuple(found))


def test_held_out_pictures_are_in_no_training_and_no_judge():
    found = data.split(drawings(), unseen=3, pairs=5, few=5, tests=4, groups=())
    codes = np.array([it.code for it in found.images.drawings or ()])
    styles = np.array([it.style for it in found.images.drawings or ()])
    masks = np.stack([found.train, found.pairs, found.unseen])
    assert masks.any(1).all() and (masks.sum(0) <= 1).all()
    assert not (masks.any(0) & (styles == data.NEW_STYLE)).any()
    assert found.pairs.sum() == 5 and len(set(codes[found.unseen])) == 3
    assert not set(codes[found.train]) & set(codes[found.unseen])
    for row in np.flatnonzero(found.pairs):  # the concept in other styles, the style of other concepts
        assert (found.train & (codes == codes[row])).any() and (found.train & (styles == styles[row])).any()
    for chosen in (found.shots, found.style_rows):
        assert set(styles[chosen]) == {data.NEW_STYLE} and set(codes[chosen]) <= set(codes[found.train])
    assert not set(found.shots) & set(found.style_rows)
    apart = {*codes[found.style_rows], *codes[found.unseen]}
    learned = found.judged & (styles == data.NEW_STYLE)
    assert not (found.judged & (found.pairs | found.unseen)).any() and learned.any()
    assert not set(codes[learned]) & apart


def test_groups_are_kept_apart_from_what_the_judges_learn():
    every = data.split(drawings(), unseen=3, pairs=5, few=5, tests=4, groups=())
    some = data.split(drawings(), unseen=3, pairs=5, few=3, tests=2, groups=("group 0",))
    groups = np.array([it.group for it in some.images.drawings or ()])
    assert (some.train == (every.train & (groups == "group 0"))).all() and some.train.any()
    assert (some.pairs == (every.pairs & (groups == "group 0"))).all()
    words = {word for it in some.drawings(some.train) for word in it.name.split()}
    assert all(set(it.name.split()) <= words for it in some.drawings(some.unseen))
    assert not (some.unseen & ~every.unseen).any()
    assert set(groups[some.shots]) | set(groups[some.style_rows]) == {"group 0"}
    assert set(groups[some.judged]) == {"group 0", "group 1", "group 2"}
    assert not (some.judged & (every.pairs | every.unseen)).any()


def test_files_hold_the_parts_as_trainings_read_them(monkeypatch, tmp_path):
    import gzip

    from unveil.image.data.reading import Reading
    from unveil.image.data.source import read_images

    images = drawings()
    file = tmp_path / "emoji64.npz"
    np.savez(file, images=images.pixels.transpose(0, 2, 3, 1))
    with gzip.open(file.with_suffix(".json.gz"), "wt") as stream:
        json.dump([it._asdict() for it in images.drawings or ()], stream)
    found = data.split(images, unseen=3, pairs=5, few=5, tests=4, groups=())
    monkeypatch.setattr(data, "emoji", lambda: found)
    train = read_images(str(data.emoji_train()), Reading())
    assert (train.pixels == images.pixels[found.train]).all()
    assert list(train.drawings or ()) == found.drawings(found.train)
    judged = read_images(str(data.emoji_judged()), Reading())
    assert judged.labels is not None
    told = [judged.names[k] for k in judged.labels]
    assert told == [it.style for it in found.drawings(found.judged)]
    folder = data.new_style()
    few = read_images(str(folder), Reading())
    assert (few.pixels == images.pixels[found.shots]).all()
    assert (folder / "00.txt").read_text().startswith(f"{data.NEW_STYLE} emoji of ")


def test_minutes_of_one_core_are_those_of_the_records(tmp_path):
    records = [
        {"step": 10, "steps_per_second": 1.0, "cpu_seconds_per_step": 3.0},
        {"step": 30, "steps_per_second": 2.0},  # of an older version: the clock of the wall
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, records)) + "\n")
    assert rows.core_minutes(tmp_path / "checkpoint-30") == pytest.approx((10 * 3.0 + 20 / 2.0) / 60.0)
    assert rows.core_minutes(tmp_path / "elsewhere" / "checkpoint-30") is None


def test_names_of_seeds():
    for name in ("pixel", "own", "shapes-drop0.2", "judge-styles", "shapes-words-scale-3", "ae-f8-z4-full"):
        assert rows.with_seed(name, 0) == name and rows.seed_of(name) == 0
        assert rows.seed_of(rows.with_seed(name, 1)) == 1
        assert rows.without_seed(rows.with_seed(name, 12)) == name


def checkpoint(run: Path, steps: int, of: int, seconds: float = 0.5) -> Path:
    """A run that is at a step, as the trainer leaves it."""
    run.mkdir(parents=True, exist_ok=True)
    (run / "config.json").write_text(json.dumps({"steps": of}))
    record = {"step": steps, "steps_per_second": 1.0, "cpu_seconds_per_step": seconds}
    (run / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    tensors = {"a": torch.zeros(2)}
    save_checkpoint(
        run / f"checkpoint-{steps}", dict.fromkeys(("network", "ema", "optimizer"), tensors), {"step": steps}
    )
    return run / f"checkpoint-{steps}"


def test_a_missing_or_unfinished_training_says_what_makes_it():
    bench = Bench()
    with pytest.raises(NotRunError, match=r"--train taef2 --seeds 1"):
        bench.finished("taef2-s1")
    checkpoint(bench.folder("pixel"), 3, of=7)
    with pytest.raises(NotRunError, match=r"is not finished, at checkpoint-3: .* --train pixel --seeds 0"):
        bench.finished("pixel")
    elsewhere = Bench({"pixel": bench.folder("pixel")})  # made elsewhere: its newest checkpoint is used
    assert elsewhere.finished("pixel").name == "checkpoint-3"


def test_as_many_steps_as_fit_into_the_minutes_and_the_plan_is_kept(monkeypatch):
    timed: list[TrainImage] = []

    def train(config, progress):
        timed.append(config)
        checkpoint(config.run.folder, config.run.steps, config.run.steps, seconds=0.25)
        return config.run.folder

    clock = iter([100.0, 130.0, 131.0])
    monkeypatch.setattr(trainings, "process_time", lambda: next(clock))

    def encoding(config, progress):
        progress("encoding images", 1, 2, {})
        return train(config, progress)

    recipe = trainings.Recipe(encoding, changed(TrainImage(), seed=3), minutes=2.0)
    assert trainings.planned_steps("taef2", recipe, Bench()) == (120 - 30) / 0.25
    assert trainings.planned_steps("taef2", recipe, Bench()) == 360 and len(timed) == 1, (
        "the second time from the plan"
    )
    checkpoint(Bench().folder("taef2"), 360, of=360, seconds=0.25)
    said = rows.trained_with(Bench(), "taef2")
    assert said["training_core_minutes"] == pytest.approx(2.0), "encoding the images counts"
    assert timed[0].run.steps == trainings.TIMED and timed[0].run.seed == 3 and not timed[0].run.resume
    assert not list(Path("runs").glob("tmp*"))
    clock = iter([0.0, 300.0])
    with pytest.raises(NotRunError, match=r"2\.0 minutes do not suffice: 5\.0 pass"):
        trainings.planned_steps("own", recipe, Bench())


def test_a_finished_training_is_not_trained_again_and_an_interrupted_one_goes_on(monkeypatch):
    asked: list[TrainImage] = []

    def train(config, progress):
        asked.append(config)
        checkpoint(config.run.folder, config.run.steps, config.run.steps)
        return config.run.folder

    bench = Bench()
    config = changed(TrainImage(), out=bench.folder("pixel"), steps=8)
    monkeypatch.setattr(trainings, "recipe_of", lambda name, bench: trainings.Recipe(train, config))
    checkpoint(bench.folder("pixel"), 4, of=8)
    assert trainings.train_one("pixel", bench) == "pixel: 8 steps, 0.1 minutes of one core"
    assert [it.run.resume for it in asked] == [True]
    trainings.train_one("pixel", bench)
    assert len(asked) == 1
    pointed = Bench({"pixel": Path("there")})
    assert trainings.train_one("pixel", pointed) == "pixel: there is used" and len(asked) == 1


@pytest.fixture
def files(monkeypatch):
    for name in ("shapes_file", "emoji_file", "emoji_train", "emoji_judged"):
        monkeypatch.setattr(trainings, name, lambda name=name: Path(f"{name}.npz"))


def differing(one: str, other: str, bench: Bench) -> set[str]:
    a, b = (flat(trainings.recipe_of(name, bench).config) for name in (one, other))
    return {name for name in a if a[name] != b[name]} - {"out"}


def test_trainings_of_a_table_differ_in_what_they_are_named_for(files):
    bench = Bench(minutes=5.0)
    checkpoint(bench.folder("ae-f4-z4-full"), 4, of=4, seconds=30.0)  # two minutes
    checkpoint(bench.folder("ae-f4-z4-full-s1"), 4, of=4)
    assert differing("pixel", "taef2", bench) == {"latent", "width"}
    assert differing("pixel", "own", bench) == {"latent"}
    assert differing("own", "own-s1", bench) == {"latent", "seed"}
    assert differing("shapes-words", "shapes-minilm", bench) == {"encoder"}
    assert differing("shapes-words", "shapes-drop0.2", bench) == {"label_drop"}
    assert differing("emoji-words", "emoji-words-s1", bench) == {"seed"}
    assert differing("ae-f4-z4-full", "ae-f4-z16-full", bench) == {"latent"}
    assert differing("ae-f4-z4-full", "ae-f8-z4-full", bench) == {"multiples"}
    assert differing("ae-f4-z4-full", "ae-f4-z4-perceptual", bench) == {"adversarial"}
    assert differing("ae-f4-z4-perceptual", "ae-f4-z4-pixels", bench) == {"perceptual"}
    minutes = [trainings.recipe_of(name, bench).minutes for name in ("pixel", "own", "ae-f4-z4-full")]
    assert minutes == [5.0, 5.0, None]
    config = trainings.recipe_of("emoji-words", bench).config
    assert config.images.data == "emoji_train.npz" and config.images.hold_out == 0.0


def seen_as(right_at: float, asked: list):
    """A model of shapes that is right at one scale only."""

    def pictures(model, scenes, scale, seed):
        asked.append((scale, seed, tuple(caption_of_scene(scene) for scene in scenes)))
        made = np.stack([drawn(scene, shapes.SIZE) for scene in scenes])
        return made if scale == right_at else np.full_like(made, 255)

    return pictures


def test_a_scale_is_chosen_on_other_captions_of_seen_pairs(monkeypatch):
    asked: list = []
    monkeypatch.setattr(shapes, "pictures", seen_as(4.0, asked))
    monkeypatch.setattr(shapes, "load_image", lambda *_: torch.nn.Linear(2, 2))
    for name in ("COUNT", "CHOICE_COUNT"):
        monkeypatch.setattr(shapes, name, 12)
    bench = Bench()
    checkpoint(bench.folder("shapes-words"), 4, of=4)
    with pytest.raises(NotRunError, match="row shapes-choice-words is needed first"):
        shapes.reported("shapes-words", bench)
    found = shapes.choice("shapes-words", bench)
    assert found["chosen_scale"] == 4.0 and found["all_at_4"] == 1.0 and found["all_at_3"] == 0.0
    apart = [f"{colour} {shape}" for colour, shape in data_pairs() if held_out(colour, shape)]
    chosen_on = {text for _, seed, texts in asked for text in texts if seed == rows.CHOSEN_ON}
    assert len(asked) == 2 * len(shapes.SCALES) and not any(
        pair in text for text in chosen_on for pair in apart
    )
    rows.write_row("shapes-choice-words", found, 1.0, bench)
    asked.clear()
    cells = shapes.reported("shapes-words", bench)
    assert {scale for scale, _, _ in asked} == {4.0} and {seed for _, seed, _ in asked} == {rows.REPORTED_ON}
    assert all(
        cells[f"{kind.name}_all"] == 1.0 and cells[f"{kind.name}_all_n"] == 12 for kind in shapes.KINDS
    )
    assert cells["two_held_binding_low"] == pytest.approx(12 / (12 + 1.96**2), abs=1e-3)  # Wilson's
    assert "one_seen_binding" not in cells and cells["parameters"] == 6
    held = [text for _, _, texts in asked for text in texts if any(pair in text for pair in apart)]
    assert len(held) == 24
    assert shapes.reported("shapes-words", bench, 3.0)["one_seen_all"] == 0.0


def data_pairs():
    from unveil.image.data.shapes import PAIRS

    return PAIRS


def test_of_equal_scales_the_smallest_is_chosen():
    assert shapes.best({"1": 0.2, "2": 0.7, "3": 0.7, "8": 0.1}) == "2"


def test_the_scorer_reads_all_true_pictures():
    found = shapes.true_pictures()
    assert {found[f"{kind.name}_all"] for kind in shapes.KINDS} == {1.0}


def test_a_model_that_has_seen_the_held_out_pairs_is_refused(monkeypatch):
    bench = Bench()
    checkpoint(bench.folder("emoji-words"), 4, of=4)
    monkeypatch.setattr(emoji, "emoji_train", lambda: Path("runs/latent-data/emoji-train.npz"))
    monkeypatch.setattr(emoji, "read_image_config", lambda folder: {"data": "/data/emoji64.npz"})
    with pytest.raises(NotRunError, match=r"was trained on /data/emoji64\.npz, with the held-out pairs"):
        emoji.model_of("emoji-words", bench)


def test_captions_of_kinds_do_not_overlap(monkeypatch):
    found = data.split(drawings(), unseen=3, pairs=5, few=5, tests=4, groups=())
    monkeypatch.setattr(emoji, "emoji", lambda: found)
    monkeypatch.setattr(emoji, "COUNT", 6)
    monkeypatch.setattr(emoji, "CHOICE_COUNT", 7)
    parts = [emoji.rows_of(kind) for kind in ("choice", "seen", "pairs", "unseen")]
    assert [len(part) for part in parts[:3]] == [7, 6, 5] and found.unseen[parts[3]].all()
    everything = np.concatenate(parts)
    assert len(set(everything.tolist())) == len(everything) and found.train[parts[0]].all()


def test_rows_are_made_once_and_those_that_cannot_be_made_say_why(capsys):
    calls: list[str] = []

    def missing():
        raise NotRunError("nothing is there: --train pixel")

    def row():
        calls.append("row")
        return {"kernel_distance": 0.5, "n": 3}

    made = {"diffusion-pixel-s1": missing, "shapes-real": row}
    bench = Bench({"pixel": Path("there")}, threads=2)
    for _ in range(2):
        program.make(list(made), bench, made)
    assert (
        calls == ["row"] and capsys.readouterr().out.count("not run (nothing is there: --train pixel)") == 2
    )
    found = rows.stored(bench)["metrics"]["shapes-real"]
    assert found["command"] == "python benchmarks/latent.py --rows shapes-real --threads 2 --run pixel=there"
    assert {"commit", "device", "threads", "seconds", "versions", "seed"} <= set(found) and found["n"] == 3


def test_trainings_made_elsewhere_are_named():
    assert program.pointed(["emoji-words-s1=a/b=c"], BENCHMARK["TRAININGS"]) == {
        "emoji-words-s1": Path("a/b=c")
    }
    for wrong in ("emoji-words", "nothing=runs/x"):
        with pytest.raises(ValueError, match="give NAME=PATH"):
            program.pointed([wrong], BENCHMARK["TRAININGS"])


def test_the_packaged_model_binds_varied_captions(monkeypatch):
    """Six pictures of each kind; the table has 200."""
    monkeypatch.setattr(shapes, "COUNT", 6)
    found = BENCHMARK["rows"](Bench(), (0,))["shapes-packaged-2"]()
    assert found["two_seen_all"] >= 5 / 6 and found["two_held_all"] >= 4 / 6
    assert found["two_seen_size_n"] + found["two_held_size_n"] > 4


def test_every_row_without_its_training_says_so(files, monkeypatch):
    """No row fails otherwise on a machine that has neither data nor runs."""
    monkeypatch.setenv("UNVEIL_DATA", "nowhere")
    monkeypatch.setenv("UNVEIL_HOME", "nowhere")
    data.emoji.cache_clear()
    for name, row in BENCHMARK["rows"](Bench(), (0,)).items():
        if name not in ("shapes-real", "shapes-packaged-2", "shapes-packaged-3"):
            with pytest.raises(program.MISSING):
                row()


def test_the_commands_of_methods_parse(monkeypatch):
    bench = Bench({"emoji-words": Path("base")})
    base = checkpoint(Path("base"), 4, of=4)
    monkeypatch.setattr(lora, "new_style", lambda: Path("runs/latent-data/openmoji-20"))
    for name in lora.NAMES:
        verb, recipe, *flags = lora.command(name, bench)
        assert verb == "train" and (recipe in RECIPES["train"] or recipe in ("lora", "inversion"))
        if recipe in RECIPES["train"]:
            config = configured(RECIPES["train"][recipe], flags, f"train {recipe}")
            assert config.run.steps == lora.TRAINING_STEPS and config.run.out == Path(f"runs/latent-{name}")
    words = lora.command("lora-full", bench)
    told = {words[k]: words[k + 1] for k in range(2, len(words), 2)}
    assert told["--start-from"] == str(base) and told["--captions"] == "txt"
    assert "--rank 16" in " ".join(lora.command("lora-16", bench))


def test_a_method_counts_the_numbers_that_it_trains():
    bench = Bench()
    folder = checkpoint(bench.folder("lora-4"), 2, of=2)
    save_file({"a": torch.zeros(2, 3), "b": torch.zeros(())}, folder / "ema.safetensors")
    bench = Bench({"lora-4": bench.folder("lora-4")})
    with pytest.raises(NotRunError):  # damaged: the file's length changed
        lora.trained_parameters("lora-4", bench)
    checkpoint(Path("other"), 2, of=2)
    assert lora.trained_parameters("lora-4", Bench({"lora-4": Path("other")})) == 2


def test_old_styles_are_dealt_out_in_turn(monkeypatch):
    found = data.split(drawings(), unseen=3, pairs=5, few=5, tests=6, groups=())
    monkeypatch.setattr(lora, "emoji", lambda: found)
    assert {it.style for it in lora.drawings()} == {data.NEW_STYLE}
    assert [it.style for it in lora.drawings("")] == [*data.STYLES, data.STYLES[0]]


def test_the_program_refuses_unknown_rows(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["latent.py", "--rows", "shapes-real", "nothing"])
    with pytest.raises(SystemExit):
        program.run(BENCHMARK["PROGRAM"])
    assert "--rows nothing: no such row; there are diffusion-real-train" in capsys.readouterr().err
