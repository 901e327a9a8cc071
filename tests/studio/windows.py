"""Windows of the tests of the page, what every tab should pass in them, and their pictures for the documentation."""

import os
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent.parent / "docs" / "studio"
DESKTOP, PHONE = {"width": 1280, "height": 860}, {"width": 400, "height": 800}
SERIOUS = ("serious", "critical")


def check_access(page):
    """axe-core finds nothing serious or critical."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    serious = [(it["id"], [node["html"] for node in it["nodes"]]) for it in found if it["impact"] in SERIOUS]
    assert not serious, serious


def check_width(page):
    """Nothing is wider than the window."""
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def check_words(page):
    """A page in Chinese has no English sentences."""
    code = """[...document.querySelectorAll('[data-t]')].map((it) => it.lang ? '' : it.textContent)
        .filter((it) => /[A-Za-z]{5}/.test(it))"""
    assert page.evaluate(code) == []


def picture(page, name, **options):
    """With `UNVEIL_SCREENSHOTS=1`, write docs/studio/NAME.png, with few colours so that it stays small."""
    if not os.environ.get("UNVEIL_SCREENSHOTS"):
        return
    from PIL import Image

    FOLDER.mkdir(exist_ok=True)
    file = FOLDER / f"{name}.png"
    page.screenshot(path=file, **options)
    with Image.open(file) as image:
        small = image.convert("RGB").quantize(128, dither=Image.Dither.NONE)
    small.save(file, optimize=True)
