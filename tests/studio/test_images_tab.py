"""The Images tab in Chromium: what people do with it, from prompt to picture."""

import base64
import io
import zipfile

import numpy as np
import pytest
from PIL import Image, ImageDraw
from windows import PHONE, check_access, check_width, check_words, picture


def fill(page, model="shapes-text", prompt="a red circle", **values):
    page.select_option("#checkpoint", model)
    if prompt:
        page.fill("[name=prompt]", prompt)
    for name, value in ({"steps": 2} | values).items():
        page.fill(f"[name={name}]", str(value))


def make(page, count=1):
    """Make pictures; returns the files of the gallery, the newest first."""
    before = page.locator("#gallery > li").count()
    page.click("#go")
    page.wait_for_selector(f"#gallery > li:nth-child({before + count})")
    page.wait_for_selector("#go:enabled")
    return files(page)


def files(page):
    """The pictures of the gallery, as they are downloaded."""
    found = []
    for link in page.locator("#gallery a[download]").all():
        with page.expect_download() as loading:
            link.click()
        found.append(loading.value.path().read_bytes())
    return found


def pixels(file):
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB")).astype(int)


def drop(page, data, name="dropped.png"):
    """Drop a file on the page."""
    code = """([text, name]) => {
        const bytes = Uint8Array.from(atob(text), (it) => it.charCodeAt(0));
        const data = new DataTransfer();
        data.items.add(new File([bytes], name, { type: 'image/png' }));
        const panel = document.getElementById('panel-images');
        for (const kind of ['dragover', 'drop'])
            panel.dispatchEvent(new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true }));
    }"""
    page.evaluate(code, [base64.b64encode(data).decode(), name])


def test_from_a_prompt_to_pictures(page):
    fill(page, prompt="a red circle left of a small blue square", n=2, seed=1)
    found = make(page, 2)
    assert [pixels(file).shape for file in found] == [(32, 32, 3)] * 2
    assert page.inner_text("#status") == "done: 2 images"
    first = page.locator("#gallery li").first
    assert first.locator("img").get_attribute("alt") == "a red circle left of a small blue square"
    assert not first.locator("details p").is_visible()
    first.locator("summary").click()
    assert "Seed: 2" in first.locator("details p").inner_text()


def test_an_example_of_the_empty_page_makes_a_picture(page):
    assert page.is_visible("#empty")
    page.fill("[name=steps]", "2")
    page.locator("#examples button").first.click()
    page.wait_for_selector("#gallery > li")
    assert page.input_value("[name=prompt]") == page.locator("#gallery img").get_attribute("alt")
    assert page.is_hidden("#empty")


def test_previews_and_progress(page):
    fill(page, "emoji-text", "a red heart", steps=60, n=4)
    page.click("#go")
    page.wait_for_selector("#preview:visible")
    assert page.is_visible("#progress") and page.is_disabled("#go")
    assert page.locator("#preview").evaluate("it => it.decode().then(() => it.naturalWidth)") == 128
    page.click("#stop")
    page.wait_for_selector("#preview", state="hidden")


def test_stop(page):
    fill(page, steps=1000, n=4)
    page.click("#go")
    page.click("#stop")
    page.wait_for_selector("#go:enabled")
    assert page.inner_text("#status") == "stopped"
    assert page.locator("#gallery > li").count() == 0
    fill(page, n=1)
    assert len(make(page)) == 1  # the page goes on


def test_image_to_image(page):
    fill(page, seed=1)
    (before,) = make(page)
    page.get_by_role("button", name="Change").click()
    page.wait_for_selector("#canvas")
    assert page.is_visible("#canvas") and page.is_hidden("#brushes") and page.is_visible("#forget")
    page.fill("[name=strength]", "0.3")
    page.fill("[name=prompt]", "a blue square")
    near = make(page)[0]
    page.fill("[name=strength]", "1")
    far = make(page)[0]
    distance = [np.abs(pixels(it) - pixels(before)).mean() for it in (near, far)]
    assert 0 < distance[0] < distance[1]
    page.click("#forget")
    assert page.is_hidden("#canvas")


