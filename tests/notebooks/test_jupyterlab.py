"""JupyterLab itself, in a real browser: open a notebook, run it, look at it, interrupt a cell and go on."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from playwright.async_api import Page, async_playwright, expect

from labkit.support.clock import scaled

ROOT = Path(__file__).parents[2]
SCREENSHOTS = ROOT / "build" / "screenshots"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TOKEN = "only-for-this-test"

#: Whether JupyterLab is dark: for those who look at the pictures, which have another name then.
DARK = bool(os.environ.get("LABKIT_DARK"))

#: The height of a page of a notebook's pictures; and of a window in which JupyterLab draws every cell.
PAGE, TALL = 1600, 16_000

#: Always this one; the others are there for their screenshots above all.
CHOSEN = ("00",)
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300), pytest.mark.xdist_group("jupyterlab")]

WAITS_FOR_EVER = """\
import asyncio, labkit

async def waits(websocket):
    print("the handler waits")
    await asyncio.Event().wait()

print("the cell runs")
await labkit.play(waits, on="websockets", fault="reset", patience=3600)"""
LISTENING = """\
import psutil
print("listening:", sum(c.status == "LISTEN" for c in psutil.Process().net_connections("inet")))"""


@pytest.fixture(scope="module")
def jupyterlab(tmp_path_factory: pytest.TempPathFactory, browser_program: str) -> Iterator[str]:
    """JupyterLab over a copy of the notebooks, with no settings but these; gives its address."""
    home = tmp_path_factory.mktemp("jupyterlab")
    for folder in ("notebooks", "examples"):  # notebook 02 runs two of the examples
        shutil.copytree(ROOT / folder, home / folder)
    settings = {
        # All cells in the page, also those out of sight, so that a test can look at them.
        "notebook-extension/tracker": {"windowingMode": "none"},
        "apputils-extension/themes": {"theme": "JupyterLab Dark" if DARK else "JupyterLab Light"},
        "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    }
    for name, values in settings.items():
        file = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    environment = {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "JUPYTER_TOKEN": TOKEN,
        "IPYTHONDIR": str(home / "ipython"),
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"]
    command += ["--ServerApp.port=0", f"--ServerApp.root_dir={home / 'notebooks'}"]
    with (home / "log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        told = home / "runtime" / f"jpserver-{server.pid}.json"
        deadline = time.monotonic() + scaled(60)
        while not (told.exists() and told.read_text().endswith("}")):
            assert server.poll() is None, (home / "log").read_text()
            assert time.monotonic() < deadline, (home / "log").read_text()
            time.sleep(0.05)
        yield json.loads(told.read_text())["url"]
    finally:
        family = [*psutil.Process(server.pid).children(recursive=True), psutil.Process(server.pid)]
        server.terminate()
        with suppress(subprocess.TimeoutExpired):
            server.wait(scaled(15))
        for process in family:
            if process.is_running():
                process.kill()
        server.wait()


@pytest.fixture
def server(jupyterlab: str) -> Iterator[str]:
    """JupyterLab's address; the kernels that a test started end with it."""
    yield jupyterlab

    def ask(method: str, path: str) -> bytes:
        headers = {"Authorization": f"token {TOKEN}"}
        request = urllib.request.Request(f"{jupyterlab}api/{path}", method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=scaled(20)) as answer:
            body: bytes = answer.read()
            return body

    for kernel in json.loads(ask("GET", "kernels")):
        ask("DELETE", f"kernels/{kernel['id']}")


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The browser's own folder: JupyterLab's scripts are loaded and compiled once."""
    return tmp_path_factory.mktemp("profile")


@pytest.fixture
async def page(server: str, browser_program: str, profile: Path) -> AsyncIterator[Page]:
    """An empty page of a browser that has just been started."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch_persistent_context(
            profile, executable_path=browser_program, headless=True, args=FLAGS, viewport={"width": 1280, "height": 900}
        )
        try:
            page = await browser.new_page()
            page.set_default_timeout(scaled(30) * 1000)
            expect.set_options(timeout=scaled(30) * 1000)
            yield page
        finally:
            await browser.close()


