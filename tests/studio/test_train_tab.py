"""The Train tab in Chromium: train, watch, stop, go on, and use the result; the trainings are of seconds."""

import os

import numpy as np
import pytest
from PIL import Image, ImageDraw
from windows import PHONE, check_access, check_width, check_words, picture

LONG = 1_000_000  # steps: until it is stopped


@pytest.fixture
def page(visit):
    return visit("train")


def fill(page, steps, **values):
    """The smallest network of images."""
    page.select_option("#train-recipe", "image")
    page.select_option("#train-source", "waves.npz")
    page.locator("#train-form details").evaluate("it => { it.open = true; }")
    for name, value in {"steps": steps, "width": 16, "batch_size": 4, **values}.items():
        page.fill(f"#train-f-{name}", str(value))


def ended(page, words):
    page.wait_for_selector(f"#train-status:has-text('{words}')", timeout=120_000)


def test_train_stop_go_on_and_use_the_result(page):
    fill(page, LONG)
    page.fill("#train-name", "waves")
    page.click("#train-go")
    page.wait_for_selector("#train-run option:has-text('waves (running)')", state="attached")
    page.wait_for_selector("#train-go:disabled")
    page.wait_for_selector("#train-curve path, #train-curve polyline", state="attached", timeout=120_000)
    page.wait_for_selector("#train-curve-said:has-text('Loss: from')")
    page.click("#train-stop")
    ended(page, "Stopped; it can go on")
    saved = int(page.inner_text("#train-numbers").split("saved at step ")[1].replace(",", ""))
    assert saved > 0
    page.wait_for_selector("#train-go:enabled")
    page.fill("#train-until", str(saved + 20))
    page.click("#train-resume")
    ended(page, "Done")
    assert f"saved at step {saved + 20:,}" in page.inner_text("#train-numbers")
    page.wait_for_selector("#train-samples img")
    assert page.locator("#train-samples img").first.evaluate("it => it.decode().then(() => it.naturalWidth)")
    check_access(page)
    page.click("#train-use")
    page.click("#train-used a")
    page.wait_for_selector("#panel-images[aria-busy=false]")
    page.select_option("#checkpoint", "waves")
    page.fill("[name=steps]", "2")
    page.click("#go")
    page.wait_for_selector("#gallery > li img")
    assert page.locator("#gallery img").evaluate("it => it.decode().then(() => it.naturalWidth)") == 8


def test_a_file_of_ones_own_by_keyboard(page, pictures):
    page.select_option("#train-source", "/upload")
    page.set_input_files("#train-upload", pictures)
    page.locator("#train-form details").evaluate("it => { it.open = true; }")
    for name, value in {"width": "16", "batch_size": "4", "steps": "2"}.items():
        page.focus(f"#train-f-{name}")
        page.keyboard.type(value)
    page.focus("#train-name")
    page.keyboard.type("mine")
    page.keyboard.press("Enter")
    page.wait_for_selector("#train-run option:checked:has-text('mine')", state="attached")
    page.wait_for_selector("#train-command:has-text('--steps=2')", state="attached")  # not of the run before
    ended(page, "Done")


def test_what_cannot_be_trained_is_said(page, visit):
    page.select_option("#train-source", "/upload")
    page.click("#train-go")
    page.wait_for_selector("#error:has-text('Choose')")
    fill(page, 2, learning_rate=-1)
    page.click("#train-go")
    page.wait_for_selector("#error:has-text('learning')")
    assert len(visit.errors) == 1 and "400" in visit.errors.pop()
    fill(page, 2, learning_rate="", width=30)
    page.click("#train-go")
    page.wait_for_selector("#train-message:not(:empty), #error:not(:empty)")
    visit.errors.clear()


def test_fields_follow_the_recipe(page):
    recipes = page.locator("#train-recipe option").evaluate_all("all => all.map((it) => it.value)")
    assert recipes == ["image", "text", "lora", "inversion", "maze", "pusht"]
    for recipe in recipes:
        page.select_option("#train-recipe", recipe)
        page.wait_for_selector("#train-f-steps", state="attached")
        assert page.is_visible("#train-maze-part") == (recipe == "maze")
        assert page.inner_text("#train-about")
    check_access(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_access(visit, scheme):
    page = visit("train", color_scheme=scheme)
    page.click("#train-form summary")
    check_access(page)


def test_nothing_is_shown_of_a_training_before_its_answer(page):
    fill(page, 2)
    page.click("#train-go")
    ended(page, "Done")
    waiting = []
    page.route("**/api/trainings/*", lambda route: waiting.append(route))
    page.reload()
    page.wait_for_selector("#train-run option", state="attached")
    assert page.is_hidden("#train-shown") and page.locator("#train-curve").is_hidden()
    page.unroute("**/api/trainings/*")  # lets those go on that wait
    page.wait_for_selector("#train-curve-said:has-text('Loss')")


def test_on_a_phone_in_chinese(visit):
    page = visit("train", viewport=PHONE, locale="zh-CN")
    check_words(page)
    page.click("#train-form summary")
    check_width(page)


@pytest.mark.skipif(not os.environ.get("UNVEIL_SCREENSHOTS"), reason="a minute, for the picture alone")
def test_a_curve_with_samples(page, tmp_path):
    rng = np.random.default_rng(0)
    images = []
    for _ in range(512):
        image = Image.new("RGB", (64, 64), "white")
        x, y, side = (int(it) for it in rng.integers((6, 6, 24), (24, 24, 36)))
        box, pen = (x, y, x + side, y + side), ImageDraw.Draw(image)
        colour = ("#d62828", "#2a9d8f", "#1f5fbf", "#f2a900")[rng.integers(4)]
        (pen.ellipse, pen.rectangle)[rng.integers(2)](box, fill=colour)
        images.append(np.asarray(image.resize((16, 16), Image.Resampling.LANCZOS)))
    np.savez(tmp_path / "shapes.npz", images=np.stack(images))
    page.select_option("#train-source", "/upload")
    page.set_input_files("#train-upload", tmp_path / "shapes.npz")
    page.fill("#train-name", "coloured-shapes")
    page.fill("#train-f-steps", "1500")
    page.click("#train-go")
    page.locator("#train-samples li img").nth(1).wait_for(timeout=300_000)  # one in 500 steps
    page.evaluate("scrollTo(0, 0)")
    picture(page, "train")
    page.click("#train-stop")
    ended(page, "Stopped")