def test_painting_a_part_anew(page):
    fill(page, seed=1, steps=4)
    (before,) = make(page)
    page.get_by_role("button", name="Paint").click()
    page.wait_for_selector("#brushes")
    page.click("#go")
    page.wait_for_selector("#error:has-text('Paint over the part')")
    page.fill("#brush", "20")
    page.locator("#canvas").scroll_into_view_if_needed()
    box = page.locator("#canvas").bounding_box()
    page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 4)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + box["height"] - 4)  # one fast stroke
    page.mouse.up()
    assert page.inner_text("#error") == ""
    page.fill("[name=prompt]", "a blue square")
    page.fill("[name=seed]", "5")
    page.locator("#canvas").scroll_into_view_if_needed()
    page.evaluate("scrollTo(0, 0)")
    picture(page, "images-inpainting")
    after = make(page)[0]
    moved = np.abs(pixels(after) - pixels(before)).max(2)
    assert moved[:, 18:30].mean() > 4 * max(1, moved[:, :15].mean())
    assert "mask" not in page.inner_text("#error")
    check_access(page)


def test_painting_with_the_keyboard_and_with_a_file(page, tmp_path):
    fill(page, seed=1)
    (before,) = make(page)
    page.get_by_role("button", name="Paint").click()
    page.wait_for_selector("#brushes")
    page.focus("#canvas")
    for key in ("ArrowRight", "ArrowRight", " ", "ArrowDown", " "):
        page.keyboard.press(key)
    assert not np.array_equal(pixels(make(page)[0]), pixels(before))
    mask = Image.new("L", (32, 32))
    ImageDraw.Draw(mask).rectangle((16, 0, 31, 31), fill=255)
    mask.save(tmp_path / "mask.png")
    page.set_input_files("#mask", tmp_path / "mask.png")
    page.fill("[name=prompt]", "a blue square")
    moved = np.abs(pixels(make(page)[0]) - pixels(before)).max(2)
    assert moved[:, 16:].mean() > 4 * max(1, moved[:, :14].mean())


@pytest.mark.parametrize("model", ["shapes-text", "fashion-mnist"])
def test_a_dropped_png_gives_all_fields_and_the_same_picture(page, visit, model):
    if model == "shapes-text":
        fill(page, model, "a red circle\na blue square", n=2, seed=7, scale=2.5, negative="green")
        page.select_option("[name=solver]", "heun")
    else:
        fill(page, model, "", seed=7, scale=1.5)
        page.select_option("[name=label]", "bag")
    page.click("#vary summary")
    page.fill("[name=variation]", "0.2")
    page.fill("[name=variation_seed]", "9")
    count = 2 if model == "shapes-text" else 1
    found = make(page, count)
    names = ("checkpoint", "n", "seed", "steps", "scale", "solver", "variation", "variation_seed")
    names += ("prompt", "negative") if model == "shapes-text" else ("label",)
    other = visit()
    drop(other, found[0])
    other.wait_for_selector("text=settings read")
    for name in names:
        assert other.input_value(f"[name={name}]") == page.input_value(f"[name={name}]"), name
    assert make(other, count) == found


def test_a_dropped_photograph_is_where_an_image_begins(page):
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(file, "png")
    drop(page, file.getvalue())
    page.wait_for_selector("#canvas:visible")
    assert page.inner_text("#status") == "start image loaded"
    assert (page.locator("#canvas").get_attribute("width"), page.is_visible("#larger")) == ("40", False)


def test_a_plot(page, visit):
    fill(page, prompt="a red circle", seed=3)
    page.click("#plot summary")
    page.select_option("#x-setting", "steps")
    page.fill("#x-values", "1, 2-3")
    page.select_option("#y-setting", "prompt")
    page.fill("#y-values", "red, blue")
    assert page.is_hidden("#z-values")
    (grid,) = make(page)
    assert pixels(grid).shape[1] > 3 * 128
    assert (
        page.locator("#gallery img").get_attribute("alt")
        == "Plot: Steps 1, 2-3; Text in the prompt red, blue"
    )
    page.get_by_role("button", name="Single pictures").click()
    page.wait_for_selector("#gallery > li:nth-child(7)")
    cells = files(page)[:6]
    other = visit()
    fill(other, prompt="a blue circle", seed=3, steps=3)
    assert make(other) == [cells[0]]  # the last cell is the first picture
    drop(other, grid)
    other.wait_for_selector("text=settings read")
    assert [other.input_value(f"#{it}") for it in ("x-setting", "x-values", "y-values", "z-setting")] == ["steps", "1, 2-3", "red, blue", ""]  # fmt: skip
    assert make(other)[0] == grid


