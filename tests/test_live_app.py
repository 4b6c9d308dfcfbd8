"""The example that serves a run, end to end: a real server on loopback, its events, and its page in a real browser."""

from __future__ import annotations

import importlib.util
import json
import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvicorn

from star_actors import Report

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

FOLDER = Path(__file__).parent.parent / "examples" / "live_app"
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1200,1000"
)
LONG = "rate=0.001&pause=0.05"
"""A run that takes 200 rounds and 10 s at least: it is left long before."""


class Served:
    """The app on a port of its own; `ended` holds the reports of the runs that are over."""

    def __init__(self) -> None:
        spec = importlib.util.spec_from_file_location("live_app", FOLDER / "app.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["live_app"] = module
        spec.loader.exec_module(module)
        self.ended: SimpleQueue[Report] = SimpleQueue()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        config = uvicorn.Config(
            module.make_app(self.ended.put), log_level="warning", ws="none", timeout_graceful_shutdown=5
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]}, daemon=True)

    def __enter__(self) -> Served:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join(20)
        self.socket.close()

    def left_behind(self) -> list[str]:
        """The threads of runs that are still there."""
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("star")]


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with Served() as served:
        yield served


@pytest.fixture
def client(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, timeout=30) as client:
        yield client


def events_of(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Server-sent events as a browser reads them."""
    found = []
    for block in text.split("\n\n")[:-1]:
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


# The events


def test_a_run_is_streamed_as_server_sent_events(client: httpx.Client, served: Served) -> None:
    answer = client.get("/run?pause=0")
    assert answer.headers["content-type"].startswith("text/event-stream")
    names = [name for name, _ in events_of(answer.text)]
    report = served.ended.get(timeout=30)
    assert names == ["start", *["round"] * len(report.rounds), "end"]


def test_each_round_has_its_number_and_the_coefficients_of_the_report(client: httpx.Client, served: Served) -> None:
    told = [data for name, data in events_of(client.get("/run?pause=0").text) if name == "round"]
    report = served.ended.get(timeout=30)
    assert [(data["number"], data["values"]) for data in told] == [(r.number, r.aggregate) for r in report.rounds]


def test_the_end_tells_the_released_result(client: httpx.Client, served: Served) -> None:
    name, last = events_of(client.get("/run?pause=0").text)[-1]
    assert (name, last["values"]) == ("end", served.ended.get(timeout=30).result)


def test_a_round_is_sent_before_the_next_one_begins(client: httpx.Client, served: Served) -> None:
    with client.stream("GET", f"/run?{LONG}") as answer:
        lines = answer.iter_lines()
        while next(lines) != "event: round":
            continue
        assert served.ended.empty()
    served.ended.get(timeout=30)


def test_a_reader_that_goes_away_stops_every_node(client: httpx.Client, served: Served) -> None:
    with client.stream("GET", f"/run?{LONG}") as answer:
        next(answer.iter_lines())
    report = served.ended.get(timeout=30)
    assert report.stop_reason == "stopped"
    assert report.result is None
    assert len(report.rounds) < 200
    assert served.left_behind() == []


def test_a_hospital_that_fails_is_named_without_a_path_of_the_server(client: httpx.Client, served: Served) -> None:
    answer = client.get("/run?pause=0&incomplete=yes&sites=3")
    name, failed = events_of(answer.text)[-1]
    served.ended.get(timeout=30)
    assert name == "failed"
    assert failed["text"].startswith("node_2 (default) failed in round 0")
    assert str(FOLDER) not in answer.text


def test_a_run_that_does_not_converge_says_why(client: httpx.Client, served: Served) -> None:
    name, failed = events_of(client.get("/run?pause=0&rate=12").text)[-1]
    served.ended.get(timeout=30)
    assert name == "failed"
    assert "Oscillating: the aggregate comes back every 2 rounds" in failed["text"]


@pytest.mark.parametrize("query", ["sites=1", "sites=1000000", "rate=nan", "pause=-1", "sites=two"])
def test_a_parameter_out_of_bounds_is_refused_with_what_is_wanted(client: httpx.Client, query: str) -> None:
    answer = client.get(f"/run?{query}")
    name, given = query.split("=")
    assert answer.status_code == 400
    assert answer.text.startswith(f"{name}={given!r} is given, a number from ")


# The page


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no chromium and chromedriver on the PATH")
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = chromium
    for flag in FLAGS.split():
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = Chrome(options=options, service=Service(driver))
    try:
        yield browser
    finally:
        browser.quit()


@pytest.fixture
def page(browser: Chrome, served: Served) -> Chrome:
    """The page, freshly opened, in the light, at desktop width."""
    return opened(browser, served)


def opened(browser: Chrome, served: Served, *, scheme: str = "light", width: int = 1200, phone: bool = False) -> Chrome:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": phone}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get("about:blank")
    for kind in ("browser", "performance"):
        browser.get_log(kind)  # type: ignore[no-untyped-call]  # what an earlier test left
    browser.get(served.url)
    return browser


def begin(page: Chrome, **fields: str) -> None:
    """Fill in the form and press Start."""
    for name, value in fields.items():
        page.execute_script(
            "const field = document.querySelector('form').elements[arguments[0]];"
            "if (field.type === 'checkbox') field.checked = true;"
            "else { if (![...field.options ?? [{value: arguments[1]}]].some((o) => o.value === arguments[1]))"
            " field.add(new Option(arguments[1])); field.value = arguments[1]; }",
            name,
            value,
        )
    page.execute_script("document.querySelector('[type=submit]').click()")


def wait_until(page: Chrome, condition: str) -> None:
    """Wait until a JavaScript expression is true, asked again with every change of the page."""
    page.set_script_timeout(60)
    page.execute_async_script(
        f"const [done] = arguments; const look = () => ({condition}) && (watch.disconnect(), done());"
        "const watch = new MutationObserver(look);"
        "watch.observe(document.body, {subtree: true, childList: true, attributes: true, characterData: true}); look();"
    )


def state(name: str) -> str:
    return f"document.querySelector('.status').dataset.state === '{name}'"


def drawn(least: int) -> str:
    """So many rounds are in the table, and a line for each of the four coefficients is in the chart."""
    return (
        f"document.querySelectorAll('tbody tr').length >= {least}"
        " && document.querySelectorAll('svg.values path').length === 4"
    )


def text(page: Chrome, selector: str) -> str:
    return str(page.execute_script(f"return document.querySelector('{selector}').textContent"))


def test_convergence_is_drawn_as_it_happens(page: Chrome, served: Served) -> None:
    begin(page, rate="0.001", pause="0.05")
    wait_until(page, drawn(3))
    assert served.ended.empty()
    assert page.execute_script(f"return {state('running')}")
    page.get("about:blank")
    served.ended.get(timeout=30)


def test_every_round_of_a_converged_run_is_in_the_chart(page: Chrome, served: Served) -> None:
    begin(page, pause="0")
    wait_until(page, state("ended"))
    report = served.ended.get(timeout=30)
    wait_until(page, drawn(len(report.rounds)))
    # The chart follows the table with the next frame.
    points = "document.querySelector('svg.values path')?.getAttribute('d').split('L').length"
    wait_until(page, f"{points} >= {len(report.rounds)}")
    assert page.execute_script(f"return {points}") == len(report.rounds)
    assert f"age {report.result[1]:.3f}" in text(page, ".status")


def test_the_chart_says_its_last_values_in_words(page: Chrome, served: Served) -> None:
    begin(page, pause="0")
    wait_until(page, state("ended"))
    report = served.ended.get(timeout=30)
    wait_until(page, f"document.querySelector('#values-text').textContent.includes('age {report.result[1]:.3f}')")
    assert f"age {report.result[1]:.3f}" in text(page, "#values-text")


def test_leaving_the_page_stops_every_node(page: Chrome, served: Served) -> None:
    begin(page, rate="0.001", pause="0.05")
    wait_until(page, drawn(2))
    page.get("about:blank")
    assert served.ended.get(timeout=30).stop_reason == "stopped"
    assert served.left_behind() == []


def test_the_stop_button_stops_every_node(page: Chrome, served: Served) -> None:
    begin(page, rate="0.001", pause="0.05")
    wait_until(page, drawn(2))
    page.execute_script("document.querySelector('[name=stop]').click()")
    assert served.ended.get(timeout=30).stop_reason == "stopped"
    assert text(page, ".status").endswith("nothing was released.")


def test_a_failing_hospital_is_shown(page: Chrome, served: Served) -> None:
    begin(page, incomplete="yes")
    wait_until(page, state("failed"))
    served.ended.get(timeout=30)
    assert text(page, ".status").endswith("ValueError: a blood pressure is missing")


def test_it_asks_nobody_else_and_complains_of_nothing(page: Chrome, served: Served) -> None:
    begin(page, pause="0")
    wait_until(page, state("ended"))
    served.ended.get(timeout=30)
    logged: Any = page.get_log  # its types are missing
    assert logged("browser") == []
    sent = [json.loads(entry["message"])["message"] for entry in logged("performance")]
    asked = [e["params"]["request"]["url"] for e in sent if e["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith((served.url, "data:", "about:"))] == []
    assert f"{served.url}/live.js" in asked


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_does_not_scroll_sideways(browser: Chrome, served: Served, width: int) -> None:
    page = opened(browser, served, width=width, phone=True)
    begin(page, pause="0")
    wait_until(page, state("ended"))
    served.ended.get(timeout=30)
    assert page.execute_script("return document.documentElement.scrollWidth") == width


def test_it_works_by_keyboard_alone(page: Chrome, served: Served) -> None:
    from selenium.webdriver import ActionChains, Keys

    page.execute_script("document.querySelector('form').elements.pause.value = '0'")
    ActionChains(page).send_keys(Keys.TAB, Keys.ENTER).perform()
    wait_until(page, state("ended"))
    assert served.ended.get(timeout=30).stop_reason == "converged"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_lines_stand_out_in_both_schemes(browser: Chrome, served: Served, scheme: str) -> None:
    page = opened(browser, served, scheme=scheme)
    begin(page, pause="0")
    wait_until(page, f"{state('ended')} && {drawn(20)}")
    served.ended.get(timeout=30)
    ground = luminance(page, "body", "background-color")
    assert (ground < 0.1) is (scheme == "dark")
    for selector, name in [("h1", "color"), ("p.quiet", "color"), (".status", "color"), ("svg text", "fill")]:
        assert contrast(ground, luminance(page, selector, name)) >= 4.5, selector
    for series in range(4):
        assert contrast(ground, luminance(page, f".s{series} text", "fill")) >= 4.5, series


def luminance(page: Chrome, selector: str, name: str) -> float:
    script = "return getComputedStyle(document.querySelector(arguments[0])).getPropertyValue(arguments[1])"
    numbers = page.execute_script(script, selector, name).strip("rgba()").split(",")[:3]
    parts = [int(part) / 255 for part in numbers]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)
