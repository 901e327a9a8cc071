"""The tables of the page of text to image, from made results: all rows of the benchmark, "not run", intervals."""

import runpy
from pathlib import Path

import latent_tables

from latent.rows import Bench

ROOT = Path(__file__).resolve().parent.parent
TABLES = [part for mark, part in latent_tables.PARTS.items() if mark != "unet-step"]


def cells(lines: list[str], *first: str) -> dict[str, str]:
    """The line that begins with some cells, by the heads of its table."""
    split = [line[2:-2].split(" | ") for line in lines]
    (row,) = [k for k, line in enumerate(split) if tuple(line[: len(first)]) == first]
    head = max(k for k in range(row) if lines[k + 1].startswith("|---"))
    return dict(zip(split[head], split[row], strict=True))


def test_every_row_of_the_benchmark_is_in_a_table_and_no_other():
    names = set()

    class Asked(dict):
        def get(self, name, default=None):
            names.add(name)
            return default

    for part in TABLES:
        part(Asked())
    benchmark = runpy.run_path(str(ROOT / "benchmarks" / "latent.py"))
    assert names == set(benchmark["rows"](Bench()))


def test_without_results_no_cell_has_a_number():
    for mark, part in latent_tables.PARTS.items():
        lines = part({})
        numbers = [
            cell for line in lines for cell in line[2:-2].split(" | ") if "±" in cell or " to " in cell
        ]
        assert not numbers and any("not run" in line for line in lines), mark
        assert all(line.count("|") == lines[0].count("|") for line in lines if line) or mark in (
            "shapes",
            "emoji",
        )


def test_distances_have_their_intervals_and_models_their_minutes():
    row = {"parameters": 2_700_000, "training_core_minutes": 29.6, "autoencoder_core_minutes": 24.8}
    row |= {"training_images": 61_440, "images_per_core_second": 3.14159, "recall": 0.2}
    row |= {"frechet_distance": 8_123.0, "frechet_distance_ci95": 204.0}
    rows = {
        "diffusion-own": row | {"kernel_distance": 1_234_000.0, "kernel_distance_ci95": 99_600.0},
        "diffusion-own-s1": row | {"kernel_distance": 1.5e6, "kernel_distance_ci95": 2e5},
        "diffusion-real-train": {"frechet_distance": 1_194.0, "frechet_distance_ci95": 50.0, "recall": 0.7},
    }
    lines = latent_tables.diffusion(rows)
    found = cells(lines, latent_tables.MODELS["own"])
    assert list(found.values())[1:6] == ["2.7", "30", "25", "61,440", "3.1"]
    assert found[latent_tables.HEADS[1]] == "1.234 ± 0.100<br>1.500 ± 0.200"
    assert found[latent_tables.HEADS[0]] == "8.12 ± 0.20<br>8.12 ± 0.20"
    assert cells(lines, latent_tables.MODELS["pixel"])["autoencoder, minutes"] == "-"
    assert cells(lines, "*other training pictures*")[latent_tables.HEADS[0]] == "1.19 ± 0.05"


def test_shapes_have_wilsons_intervals_and_the_chosen_scale():
    def fraction(name: str, value: float) -> dict[str, float]:
        return {name: value, f"{name}_low": value - 0.05, f"{name}_high": value + 0.04}

    rows = {
        "shapes-words": fraction("two_held_all", 0.7) | {"training_core_minutes": 43.8},
        "shapes-words-s1": fraction("two_held_all", 0.72),
        "shapes-choice-words": {"chosen_scale": 3.0},
        "shapes-words-scale-4": fraction("one_held_all", 0.9),
    }
    lines = latent_tables.shapes(rows)
    two = [line for line in lines[lines.index("") :] if line.startswith("| learned words |")]
    assert two[0].split(" | ")[1:3] == ["44", "3"]
    assert two[0].endswith("| 0.70 (0.65 to 0.74)<br>0.72 (0.67 to 0.76) |")
    assert cells(lines, "4")["one, all, held-out pair"] == "0.90 (0.85 to 0.94)"


def test_emoji_and_lora_print_the_judges_on_real_pictures_beside():
    hit = {"_low": 0.6, "_high": 0.8, "": 0.7}
    rows = {
        "emoji-real": {f"pairs_recall_at_1{end}": value for end, value in hit.items()},
        "lora-real": {f"new_style_hit_rate{end}": value for end, value in hit.items()},
        "lora-4": {"trained_parameters": 12_345, "training_core_minutes": 1.94},
    }
    lines = latent_tables.emoji(rows)
    assert cells(lines, "*real pictures*", "-", "held-out pairs")["concept, R@1"] == "0.70 (0.60 to 0.80)"
    assert cells(lines, "*real pictures*", "seen captions")["nearest training picture"] == "-"
    tuned = latent_tables.lora(rows)
    assert cells(tuned, "*real pictures*")["new style"] == "0.70 (0.60 to 0.80)"
    assert list(cells(tuned, "LoRA, rank 4").values())[1:3] == ["12,345", "1.9"]
    assert list(cells(tuned, "base, not tuned").values())[1:3] == ["-", "-"]


def test_the_step_of_the_u_net():
    row = {"core_seconds_ratio": 1.3, "core_seconds_ratio_min": 1.25, "core_seconds_ratio_max": 1.4}
    row |= {"unveil_core_seconds": 40.0, "diffusers_core_seconds": 52.0, "unveil_peak_gb": 4.04}
    found = cells(latent_tables.unet_step({"float32": row}), "float32")
    assert found["diffusers' time divided by ours"] == "1.30 (1.25 to 1.40)"
    assert found["unveil, memory, GB"] == "4.0" and found["diffusers, memory, GB"] == "not run"


def test_marks_of_the_page_are_filled(tmp_path, monkeypatch):
    monkeypatch.setattr(latent_tables, "RESULTS", tmp_path)
    monkeypatch.setattr(latent_tables, "PAGE", tmp_path / "page.md")
    latent_tables.main()
    assert not (tmp_path / "page.md").exists(), "the page is written by hand"
    (tmp_path / "page.md").write_text("# A\n\n<!-- lora -->\nold\n<!-- /lora -->\n\nend\n")
    latent_tables.main()
    text = (tmp_path / "page.md").read_text()
    assert text.startswith("# A\n\n<!-- lora -->\n| method |") and text.endswith("<!-- /lora -->\n\nend\n")
    assert "old |" not in text and "| LoRA, rank 4 | not run |" in text
