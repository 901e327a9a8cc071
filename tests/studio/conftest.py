"""A server with the packaged models, and Chromium; a file of tests for each tab.

A test takes `page` (a window of a desktop, in English, light) or opens others by `visit`. At its end there must be
no errors in the console. windows.py has the sizes of windows, and checks that every tab should pass.
"""

import os
import shutil
import threading
from importlib.util import find_spec
from pathlib import Path
from urllib.request import urlopen

import pytest
from windows import DESKTOP

NEEDED = ("fastapi", "uvicorn", "python_multipart", "playwright", "axe_playwright_python")
collect_ignore_glob = [] if all(find_spec(name) for name in NEEDED) else ["test_*.py"]


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.browser)


def program() -> str:
    """Where Chromium is; tests are skipped without."""
    names = (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    found = next((place for name in names if name and (place := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium: `make test-studio` as root installs it, or set CHROMIUM to its program")
    return found


@pytest.fixture(scope="session")
def networks(tmp_path_factory):
    """A folder with LoRA files and a learned word."""
    from random_networks import write_networks

    return write_networks(tmp_path_factory.mktemp("networks"), ("ink",))


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """A file of small pictures for trainings: waves of 8 by 8 pixels."""
    import numpy as np

    y, x = np.mgrid[:8, :8]
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, (64, 2))
    waves = [127 + 120 * np.sin(x / 2 + a) * np.cos(y / 2 + b) for a, b in phases]
    file = tmp_path_factory.mktemp("pictures") / "waves.npz"
    np.savez(file, images=np.array(waves).astype(np.uint8))
    return file


@pytest.fixture(scope="session")
def address(networks, pictures, tmp_path_factory):
    """A server."""
    import torch
    import uvicorn

    from unveil.serve.app import app_of
    from unveil.serve.config import Serve
    from unveil.serve.run import listen
    from unveil.serve.studio import studio_of

    settings = Serve(
        port=0,
        device="cpu",
        threads=torch.get_num_threads(),
        lora=(str(networks / "ink.safetensors"),),
        embedding=(str(networks / "ring.safetensors"),),
        data=(str(pictures),),
        runs=tmp_path_factory.mktemp("studio") / "runs",
    )
    listening = listen(settings)
    server = uvicorn.Server(uvicorn.Config(app_of(studio_of(settings)), log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    place = f"http://127.0.0.1:{listening.getsockname()[1]}/"
    # FastAPI completes routes at the first request, and hides warnings of pydantic meanwhile, which works in one
    # thread at a time only; the requests of a window come together.
    with urlopen(f"{place}api/openapi.json", timeout=60) as answer:
        assert answer.status == 200
    yield place
    server.should_exit = True
    thread.join(timeout=30)


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    place = program()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=place, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, address):
    """Open a tab of the page: `visit("images", viewport=PHONE, locale="zh-CN", color_scheme="dark")`."""
    contexts, errors = [], []

    def open_page(tab="images", **options):
        context = browser.new_context(**{"viewport": DESKTOP, "locale": "en-GB"} | options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda it: errors.append(it.text) if it.type in ("error", "warning") else None)
        page.on("pageerror", lambda it: errors.append(str(it)))
        page.goto(f"{address}#{tab}")
        page.wait_for_selector(f"#panel-{tab}[aria-busy=false]")
        return page

    open_page.errors = errors  # a test that provokes some clears them
    yield open_page
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture
def page(visit):
    return visit()
