"""The page in a real browser: it opens clean, asks the network for nothing, and works by keyboard, in the dark and on
a phone."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from display_runs import halfway_report, long_report

pytest.importorskip("selenium", reason="selenium is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CHROMEDRIVER = shutil.which("chromedriver")
if CHROMIUM is None or CHROMEDRIVER is None:
    pytest.skip("no chromium and chromedriver on the PATH", allow_module_level=True)

from selenium.webdriver import ActionChains, Chrome, ChromeOptions, Keys  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.select import Select  # noqa: E402

FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1200,900"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in FLAGS.split():
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=Service(CHROMEDRIVER))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a small run."""
    return anyio.run(halfway_report).save(tmp_path_factory.mktemp("saved") / "run.html")


@pytest.fixture
def page(browser: Chrome, saved: Path) -> Chrome:
    """That page, freshly opened, in the light, at desktop width."""
    return opened(browser, saved)


def opened(browser: Chrome, path: Path, *, scheme: str = "light", width: int = 1200, phone: bool = False) -> Chrome:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": phone}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    for kind in ("browser", "performance"):
        entries(browser, kind)  # what an earlier test left
    browser.get(path.as_uri())
    return browser


def entries(browser: Any, kind: str) -> list[dict[str, Any]]:
    """What the browser logged of a kind since this was last asked."""
    return list(browser.get_log(kind))


def shown_lines(page: Chrome) -> list[str]:
    script = "return [...document.querySelectorAll('.logs li:not([hidden])')].map(line => line.innerText)"
    return [str(line) for line in page.execute_script(script)]


def press(page: Chrome, *keys: str) -> None:
    ActionChains(page).send_keys(*keys).perform()


def focused(page: Chrome) -> Any:
    return page.switch_to.active_element


def test_it_opens_without_a_word_on_the_console_and_without_a_request(page: Chrome) -> None:
    assert entries(page, "browser") == []
    events = [json.loads(entry["message"])["message"] for entry in entries(page, "performance")]
    requests = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    # Chromium's own first tab may still be loading, so only what this document asks for counts.
    assert [r["request"]["url"] for r in requests if r["documentURL"] == page.current_url] == [page.current_url]


def test_what_a_node_logged_does_not_run(page: Chrome) -> None:
    assert page.title == "Converged after 11 rounds"
    assert page.find_elements(By.TAG_NAME, "img") == []


def test_a_script_that_gets_in_does_not_run(browser: Chrome, saved: Path, tmp_path: Path) -> None:
    forged = tmp_path / "forged.html"
    script = "<script>document.title='owned'</script>"
    forged.write_text(saved.read_text().replace("<main>", f"{script}<main>"))
    assert opened(browser, forged).title == "Converged after 11 rounds"
    assert any("Content Security Policy" in entry["message"] for entry in entries(browser, "browser"))


def test_search_filters_the_logs_and_says_how_many_are_left(page: Chrome) -> None:
    total = len(shown_lines(page))
    page.find_element(By.NAME, "q").send_keys("MEAN OF ALL 5.2")
    lines = shown_lines(page)
    assert lines
    assert all("mean of all 5.2" in line for line in lines)
    assert page.find_element(By.CSS_SELECTOR, ".found").text == f"{len(lines)} of {total} lines"


def test_node_type_and_round_filter_together(page: Chrome) -> None:
    Select(page.find_element(By.NAME, "node")).select_by_value("node_1")
    Select(page.find_element(By.NAME, "type")).select_by_value("debug")
    page.find_element(By.NAME, "round").send_keys("3-4")
    lines = [line.split() for line in shown_lines(page)]
    assert [(line[0], line[1], line[2]) for line in lines] == [("3", "node_1", "debug"), ("4", "node_1", "debug")]


def test_a_round_that_is_none_is_marked_and_hides_nothing(page: Chrome) -> None:
    total = len(shown_lines(page))
    field = page.find_element(By.NAME, "round")
    field.send_keys("soon")
    assert field.get_attribute("aria-invalid") == "true"
    assert len(shown_lines(page)) == total


def test_slash_goes_to_the_search_and_escape_shows_all_lines_again(page: Chrome) -> None:
    total = len(shown_lines(page))
    press(page, "/")
    assert focused(page).get_attribute("name") == "q"
    press(page, "nothing says this")
    assert shown_lines(page) == []
    press(page, Keys.ESCAPE)
    assert len(shown_lines(page)) == total


def test_tab_reaches_every_part_and_what_has_the_focus_can_be_seen(page: Chrome) -> None:
    reached = []
    for _ in range(30):
        press(page, Keys.TAB)
        element = focused(page)
        if element.tag_name == "body":
            break
        reached.append(element.get_attribute("name") or element.get_attribute("aria-label") or element.text)
        assert element.value_of_css_property("outline-style") != "none"
    assert reached[0] == "Skip to the logs"
    charts = {"Change per round: round", "Time per node: round", "Numbers in the aggregate", "Nodes by time", "Rounds"}
    assert charts | {"q", "node", "type", "round"} <= set(reached)


def test_arrow_keys_walk_along_a_chart_and_say_what_is_there(page: Chrome) -> None:
    track = page.find_element(By.CSS_SELECTOR, "[role=slider]")
    track.send_keys(Keys.HOME)
    assert track.get_attribute("aria-valuetext") == "round 1: changed by 0.50"
    track.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert page.find_element(By.CSS_SELECTOR, ".readout").text == "round 3: changed by 0.12"
    assert page.find_element(By.CSS_SELECTOR, ".cursor").get_attribute("visibility") == "visible"


def test_the_pointer_says_what_is_under_it(page: Chrome) -> None:
    track = page.find_element(By.CSS_SELECTOR, "[role=slider]")
    ActionChains(page).move_to_element_with_offset(track, -track.size["width"] // 2 + 2, 0).perform()
    assert page.find_element(By.CSS_SELECTOR, ".readout").text == "round 1: changed by 0.50"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_the_ground_in_both_schemes(browser: Chrome, saved: Path, scheme: str) -> None:
    opened(browser, saved, scheme=scheme)
    ground = luminance(browser, "body", "background-color")
    assert (ground < 0.1) is (scheme == "dark")
    for selector in ("h1", ".quiet", ".logs span", "thead th", ".marked th", "summary, footer"):
        assert contrast(ground, luminance(browser, selector, "color")) >= 4.5, selector


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_does_not_scroll_sideways(browser: Chrome, saved: Path, width: int) -> None:
    opened(browser, saved, width=width, phone=True)
    assert browser.execute_script("return document.documentElement.scrollWidth") == width
    tick = browser.find_element(By.CSS_SELECTOR, ".plot text").value_of_css_property("font-size")
    assert tick == "12px"


def test_five_thousand_lines_are_searched(browser: Chrome, tmp_path: Path) -> None:
    opened(browser, long_report(500, 50, log_lines=6_000).save(tmp_path / "long.html"))
    browser.find_element(By.NAME, "q").send_keys("line 5999")
    assert browser.find_element(By.CSS_SELECTOR, ".found").text == "1 of 5,000 lines"


def luminance(browser: Chrome, selector: str, name: str) -> float:
    script = "return getComputedStyle(document.querySelector(arguments[0])).getPropertyValue(arguments[1])"
    numbers = browser.execute_script(script, selector, name).strip("rgba()").split(",")[:3]
    parts = [int(part) / 255 for part in numbers]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)