def test_loras_and_learned_words(page, visit):
    fill(page, seed=3)
    (plain,) = make(page)
    page.click("#networks summary")
    page.fill("#lora-weight", "0.8")
    page.click("#lora-add")
    page.click("#lora-add")  # which replaces the tag
    assert page.input_value("[name=prompt]") == "a red circle <lora:ink:0.8>"
    with_lora = make(page)[0]
    assert not np.array_equal(pixels(with_lora), pixels(plain))
    page.click("#word-add")
    assert page.input_value("[name=prompt]").endswith("<ring>")
    assert not np.array_equal(pixels(make(page)[0]), pixels(with_lora))
    page.fill("[name=prompt]", "<lora:nothing:1>")
    page.click("#go")
    page.wait_for_selector("#error:has-text('there is no LoRA file named')")
    assert len(visit.errors) == 1 and "400" in visit.errors.pop()


def test_fields_are_those_that_the_model_can_use(page):
    fields = {name: f"[name={name}]" for name in ("prompt", "negative", "label", "scale", "width")}
    seen = {}
    for model in ("shapes-text", "fashion-mnist"):
        page.select_option("#checkpoint", model)
        seen[model] = {name for name, place in fields.items() if page.is_visible(place)}
    assert seen["shapes-text"] == {"prompt", "negative", "scale", "width"}
    assert seen["fashion-mnist"] == {"label", "scale", "width"}
    assert page.is_hidden("#networks")
    page.click("#plot summary")
    offered = page.locator("#x-setting option").evaluate_all("all => all.map((it) => it.value)")
    assert "class" in offered and "prompt" not in offered and "strength" not in offered


def test_all_pictures_as_a_zip_and_an_empty_gallery(page):
    fill(page, n=3)
    found = make(page, 3)
    with page.expect_download() as loading:
        page.click("#download-all")
    with zipfile.ZipFile(loading.value.path()) as archive:
        assert archive.testzip() is None
        assert sorted(archive.read(name) for name in archive.namelist()) == sorted(found)
    page.click("#clear")
    assert page.locator("#gallery > li").count() == 0
    assert page.is_visible("#empty") and page.is_hidden("#gallery-tools")


def test_by_keyboard_alone(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        name = page.evaluate("document.activeElement.name || document.activeElement.id")
        reached.append(name)
        if name == "prompt":
            page.keyboard.type("a red circle")
        if name == "steps":
            page.keyboard.press("Control+A")
            page.keyboard.type("2")
        if name == "info":
            break
    wanted = ["tab-images", "checkpoint", "prompt", "negative", "go", "n", "seed", "steps", "solver", "info"]
    assert [name for name in reached if name in wanted] == wanted
    page.focus("[name=prompt]")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#gallery > li")


def test_on_a_phone(visit):
    page = visit(viewport=PHONE, has_touch=True)
    check_width(page)
    fill(page, n=2, seed=1)
    make(page, 2)
    assert page.locator("#gallery img").first.bounding_box()["width"] > 120
    check_width(page)
    for name in ("#start", "#larger", "#vary", "#plot"):
        page.click(f"{name} summary")
        check_width(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_can_be_read(visit, scheme):
    page = visit(color_scheme=scheme)
    check_access(page)
    fill(page, seed=1)
    make(page)
    for name in ("#networks", "#start", "#larger", "#vary", "#plot", "#gallery li"):
        page.click(f"{name} summary")
    page.select_option("#x-setting", "steps")
    check_access(page)


def test_in_chinese(visit):
    page = visit(locale="zh-CN")
    assert page.evaluate("document.documentElement.lang") == "zh"
    assert page.inner_text("#go") == "生成图像"
    assert page.locator("#x-setting option").nth(1).text_content() == "随机种子"
    check_words(page)
    fill(page)
    make(page)
    assert page.inner_text("#status").endswith("1 张图像")
    check_access(page)
    page.click("#language")
    assert page.inner_text("#go") == "Make images"
    assert page.locator("#gallery a").inner_text() == "Download"


def test_a_gallery_with_a_plot(page):
    prompts = ["noto emoji of panda", "noto emoji of sunflower", "twemoji emoji of red apple"]
    prompts += ["noto emoji of tiger face", "noto emoji of pizza", "fluent flat emoji of whale"]
    fill(page, "emoji-text", "\n".join(prompts[::-1]), seed=3, steps=20, n=6)
    make(page, 6)
    page.fill("[name=prompt]", "noto emoji of panda")
    page.click("#plot summary")
    page.select_option("#x-setting", "prompt")
    page.fill("#x-values", "panda, frog, tiger face, red apple, sunflower")
    page.select_option("#y-setting", "prompt")
    page.fill("#y-values", "noto, twemoji, fluent flat")
    make(page)
    page.locator("#gallery .whole img").evaluate("it => it.decode()")
    page.evaluate("document.getElementById('form').scrollTo(0, 0), scrollTo(0, 0)")
    picture(page, "images")
