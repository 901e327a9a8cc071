"""The Policy tab in Chromium: push, hand over, take back, record and download demonstrations."""

import json

import numpy as np
import pytest
from windows import PHONE, check_access, check_width, check_words, picture

CORNER = (40, 40)  # of 512 pixels
BLUE = (47, 111, 224)  # the disc of a person
SEEN = """([x, y, colour]) => new Promise((resolve) => {
    const it = document.getElementById('policy-canvas');
    const [scale, began] = [it.width / 512, performance.now()];
    const copy = new OffscreenCanvas(it.width, it.height).getContext('2d', { willReadFrequently: true });
    const look = (now) => {
        copy.drawImage(it, 0, 0);
        const { data } = copy.getImageData((x - 8) * scale, (y - 8) * scale, 16 * scale, 16 * scale);
        for (let k = 0; k < data.length; k += 4)
            if (colour.every((value, c) => Math.abs(data[k + c] - value) < 3)) return resolve(true);
        return now - began > 60000 ? resolve(false) : requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
})"""


def begun(page):
    page.wait_for_selector("#policy-status:has-text('You push.')")
    return page


@pytest.fixture
def page(visit):
    """A window with the first of the starts."""
    page = visit("images")
    page.evaluate("Math.random = () => 0")
    page.click("#tab-policy")
    return begun(page)


def drag(page, *places):
    """Press on the table, and go from place to place."""
    page.locator("#policy-canvas").scroll_into_view_if_needed()
    box = page.locator("#policy-canvas").bounding_box()
    scale = box["width"] / 512
    for k, (x, y) in enumerate(places):
        page.mouse.move(box["x"] + x * scale, box["y"] + y * scale, steps=4)
        if k == 0:
            page.mouse.down()
    page.mouse.up()


def pointed(request):
    return request.method == "POST" and "pointer" in (request.post_data or "")


def test_the_disc_follows_the_pointer(page):
    drag(page, (200, 60), CORNER)
    assert page.evaluate(SEEN, [*CORNER, BLUE])
    drag(page, (60, 300))
    assert page.evaluate(SEEN, [60, 300, BLUE])


def test_hand_over_and_take_back(page):
    page.click("#policy-hand")
    page.wait_for_selector("#policy-status:has-text('The policy pushes.')")
    assert page.is_checked("#policy-form [name=driver][value=policy]")
    page.wait_for_selector("#policy-decision:has-text('ms')")
    page.click("#policy-hand:has-text('Take over')")
    begun(page)
    page.wait_for_selector("#policy-hand:has-text('Hand over')")
    page.check("#policy-form [name=driver][value=policy]")  # the other way
    page.wait_for_selector("#policy-status:has-text('The policy pushes.')")


def test_record_and_download_demonstrations(page):
    page.click("#policy-rec")
    page.wait_for_selector("#policy-rec[aria-pressed=true]")
    drag(page, (200, 60), CORNER)
    assert page.evaluate(SEEN, [*CORNER, BLUE])
    page.click("#policy-rec")
    page.wait_for_selector("#policy-recorded:has-text('Episodes: 1')")
    with page.expect_download() as loading:
        page.click("#policy-save")
    assert loading.value.suggested_filename == "pusht-demonstrations.npz"
    with np.load(loading.value.path(), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    assert all(len(it) for it in arrays.values())
    assert any(it.shape[-1:] == (2,) and np.abs(it[-1] - CORNER).max() < 5 for it in arrays.values())
    assert page.is_visible("#policy-train-help")
    page.click("#policy-discard")
    page.wait_for_selector("#policy-save:disabled")


def test_a_disc_to_keep_out_of_and_a_delay(page):
    page.check("#policy-disc")
    page.wait_for_selector("#policy-disc-fields:visible")
    box = page.locator("#policy-canvas").bounding_box()
    drag(page, (330, 330), (400, 120))
    assert abs(int(page.input_value("#policy-form [name=x]")) - 400) <= 1 + 512 / box["width"]
    page.focus("#policy-form [name=delay]")
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    assert page.inner_text("#policy-delay") == "2 steps (0.2 s)"
    assert page.is_visible("#policy-method")
    page.click("#policy-hand")
    page.wait_for_selector("#policy-decision:has-text('ms')")
    picture(page, "policy")


def test_by_keyboard(page):
    page.focus("#policy-canvas")
    with page.expect_request(pointed) as found:
        page.keyboard.press("ArrowLeft")
    first = json.loads(found.value.post_data)["pointer"]
    with page.expect_request(pointed) as found:
        page.keyboard.press("ArrowDown")
    second = json.loads(found.value.post_data)["pointer"]
    assert second[1] > first[1]
    page.focus("#policy-hand")
    page.keyboard.press("Enter")
    page.wait_for_selector("#policy-status:has-text('The policy pushes.')")


def test_another_tab_and_back(page):
    page.click("#tab-images")
    page.wait_for_selector("#panel-policy", state="hidden")
    page.click("#tab-policy")
    begun(page)
    drag(page, (200, 60), CORNER)
    assert page.evaluate(SEEN, [*CORNER, BLUE])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_access(visit, scheme):
    page = begun(visit("policy", color_scheme=scheme))
    page.check("#policy-disc")
    page.click("#policy-rec")
    page.wait_for_selector("#policy-rec[aria-pressed=true]")
    check_access(page)


def test_on_a_phone_in_chinese(visit):
    page = visit("policy", viewport=PHONE, locale="zh-CN")
    page.wait_for_selector("#policy-status:has-text('由你来推')")
    check_words(page)
    page.check("#policy-disc")
    check_width(page)
