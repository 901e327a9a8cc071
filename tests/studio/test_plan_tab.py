"""The Plan tab in Chromium: start, goal, candidates and the ball; and a maze of one's own."""

import pytest
from windows import PHONE, check_access, check_width, check_words, picture

DONE = "#plan-status:has-text('The ball arrived'), #plan-status:has-text('The ball did not arrive')"
MAP = ["######", "#OO#O#", "#OOOG#", "######"]


@pytest.fixture
def page(visit):
    page = visit("plan")
    settle(page)
    return page


def settle(page, steps=4):
    """The smallest maze, and few steps."""
    page.select_option("#plan-checkpoint", "maze-umaze")
    for name, value in {"steps": steps, "candidates": 3, "seed": 1}.items():
        page.fill(f"#plan-form [name={name}]", str(value))


def click(page, row, column):
    """Click on a place of the maze; cell (i, j) reaches from i - 0.7 to i + 0.3."""
    page.locator("#plan-canvas").scroll_into_view_if_needed()
    box = page.locator("#plan-canvas").bounding_box()
    rows, columns = 5, 5
    page.mouse.click(
        box["x"] + (column + 0.7) / columns * box["width"], box["y"] + (row + 0.7) / rows * box["height"]
    )


def points(page):
    values = page.locator("#plan-points input").evaluate_all("all => all.map((it) => Number(it.value))")
    return [tuple(round(it, 1) for it in values[k : k + 2]) for k in range(0, len(values), 2)]


def drawn(page):
    return page.locator("#plan-canvas").evaluate("it => it.toDataURL()")


def test_from_two_clicks_to_a_driven_path(page):
    click(page, 3, 2)
    assert page.is_checked("[name=tool][value=goal]")  # what is set next
    click(page, 1, 2)
    assert points(page) == [(3, 2), (1, 2)]
    before = drawn(page)
    page.click("#plan-go")
    page.wait_for_selector("#plan-status:has-text('denoising')")
    page.wait_for_selector("#plan-status:has-text('Planned in')")
    planned = drawn(page)
    page.wait_for_selector(DONE)
    assert len({before, planned, drawn(page)}) == 3
    assert "4 steps, 3 candidates" in page.inner_text("#plan-status")
    page.click("#plan-again")
    page.wait_for_selector("#plan-status:has-text('denoising')")
    click(page, 1, 3)  # another goal: the old plan is gone
    assert page.inner_text("#plan-status") == "" and page.is_hidden("#plan-again")
    assert points(page)[1] == (1, 3)


def test_waypoints_and_walls(page):
    before = points(page)
    click(page, 2, 2)  # a wall
    assert points(page) == before
    page.check("[name=tool][value=via]")
    click(page, 2, 3)
    assert points(page)[1] == (2, 3) and len(points(page)) == 3
    page.get_by_role("button", name="Remove waypoint 1").click()
    assert points(page) == before


def test_a_plan_in_limited_time(page):
    page.check("#plan-limited")
    assert page.is_hidden("#plan-form [name=steps]") and page.is_visible("#plan-budget")
    page.click("#plan-go")
    page.wait_for_selector("#plan-status:has-text('Planned in')")


def test_by_keyboard_and_without_motion(visit):
    page = visit("plan", reduced_motion="reduce")
    settle(page)
    page.focus("#plan-points input >> nth=0")
    page.keyboard.press("Control+A")
    page.keyboard.type("1")
    page.keyboard.press("Enter")  # which plans
    page.wait_for_selector(DONE)
    assert points(page)[0][0] == 1
    page.focus("#tab-plan")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#tab-policy[aria-selected=true]")
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("#panel-plan:visible")


def test_a_drawn_maze_goes_to_the_train_tab(page):
    page.click("#plan-own summary")
    page.fill("#plan-map", "\n".join(MAP))
    assert page.inner_text("#plan-map-error") == ""
    box = page.locator("#plan-editor").bounding_box()
    page.mouse.click(box["x"] + 1.5 / 6 * box["width"], box["y"] + 1.5 / 4 * box["height"])
    changed = ["######", "##O#O#", *MAP[2:]]
    assert page.input_value("#plan-map") == "\n".join(changed)
    page.focus("#plan-editor")
    for key in ("ArrowDown", " "):  # from the cell that was clicked: a wall, and the way around is closed
        page.keyboard.press(key)
    changed[2] = "##OOG#"
    assert page.input_value("#plan-map") == "\n".join(changed)
    page.click("#plan-train")
    page.wait_for_selector("#panel-train[aria-busy=false]")
    page.wait_for_selector("#train-map:visible")
    assert page.inner_text("#train-map").strip() == "\n".join(changed)
    assert page.input_value("#train-recipe") == "maze"


def test_a_maze_that_cannot_be_used_says_why(page):
    page.click("#plan-own summary")
    page.fill("#plan-map", "####\n#O##\n##O#\n####")
    assert "cannot be reached" in page.inner_text("#plan-map-error")
    assert page.is_disabled("#plan-train")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_access(visit, scheme):
    page = visit("plan", color_scheme=scheme, reduced_motion="reduce")
    settle(page)
    page.click("#plan-add")
    page.click("#plan-go")
    page.wait_for_selector(DONE)
    page.click("#plan-own summary")
    page.click("#plan-clips summary")
    check_access(page)


def test_on_a_phone_in_chinese(visit):
    page = visit("plan", viewport=PHONE, locale="zh-CN", reduced_motion="reduce")
    settle(page)
    check_words(page)
    page.click("#plan-add")
    page.click("#plan-go")
    page.wait_for_selector("#plan-again")
    page.click("#plan-own summary")
    check_width(page)


def test_a_plan_in_the_large_maze(page):
    page.select_option("#plan-checkpoint", "maze-large")
    for name, value in {"steps": 24, "candidates": 12, "seed": 3}.items():
        page.fill(f"#plan-form [name={name}]", str(value))
    page.check("[name=tool][value=via]")
    page.click("#plan-add")
    for k, value in enumerate((1, 1, 3, 9, 7, 9)):
        page.locator("#plan-points input").nth(k).fill(str(value))
        page.keyboard.press("Tab")
    page.click("#plan-go")
    page.wait_for_selector("#plan-status:has-text('Planned in')")
    assert points(page) == [(1, 1), (3, 9), (7, 9)]
    page.wait_for_selector(DONE)
    page.evaluate("scrollTo(0, 0)")
    picture(page, "plan")
