"""The tables of GLIDE, unCLIP, Imagen and all systems, from made results: all rows, "not run", claims."""

import runpy
from pathlib import Path

import latent_tables
import pytest
import text_to_image_claims as claims
import text_to_image_tables as tables

from latent.rows import Bench

ROOT = Path(__file__).resolve().parent.parent
SEED = ("",)


def share(name: str, value: float, half: float = 0.05) -> dict[str, float]:
    return {name: value, f"{name}_low": value - half, f"{name}_high": value + half}


def far(value: float, half: float = 0.1) -> dict[str, float]:
    return {"kernel_distance": value * 1e6, "kernel_distance_ci95": half * 1e6}


def holds(some, rows: dict, begins: str, seed: str = "") -> tuple[str, str]:
    (claim,) = [claim for claim in some if claim.what.startswith(begins)]
    return claim.here(rows, seed)


def test_every_row_of_the_benchmark_is_in_a_table_and_no_other():
    names = set()

    class Asked(dict):
        def get(self, name, default=None):
            names.add(name)
            return default

    for part in tables.PARTS.values():
        part(Asked())
    made = runpy.run_path(str(ROOT / "benchmarks" / "text_to_image.py"))["rows"](Bench())
    frozen = {f"shapes-{encoder}{seed}" for encoder in ("minilm", "words") for seed in ("", "-s1")}
    assert names == set(made) | frozen
    assert frozen <= set(runpy.run_path(str(ROOT / "benchmarks" / "latent.py"))["rows"](Bench()))


def test_without_results_no_cell_has_a_number_and_no_claim_a_verdict():
    for mark, part in tables.PARTS.items():
        lines = part({})
        assert any("not run" in line for line in lines), mark
        for line in lines:
            assert not {"yes", "no", "undecided"} & set(line[2:-2].split(" | ")), mark
            assert "±" not in line and " to " not in line.split(" | ")[-1], mark


def test_guidance_is_compared_at_equal_distance():
    rows = {}
    for scale, at, right in (("1", 3.0, 0.4), ("2", 2.0, 0.8), ("3", 2.0, 0.9), ("6", 3.0, 0.9)):
        rows[f"glide-scale-{scale}"] = far(at) | share("two_seen_all", right)
    for scale, at in (("1", 3.0), ("3", 2.5), ("10", 2.5), ("30", 4.0)):
        rows[f"glide-clip-{scale}"] = far(at) | share("two_seen_all", 0.5)
    begins = (
        "at equal distance, classifier-free guidance is right more often than guidance by CLIP: two objects"
    )
    name = next(c for c in claims.GLIDE_CLAIMS if c.what == begins)
    said, verdict = name.here(rows, "")
    assert said == "+0.40 (+0.30 to +0.50)" and verdict == "yes"
    assert name.here(rows, "-s1") == ("not run", "not run")
    del rows["glide-clip-30"]
    assert name.here(rows, "") == ("not run", "not run"), "a curve without its end is not compared"


def test_signs_of_glides_other_claims():
    rows = {"glide-inpaint": share("known_changed", 0.0, 0.0)}
    rows["glide-upsampler"] = far(0.2) | {"psnr": 24.0, "psnr_ci95": 0.2}
    rows["glide-bicubic"] = far(0.9) | {"psnr": 26.0, "psnr_ci95": 0.2}
    assert holds(claims.GLIDE_CLAIMS, rows, "pixels that are known") == ("0 %", "yes")
    assert holds(claims.GLIDE_CLAIMS, rows, "the upsampler is nearer") == ("0.200 against 0.900", "yes")
    assert holds(claims.GLIDE_CLAIMS, rows, "its PSNR") == ("24.0 against 26.0", "no")
    rows["glide-inpaint"] = share("known_changed", 0.001, 0.0)
    assert holds(claims.GLIDE_CLAIMS, rows, "pixels that are known")[1] == "no"


def test_signs_of_unclips_claims():
    rows = {
        f"decoder-{arm}": share("two_seen_all", 0.9 - 0.2 * k)
        for k, arm in enumerate(("prior", "text", "caption"))
    }
    begins = "two objects, all right: prior"
    assert holds(claims.UNCLIP_CLAIMS, rows, begins) == ("0.90, 0.70, 0.50", "yes")
    rows["decoder-caption"] = share("two_seen_all", 0.72)
    assert holds(claims.UNCLIP_CLAIMS, rows, begins)[1] == "undecided"
    rows["decoder-prior"] = share("two_seen_all", 0.5)
    assert holds(claims.UNCLIP_CLAIMS, rows, begins)[1] == "no"
    rows["clip"] = share("two_held_text_to_image", 0.5) | {"two_held_text_to_image_chance": 0.005}
    rows["prior-diffusion"] = {
        "held_prior": 0.8,
        "held_prior_ci95": 0.01,
        "held_text": 0.6,
        "held_text_ci95": 0.01,
    }
    rows["prior-autoregressive"] = {"held_prior": 0.81, "held_prior_ci95": 0.02}
    assert holds(claims.UNCLIP_CLAIMS, rows, "CLIP finds") == ("0.500 against 0.005", "yes")
    assert holds(claims.UNCLIP_CLAIMS, rows, "the same, held-out pairs") == ("0.800 against 0.600", "yes")
    assert holds(claims.UNCLIP_CLAIMS, rows, "the diffusion prior is nearer")[1] == "undecided"
    kept = {}
    for name in ("colour", "shape", "size", "place"):
        kept |= share(f"one_seen_{name}", 0.97, 0.02)
    rows["decoder-variations"] = kept | {"between_variations": 12.0, "between_variations_ci95": 1.0}
    assert holds(claims.UNCLIP_CLAIMS, rows, "variations keep") == ("least 0.97", "yes")
    assert holds(claims.UNCLIP_CLAIMS, rows, "and their pixels differ") == ("12.0 levels", "yes")
    rows["decoder-variations"] |= share("one_seen_place", 0.6)
    assert holds(claims.UNCLIP_CLAIMS, rows, "variations keep") == ("least 0.60", "no")


