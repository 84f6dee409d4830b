"""An export with hostile names, and the system's Chromium, without a window."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_runs import APPEARANCE, GEOMETRY, freeze, small_run, wall

from gen3r_bench import registry
from gen3r_bench.baselines.diagnostics import DIAGNOSTICS
from gen3r_bench.protocols.geometry import SceneTruth
from gen3r_bench.reports.leaderboard.export import export
from gen3r_bench.runs.kept import Kept, SceneSource
from gen3r_bench.runs.rows import DiagnosticRow

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
HOSTILE = "<img src=x onerror=alert(1)>\"'&"
PROMPT = "</script><script>alert(1)</script>\"'& a study"


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``index.html`` of an export of two protocols, one of whose rows and all of whose prompts are hostile."""
    place = tmp_path_factory.mktemp("browser")
    real = SceneSource.truth

    def with_prompt(source: SceneSource, kept: Kept) -> SceneTruth:
        return SceneTruth(replace(real(source, kept).scene, prompt=PROMPT))

    rows = [wall(HOSTILE, 2.0), wall("far", 6.0), wall("middle", 4.0), freeze(), DiagnosticRow(DIAGNOSTICS["oracle"])]
    run = small_run(place / "run", rows, cards=(GEOMETRY, APPEARANCE))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SceneSource, "truth", with_prompt)
        export([run.path], place / "out", registry.metrics())
    return place / "out" / "index.html"


@pytest.fixture
def open_browser() -> Iterator[Callable[..., Any]]:
    """``open_browser(width=1280, height=900, dark=False)``: a new Chromium; skipped where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: tox -e browser")
    binary = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    driver_path = shutil.which("chromedriver")
    if binary is None or driver_path is None:
        pytest.skip("no Chromium with its driver on this machine: apt-get install chromium chromium-driver")
    opened = []

    def open_one(width: int = 1280, height: int = 900, *, dark: bool = False) -> Any:
        options = webdriver.ChromeOptions()
        options.binary_location = binary
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_path))
        opened.append(browser)
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        return browser

    yield open_one
    for browser in opened:
        browser.quit()


@pytest.fixture
def visit(page: Path, open_browser: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """``visit(...)``: the page in a new browser, which in the end has logged nothing and loaded files alone."""
    browsers = []

    def open_page(**options: Any) -> Any:
        browser = open_browser(**options)
        browser.get(page.as_uri())
        browsers.append(browser)
        return browser

    yield open_page
    for browser in browsers:
        assert browser.get_log("browser") == []
        addresses = requested(browser)
        assert page.as_uri() in addresses
        folder = page.parent.as_uri()
        assert [address for address in addresses if not address.startswith((folder, "data:"))] == []


def requested(browser: Any) -> list[str]:
    """Every address that the page asked for since the last call."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [
        message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"
    ]
