"""The leaderboard's page as a reader meets it: opened from disk, in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser.conftest import HOSTILE, PROMPT

WHY = "selenium is not installed: tox -e browser"
By = pytest.importorskip("selenium.webdriver.common.by", reason=WHY).By
ActionChains = pytest.importorskip("selenium.webdriver").ActionChains
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
Select = pytest.importorskip("selenium.webdriver.support.select").Select
NoAlertPresentException = pytest.importorskip("selenium.common.exceptions").NoAlertPresentException
Wait = pytest.importorskip("selenium.webdriver.support.wait").WebDriverWait
Visit = Callable[..., Any]
WHOLE_PAGE = "return [document.documentElement.scrollWidth, window.innerWidth]"
PIXELS = """
const canvas = document.getElementById("cloud");
const copy = Object.assign(document.createElement("canvas"), { width: canvas.width, height: canvas.height });
const context = copy.getContext("2d", { willReadFrequently: true });
context.drawImage(canvas, 0, 0);
const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
let sum = 0, painted = 0;
for (let i = 0; i < data.length; i += 4) if (data[i + 3]) { painted += 1; sum = (sum * 31 + i + data[i]) % 1000003; }
return [painted, sum];
"""


def names(browser: Any, board: str = "b0", body: str = "ranked") -> list[str]:
    cells = browser.find_elements(By.CSS_SELECTOR, f"#{board} tbody.{body} th.name")
    return [browser.execute_script("return arguments[0].firstChild.textContent", cell) for cell in cells]


def values(browser: Any, column: int, body: str = "ranked") -> list[float]:
    cells = browser.find_elements(By.CSS_SELECTOR, f"#b0 tbody.{body} td:nth-of-type({column})[data-value]")
    return [float(cell.get_attribute("data-value")) for cell in cells]


def open_scenes(browser: Any, board: str = "b0") -> None:
    browser.find_element(By.CSS_SELECTOR, f"#{board} .open-scenes").click()
    until(browser, lambda: browser.find_elements(By.CSS_SELECTOR, "#shots figure"))


def until(browser: Any, condition: Callable[[], Any]) -> Any:
    return Wait(browser, 20).until(lambda _: condition())


def test_columns_sort_and_floors_stay_below(visit: Visit) -> None:
    browser = visit()
    head, button = "#b0 thead th:nth-of-type(4)", "#b0 thead th:nth-of-type(4) button"  # Chamfer
    first = browser.find_element(By.CSS_SELECTOR, "#b0 thead th:nth-of-type(2)")
    assert first.get_attribute("aria-sort") == "ascending"
    browser.find_element(By.CSS_SELECTOR, button).click()
    assert values(browser, 3) == sorted(values(browser, 3))
    assert browser.find_element(By.CSS_SELECTOR, head).get_attribute("aria-sort") == "ascending"
    assert first.get_attribute("aria-sort") is None
    assert "best first" in browser.find_element(By.ID, "announcement").get_attribute("textContent")
    order = names(browser)
    browser.find_element(By.CSS_SELECTOR, button).click()
    assert values(browser, 3) == sorted(values(browser, 3), reverse=True)
    assert values(browser, 3, "unranked") == sorted(values(browser, 3, "unranked"), reverse=True)
    assert names(browser) == order[::-1]
    assert set(names(browser, body="unranked")) == {"freeze", "oracle"}
    assert len(order) == 3


def test_filters(visit: Visit) -> None:
    browser = visit()
    protocol = Select(browser.find_element(By.NAME, "protocol"))
    protocol.select_by_value("small-appearance")
    shown = {board.get_attribute("id"): board.is_displayed() for board in browser.find_elements(By.CLASS_NAME, "board")}
    assert shown == {"b0": False, "b1": True}
    assert browser.find_element(By.CLASS_NAME, "shown").text == "1 of 2 tables"
    protocol.select_by_value("")
    Select(browser.find_element(By.NAME, "dataset")).select_by_value("mini")
    Select(browser.find_element(By.NAME, "setting")).select_by_value("1view")
    assert all(board.is_displayed() for board in browser.find_elements(By.CLASS_NAME, "board"))
    assert not browser.find_element(By.ID, "nothing").is_displayed()


def test_a_scene_with_its_pictures(visit: Visit) -> None:
    browser = visit()
    open_scenes(browser)
    captions = [caption.text for caption in browser.find_elements(By.CSS_SELECTOR, "#shots figcaption")]
    assert captions[0] == "ground truth"
    assert set(captions[1:]) == {HOSTILE, "far", "middle", "freeze", "oracle"}
    images = browser.find_elements(By.CSS_SELECTOR, "#shots img")
    assert len(images) == 2 + 5 * 3
    until(browser, lambda: all(browser.execute_script("return arguments[0].naturalWidth", image) for image in images))
    assert "frame 2 of 4" in images[0].get_attribute("alt")
    browser.find_element(By.ID, "frame").send_keys(Keys.ARROW_RIGHT)
    assert "frame 3 of 4" in images[0].get_attribute("alt")
    assert images[0].get_attribute("style").count("translateX(-60%)") == 1
    browser.find_element(By.ID, "scene-after").click()
    until(browser, lambda: "test/001" in browser.find_element(By.ID, "scenes-title").text)
    until(browser, lambda: browser.find_elements(By.CSS_SELECTOR, "#shots img")[0].get_attribute("src") != "")
    assert not browser.find_element(By.ID, "scene-after").is_enabled()
    assert len(browser.find_elements(By.CSS_SELECTOR, "#scene-scores tbody tr")) == 5


def test_the_cloud_is_drawn_and_turns(visit: Visit) -> None:
    browser = visit()
    open_scenes(browser)
    painted, before = until(browser, lambda: (found := browser.execute_script(PIXELS))[0] > 500 and found)
    canvas = browser.find_element(By.ID, "cloud")
    assert "Point cloud of" in canvas.get_attribute("aria-label")
    canvas.send_keys(Keys.ARROW_RIGHT)
    _, turned = browser.execute_script(PIXELS)
    assert turned != before
    canvas.send_keys("0")
    assert browser.execute_script(PIXELS) == [painted, before]
    ActionChains(browser).drag_and_drop_by_offset(canvas, 60, 20).perform()
    assert browser.execute_script(PIXELS)[1] != before
    browser.find_element(By.ID, "cloud-reset").click()
    Select(browser.find_element(By.ID, "cloud-choice")).select_by_visible_text("far")
    assert browser.execute_script(PIXELS)[1] != before
    browser.find_element(By.ID, "cloud-truth").click()
    assert browser.execute_script(PIXELS)[0] > painted


def test_names_and_prompts_are_text(visit: Visit) -> None:
    browser = visit()
    assert HOSTILE in names(browser)
    open_scenes(browser)
    assert browser.find_element(By.ID, "scene-prompt").text == f"Prompt: {PROMPT}"
    assert browser.find_elements(By.CSS_SELECTOR, "img[onerror], img[src=x]") == []
    browser.find_element(By.ID, "scenes-close").click()
    browser.find_element(By.CSS_SELECTOR, "#b0 .open-plot").click()
    labels = [label.text for label in browser.find_elements(By.CSS_SELECTOR, "#b0-plot svg text.name")]
    assert HOSTILE in labels
    with pytest.raises(NoAlertPresentException):
        browser.switch_to.alert  # noqa: B018 - asking is the test


def test_the_policy_stops_what_is_not_ours(page: Path, open_browser: Callable[..., Any]) -> None:
    browser = open_browser()
    browser.get(page.as_uri())
    browser.execute_script(
        "const script = document.createElement('script'); script.textContent = 'window.ran = 1';"
        "document.head.append(script); const image = new Image(); image.src = 'https://example.invalid/x.png';"
    )
    said = [entry["message"] for entry in browser.get_log("browser")]
    assert browser.execute_script("return window.ran") is None
    assert len([text for text in said if "Content Security Policy" in text]) == 2


def test_the_plot_follows_its_choices(visit: Visit) -> None:
    browser = visit()
    button = browser.find_element(By.CSS_SELECTOR, "#b0 .open-plot")
    button.click()
    assert button.get_attribute("aria-expanded") == "true"
    assert len(browser.find_elements(By.CSS_SELECTOR, "#b0-plot circle")) == 5
    places = [circle.get_attribute("cx") for circle in browser.find_elements(By.CSS_SELECTOR, "#b0-plot circle")]
    quality, cost = (Select(one) for one in browser.find_elements(By.CSS_SELECTOR, "#b0-plot select"))
    cost.select_by_visible_text("memory")
    assert places != [one.get_attribute("cx") for one in browser.find_elements(By.CSS_SELECTOR, "#b0-plot circle")]
    assert "peak GiB" in browser.find_element(By.CSS_SELECTOR, "#b0-plot svg").get_attribute("aria-label")
    quality.select_by_visible_text("Chamfer")
    assert "Chamfer" in browser.find_element(By.CSS_SELECTOR, "#b0-plot svg").get_attribute("aria-label")
    button.click()
    assert not browser.find_element(By.ID, "b0-plot").is_displayed()


def press(browser: Any, *keys: str) -> None:
    for key in keys:
        browser.switch_to.active_element.send_keys(key)


def test_with_the_keyboard_alone(visit: Visit) -> None:
    browser = visit()
    body = browser.find_element(By.TAG_NAME, "body")
    body.send_keys(Keys.TAB)
    assert browser.switch_to.active_element.text == "Skip to the tables"
    for _ in range(40):
        press(browser, Keys.TAB)
        if browser.switch_to.active_element.text.startswith("Completeness"):
            break
    press(browser, Keys.ENTER)
    assert values(browser, 2) == sorted(values(browser, 2))
    for _ in range(40):
        press(browser, Keys.TAB)
        if browser.switch_to.active_element.text == "Scenes":
            break
    opener = browser.switch_to.active_element
    press(browser, Keys.ENTER)
    until(browser, lambda: browser.find_elements(By.CSS_SELECTOR, "#shots figure"))
    assert browser.switch_to.active_element.get_attribute("id") == "scenes-title"
    reached = set()
    for _ in range(12):
        press(browser, Keys.TAB)
        focused = browser.switch_to.active_element
        reached.add(focused.get_attribute("id"))
        inside = browser.execute_script("return arguments[0].closest('dialog') !== null", focused)
        assert inside or focused.tag_name == "body"  # the browser's own controls lie between the last and the first
    assert reached >= {"scenes-close", "scene-choice", "frame", "cloud", "cloud-choice", "cloud-truth"}
    press(browser, Keys.ESCAPE)
    assert not browser.find_element(By.ID, "scenes").is_displayed()
    assert browser.switch_to.active_element == opener


@pytest.mark.parametrize("width", [320, 390])
def test_on_a_phone(visit: Visit, width: int) -> None:
    browser = visit(width=width, height=844)
    scroll, inner = browser.execute_script(WHOLE_PAGE)
    assert scroll <= inner == width
    browser.find_element(By.CSS_SELECTOR, "#b0 .open-plot").click()
    open_scenes(browser)
    dialog = "const dialog = document.getElementById('scenes'); return [dialog.scrollWidth, dialog.clientWidth]"
    assert browser.execute_script(dialog) == [width, width]
    assert browser.execute_script(WHOLE_PAGE)[0] <= width
    small = browser.execute_script(
        "return [...document.querySelectorAll('dialog button, dialog select')].filter(e => e.offsetParent)"
        ".map(e => e.getBoundingClientRect().height).filter(h => h < 30)"
    )
    assert small == []


CONTRAST = """
function channel(v) { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }
function luminance([r, g, b]) { return 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b); }
function parsed(text) {
  const numbers = text.match(/[0-9.]+/g).map(Number);
  return numbers.length > 3 && numbers[3] === 0 ? null : numbers.slice(0, 3);
}
const failed = [];
for (const node of document.querySelectorAll("body *")) {
  const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
  if (!own || !node.offsetParent || node.closest("svg, option, .visually-hidden") || node.disabled) continue;
  let behind = null;
  for (let at = node; at && !behind; at = at.parentElement) behind = parsed(getComputedStyle(at).backgroundColor);
  const [a, b] = [luminance(parsed(getComputedStyle(node).color)), luminance(behind)].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < 4.5) failed.push([node.className || node.tagName, node.textContent.trim().slice(0, 30), ratio]);
}
return failed;
"""


@pytest.mark.parametrize("dark", [False, True])
def test_light_and_dark_have_contrast(visit: Visit, dark: bool) -> None:
    browser = visit(dark=dark)
    assert browser.execute_script("return matchMedia('(prefers-color-scheme: dark)').matches") is dark
    for details in browser.find_elements(By.TAG_NAME, "details"):
        browser.execute_script("arguments[0].open = true", details)
    assert browser.execute_script(CONTRAST) == []
    open_scenes(browser)
    assert browser.execute_script(CONTRAST) == []


def test_controls_have_names(visit: Visit) -> None:
    browser = visit()
    open_scenes(browser)
    tree = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = {"button", "combobox", "slider", "checkbox", "image", "table", "dialog", "link"}
    nameless = [
        node["role"]["value"]
        for node in tree
        if not node["ignored"] and node["role"]["value"] in roles and not node.get("name", {}).get("value")
    ]
    assert nameless == []
    assert sum(node["role"]["value"] == "image" for node in tree if not node["ignored"]) >= 17


def test_without_its_script_the_page_still_has_its_tables(page: Path, open_browser: Callable[..., Any]) -> None:
    browser = open_browser()
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.get(page.as_uri())
    assert len(browser.find_elements(By.CSS_SELECTOR, "#b0 tbody th.name")) == 5
    assert browser.find_element(By.ID, "b1").is_displayed()
