"""The Text tab in Chromium: write, see the steps of the tokens, mask some and fill them again; gaps and chat."""

import pytest
from windows import PHONE, check_access, check_width, check_words, picture


@pytest.fixture
def page(visit):
    return visit("text")


def write(page, **values):
    """Write with few tokens; returns them."""
    for name, value in ({"steps": 8, "seed": 1} | values).items():
        page.fill(f"#text-{name}", str(value))
    page.click("#text-go")
    return written(page)


def written(page):
    page.wait_for_selector("#text-tools:visible")
    page.wait_for_selector("#text-status:has-text('seed')")
    return tokens(page)


def tokens(page):
    """Kind and text of each token."""
    code = "all => all.map((it) => [it.dataset.kind, it.textContent])"
    return page.locator("#text-sheet .token").evaluate_all(code)


def test_from_a_beginning_to_coloured_tokens(page):
    found = write(page, prompt="ROMEO:", length=24)
    assert "".join(text for _, text in found).startswith("ROMEO:")
    assert [kind for kind, _ in found].count("new") == 24 and found[0][0] == "given"
    assert page.inner_text("#text-status") == "24 tokens in 8 steps, seed 1"
    new = page.locator("#text-sheet [data-kind=new]")
    assert len(set(new.evaluate_all("all => all.map((it) => getComputedStyle(it).backgroundColor)"))) > 2
    assert "decided in step" in new.first.get_attribute("aria-label")


def test_the_slider_and_playing_again(page):
    found = write(page, length=24)
    page.focus("#text-step")
    page.keyboard.press("Home")
    assert [kind for kind, _ in tokens(page)].count("mask") == 24
    page.keyboard.press("End")
    assert tokens(page) == found
    page.click("#text-play")
    page.wait_for_selector("#text-sheet [data-kind=mask]")
    page.wait_for_selector("#text-shown-step:has-text('after step 8 of 8')")
    assert tokens(page) == found


def test_mask_a_token_and_fill_it_again(page):
    found = write(page, length=24)
    assert page.is_disabled("#text-fill")
    page.locator("#text-sheet .token").nth(12).click()
    assert tokens(page)[12] == ["marked", found[12][1]]
    page.locator("#text-sheet .token").nth(12).click()  # not after all
    assert page.is_disabled("#text-fill")
    page.locator("#text-sheet .token").nth(12).click()
    with page.expect_response(lambda it: it.url.endswith("/result")):
        page.click("#text-fill")
    page.wait_for_selector("#text-status:has-text('1 tokens in')")
    after = written(page)
    assert after[12][0] == "new"
    others = [k for k in range(len(found)) if k != 12]
    assert [after[k][1] for k in others] == [found[k][1] for k in others]
    assert {after[k][0] for k in others} == {"given"}


def test_gaps(page):
    page.check("[name=text-task][value=infill]")
    page.fill("#text-pattern", "To be, ")
    page.fill("#text-gap", "6")
    page.click("#text-insert")
    assert page.input_value("#text-pattern") == "To be, [*6]"
    page.keyboard.type(" that is")
    found = write(page)
    assert [kind for kind, _ in found].count("new") == 6
    text = "".join(text for _, text in found)
    assert text.startswith("To be, ") and text.endswith(" that is")


def test_chat(page):
    page.check("[name=text-task][value=chat]")
    assert page.is_visible("#text-untuned")
    page.fill("#text-length", "12")
    page.fill("#text-message", "Who is there?")
    page.keyboard.press("Enter")
    written(page)
    assert page.locator("#text-turns li").all_inner_texts() == ["You\nWho is there?"]
    page.click("#text-new")
    assert page.is_hidden("#text-turns") and page.is_hidden("#text-sheet")


def test_stop(page):
    page.fill("#text-length", "240")
    page.fill("#text-steps", "1000")
    page.click("#text-go")
    page.click("#text-stop")
    page.wait_for_selector("#text-status:has-text('stopped')")
    page.wait_for_selector("#text-go:enabled")


def test_by_keyboard(page):
    page.focus("#text-length")
    page.keyboard.type("16")
    page.focus("#text-steps")
    page.keyboard.press("Control+A")
    page.keyboard.type("4")
    page.keyboard.press("Enter")  # which writes
    written(page)
    page.focus("#text-sheet [tabindex='0']")
    for key in ("ArrowRight", "ArrowRight", "Enter", "ArrowRight", " "):
        page.keyboard.press(key)
    assert [k for k, (kind, _) in enumerate(tokens(page)) if kind == "marked"] == [2, 3]
    page.focus("#text-fill")
    page.keyboard.press("Enter")
    page.wait_for_selector("#text-status:has-text('2 tokens in')")


def test_an_error_is_said(page, visit):
    page.check("[name=text-task][value=infill]")
    page.fill("#text-pattern", "no gap at all")
    page.click("#text-go")
    page.wait_for_selector("#error:not(:empty)")
    assert len(page.inner_text("#error").splitlines()) == 1
    visit.errors.clear()  # the console names the refused request


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_access(visit, scheme):
    page = visit("text", color_scheme=scheme)
    check_access(page)
    write(page, length=24)
    page.locator("#text-sheet .token").nth(9).click()
    page.focus("#text-step")
    page.keyboard.press("ArrowLeft")  # some are masked
    page.wait_for_selector("#text-sheet [data-kind=mask]")
    check_access(page)


def test_on_a_phone_in_chinese(visit):
    page = visit("text", viewport=PHONE, locale="zh-CN")
    check_words(page)
    page.fill("#text-length", "32")
    page.click("#text-go")
    page.wait_for_selector("#text-tools:visible")
    check_width(page)


def test_a_page_of_text(page):
    write(page, steps=64, seed=12)
    for text in ("thou", "hath"):
        page.locator("#text-sheet .token", has_text=text).first.click()
    assert page.is_enabled("#text-fill")
    page.evaluate("scrollTo(0, 0)")
    picture(page, "text")