class Notebook:
    """What a person does with a notebook in JupyterLab."""

    def __init__(self, page: Page, name: str) -> None:
        self.page = page
        self.name = name
        self.panel = page.locator(".jp-NotebookPanel:visible")
        self.code = self.panel.locator(".jp-CodeCell")
        self.status = self.panel.locator(".jp-Notebook-ExecutionIndicator")

    async def open(self, server: str) -> None:
        """Open the notebook, and wait until its kernel is there."""
        # A workspace of its own: the default one opens the notebooks of earlier tests beside it.
        workspace = self.name.partition(".")[0]
        await self.page.goto(f"{server}lab/workspaces/{workspace}/tree/{self.name}?token={TOKEN}")
        await expect(self.code.first).to_be_visible(timeout=scaled(60) * 1000)
        # The notebook's own indicator says "idle" before there is a kernel.
        await expect(self.page.locator("#jp-main-statusbar")).to_contain_text("| Idle", timeout=scaled(60) * 1000)

    async def run_all(self) -> None:
        """Run → Run All Cells, and wait until they have run."""
        await self.page.locator("#jp-MainMenu").get_by_text("Run", exact=True).click()
        await self.page.locator(".lm-Menu").get_by_text("Run All Cells", exact=True).click()
        await self.settled()

    async def settled(self) -> None:
        """Wait until no cell is waiting or running; then each has its number, or one has failed."""
        prompts = self.code.locator(".jp-InputPrompt")
        await expect(prompts.first).to_have_text(re.compile(r"\[\d+\]:"))
        await expect(prompts.filter(has_text="*")).to_have_count(0, timeout=scaled(120) * 1000)
        for prompt in await prompts.all_inner_texts():
            # A cell whose code is folded shows no prompt.
            assert re.fullmatch(r"\[\d+\]:|", prompt.strip()), "a cell did not run: one before it has failed"

    async def type_cell(self, source: str) -> int:
        """Write a new last cell and run it; gives its place."""
        await self.panel.locator(".jp-Cell").last.locator(".jp-InputPrompt, .jp-MarkdownOutput").first.click()
        await self.page.keyboard.press("Escape")
        await self.page.keyboard.press("b")
        # Inserted as a whole: typed letter by letter, the editor would indent and close brackets by itself.
        await self.page.keyboard.press("Enter")
        await self.page.keyboard.insert_text(source)
        await self.page.keyboard.press("Control+Enter")
        return await self.code.count() - 1

    def output(self, cell: int, text: str | re.Pattern[str]) -> Any:
        """The output of a cell that holds this text."""
        return self.code.nth(cell).locator(".jp-OutputArea-output", has_text=text)

    async def interrupt(self) -> None:
        """Press the toolbar's square."""
        await self.panel.get_by_role("button", name="Interrupt the kernel").click()

    async def photograph(self, name: str) -> None:
        """Save pictures of the whole notebook, page by page; a single one of that height comes out blank."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        outer = self.panel.locator(".jp-WindowedPanel-outer")
        await self.page.set_viewport_size({"width": 1280, "height": PAGE + 120})
        await outer.evaluate("panel => panel.scrollTo(0, 0)")
        for number in itertools.count(1):
            # Two frames, so that what has come into view is drawn.
            await self.page.evaluate(
                "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
            )
            await self.page.screenshot(path=SCREENSHOTS / f"{name}-{number:02}.png")
            at = await outer.evaluate("panel => panel.scrollTop")
            await outer.evaluate("(panel, height) => panel.scrollBy(0, height)", PAGE - 100)
            if await outer.evaluate("panel => panel.scrollTop") == at:
                break
        await self.page.set_viewport_size({"width": 1280, "height": TALL})


def chosen(path: Path) -> object:
    return pytest.param(path, id=path.stem, marks=[] if path.stem[:2] in CHOSEN else [pytest.mark.soak])


@pytest.mark.parametrize("path", [chosen(path) for path in NOTEBOOKS])
async def test_a_notebook_in_jupyterlab(server: str, page: Page, path: Path, request: pytest.FixtureRequest) -> None:
    """All cells run and show a picture with its text; a cell is interrupted, and the next one works."""
    notebook = Notebook(page, path.name)
    await notebook.open(server)
    await notebook.run_all()
    if "soak" in request.config.option.markexpr:  # a browser without a graphics processor draws them for seconds
        await notebook.photograph(f"{path.stem}-dark" if DARK else path.stem)

    pictures = notebook.code.locator(".jp-OutputArea-output img")
    assert await pictures.count() > 0
    for number in range(await pictures.count()):
        alt, width = await pictures.nth(number).evaluate("image => [image.alt, image.naturalWidth]")
        assert len(alt.split()) > 3
        assert width > 100
    assert await notebook.panel.locator('[data-mime-type="application/vnd.jupyter.error"]').count() == 0
    assert await notebook.panel.locator('[data-mime-type="application/vnd.jupyter.stderr"]').count() == 0

    if path.stem.startswith("00"):
        await expect(notebook.panel).to_contain_text("a WebSocket is open from a page to this kernel")

    counted = await notebook.type_cell(LISTENING)
    await expect(notebook.output(counted, "listening:")).to_be_visible()
    before = await notebook.output(counted, "listening:").inner_text()

    endless = await notebook.type_cell(WAITS_FOR_EVER)
    await expect(notebook.output(endless, "the cell runs")).to_be_visible()
    await expect(notebook.status).to_have_attribute("data-status", "busy")
    await notebook.interrupt()
    await expect(notebook.output(endless, re.compile("CancelledError|KeyboardInterrupt"))).to_be_visible()

    again = await notebook.type_cell(LISTENING)
    await expect(notebook.output(again, "listening:")).to_be_visible()
    assert await notebook.output(again, "listening:").inner_text() == before