def test_signs_of_imagens_claims():
    rows = {"threshold-static-15": far(3.0) | share("saturated", 0.6)}
    rows["threshold-dynamic-15"] = far(1.0) | share("saturated", 0.1)
    assert holds(claims.IMAGEN_CLAIMS, rows, "at scale 15") == ("1.000 against 3.000", "yes")
    assert holds(claims.IMAGEN_CLAIMS, rows, "and saturates") == ("0.10 against 0.60", "yes")
    for level, ours, plain in zip(claims.LEVELS, (2, 1, 1, 1, 1, 1), (3, 3, 2, 4, 4, 4), strict=True):
        rows |= {f"cascade-augmented-{level}": far(ours), f"cascade-plain-{level}": far(plain)}
    best, helps = "the upsampler that saw noise", "with it, noise at sampling helps"
    assert holds(claims.IMAGEN_CLAIMS, rows, best) == ("not run", "not run"), "no level was chosen"
    rows["choice-cascade"] = {"chosen_level": 200}
    assert holds(claims.IMAGEN_CLAIMS, rows, best) == ("1.000 against 2.000", "yes")
    assert holds(claims.IMAGEN_CLAIMS, rows, helps) == ("1.000 against 2.000", "yes")
    rows["choice-cascade"] = {"chosen_level": 0}
    assert holds(claims.IMAGEN_CLAIMS, rows, best)[1] == "undecided"
    assert holds(claims.IMAGEN_CLAIMS, rows, helps) == ("level 0 was chosen", "no")
    rows |= {"shapes-minilm": share("two_held_all", 0.3), "shapes-words": share("two_held_all", 0.9)}
    begins = (
        "a frozen text encoder is right more often than one that learns with the images: two objects, held"
    )
    assert holds(claims.IMAGEN_CLAIMS, rows, begins) == ("0.30 against 0.90", "no")
    rows |= {"efficient": far(1.0) | {"images_per_core_second": 4.0}}
    rows |= {"plain": far(1.0) | {"images_per_core_second": 3.0}}
    assert holds(claims.IMAGEN_CLAIMS, rows, "the efficient U-Net makes") == ("4.0 against 3.0", "yes")
    assert holds(claims.IMAGEN_CLAIMS, rows, "and is nearer after") == ("1.000 against 1.000", "undecided")


def test_systems_are_those_of_the_chosen_scales_and_levels():
    row = far(1.0) | share("two_held_binding", 0.9) | {"side": 64, "training_core_minutes": 25.2}
    rows = {
        "choice-cascade": {"chosen_scale": 3.0, "chosen_level": 100},
        "cascade-augmented-100": row | {"all_core_minutes": 39.9},
        "cascade-augmented-200": row | share("two_held_binding", 0.1),
        "choice-glide": {"chosen_scale": 2.0},
        "glide-scale-2": row | {"side": 32},
    }
    lines = tables.systems(rows)
    (cascade,) = [line[2:-2].split(" | ") for line in lines if line.startswith("| Imagen")]
    assert cascade[1:5] == ["64", "25", "40", "3"]
    assert "0.90 (0.85 to 0.95)" in cascade
    (glide,) = [line[2:-2].split(" | ") for line in lines if line.startswith("| GLIDE")]
    assert glide[1] == "32" and "0.90 (0.85 to 0.95)" in glide
    (latent,) = [line[2:-2].split(" | ") for line in lines if line.startswith("| latent")]
    assert set(latent[1:]) == {"not run"}


def test_claims_have_a_line_for_each_training():
    rows = {"glide-bicubic": far(0.9), "glide-upsampler-s1": far(0.2)}
    (line,) = [one for one in claims.claimed(rows, claims.GLIDE_CLAIMS) if "nearer to true" in one]
    # bicubic interpolation has no training
    assert line[2:-2].split(" | ")[1:] == ["<", "not run<br>0.200 against 0.900", "not run<br>yes"]


def test_marks_of_the_page_are_filled(tmp_path, monkeypatch):
    monkeypatch.setattr(latent_tables, "RESULTS", tmp_path)
    monkeypatch.setattr(latent_tables, "PAGE", tmp_path / "page.md")
    tables.main()
    assert not (tmp_path / "page.md").exists(), "the page is written by hand"
    (tmp_path / "page.md").write_text("# A\n\n<!-- systems -->\nold\n<!-- /systems -->\n\nend\n")
    tables.main()
    text = (tmp_path / "page.md").read_text()
    assert "old" not in text and "| GLIDE | not run |" in text and text.endswith("<!-- /systems -->\n\nend\n")


@pytest.mark.parametrize("mark", tables.PARTS)
def test_the_page_has_each_mark_once(mark):
    text = latent_tables.PAGE.read_text(encoding="utf-8")
    assert text.count(f"<!-- {mark} -->") == text.count(f"<!-- /{mark} -->") == 1
