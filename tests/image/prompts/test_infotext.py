"""Infotext: the written form, and that reading is its inverse."""

from hypothesis import given
from hypothesis import strategies as st

from unveil.image.prompts.infotext import infotext, parse_infotext

TEXT = "a (cat:1.2)\nsecond line\nNegative prompt: blurry, low\nSteps: 20, Sampler: Euler a, CFG scale: 7.0, Seed: 1, Size: 512x768"


def test_it_is_written_as_other_programs_read_it():
    settings = {"Steps": 20, "Sampler": "Euler a", "CFG scale": 7.0, "Seed": 1, "Size": "512x768"}
    assert infotext("a (cat:1.2)\nsecond line", "blurry, low", settings) == TEXT


def test_it_is_read_back_and_the_size_is_split():
    read = parse_infotext(TEXT)
    assert read.prompt == "a (cat:1.2)\nsecond line"
    assert read.negative == "blurry, low"
    assert read.settings["CFG scale"] == "7.0"
    assert (read.settings["Size-1"], read.settings["Size-2"]) == ("512", "768")


def test_a_prompt_that_looks_like_settings_is_a_prompt():
    assert parse_infotext("portrait, style: ink, light: low") == ("portrait, style: ink, light: low", "", {})


def test_without_a_negative_prompt_there_is_no_such_line():
    assert infotext("a", "", {"Steps": 1}).split("\n") == ["a", "Steps: 1"]


value = (
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1)
    .map(str.strip)
    .filter(lambda text: text and not text.startswith('"') and not set("\x85\x0b\x0c") & set(text))
)


@given(st.lists(value, min_size=3, max_size=3))
def test_settings_of_any_text_are_read_back(values: list[str]):
    settings = dict(zip(("Lora hashes", "Model", "Version"), values, strict=True))
    read = parse_infotext(infotext("a cat", "", settings))
    assert {name: read.settings[name] for name in settings} == settings
