"""The page that report.save writes, as a document: what it holds, what it escapes, how large it gets."""

import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from display_runs import HOSTILE, TELLING, halfway_report, long_report, report_of
from hypothesis import given
from hypothesis import strategies as st

from star_actors import ConfigurationError, Privacy, Report, Withheld, load_report
from star_actors.display.charts import Chart, Line, spark
from star_actors.display.page import as_page
from star_actors.findings import Finding
from star_actors.report import Log, NodeInfo, Output


class Document(HTMLParser):
    """Reads a page as a browser would, and keeps its elements and its text."""

    VOID = {"meta", "link", "input", "br"}

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


async def test_the_page_tells_what_the_report_tells() -> None:
    text = Document(as_page(await halfway_report())).text
    for words in (
        "Converged after 11 rounds",
        "each round shrinks the change to 0.50",
        "Change per round",
        "Time per node",
        "local mean 2.5 in round 0",
    ):
        assert words in text


async def test_every_element_is_closed_and_every_id_is_unique() -> None:
    document = Document(as_page(await halfway_report()))
    assert document.open == []
    ids = [attributes["id"] for _, attributes in document.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


async def test_nothing_in_the_page_points_outside() -> None:
    page = as_page(await halfway_report(), "run.json")
    assert not re.search(r"https?:|//[a-z]", page)
    links = [a for _, attributes in Document(page).elements for a in ("src", "href") if attributes.get(a)]
    targets = [attributes[a] for _, attributes in Document(page).elements for a in ("src", "href") if a in attributes]
    assert links
    assert set(targets) == {"data:,", "#logs", "./run.json"}


@given(st.text(st.sampled_from("<>&\"'/-!\\ script\x00\x1b\ud800\u2028"), max_size=60))
def test_text_of_a_run_stays_text_wherever_it_stands(hostile: str) -> None:
    report = report_of(
        [{f"{hostile}<i>": float(i)} for i in range(4)],
        nodes=[NodeInfo("node_0", "default"), NodeInfo("node_1", hostile + "<i>", ran_on=hostile + "<i>")],
        logs=[Log("node_0" + hostile, "default", 0, hostile + "<i>", hostile + "<i>")],
        warnings=[hostile + "<i>"],
        findings=[Finding("log-error", hostile + "<i>", hostile + "<i>", "node_0" + hostile, 1, hostile + "<i>")],
        result=hostile + "<i>",
        outputs=[Output("str", hostile, Path(("x" + hostile + "<i>").replace("\x00", "")))],
    )
    page = as_page(report, "run.json")
    document = Document(page)
    assert document.open == []
    assert sum(tag == "script" and "type" not in attributes for tag, attributes in document.elements) == 1
    assert "i" not in {tag for tag, _ in document.elements}
    page.encode()


async def test_a_hostile_log_line_is_shown_as_it_is() -> None:
    document = Document(as_page(await halfway_report()))
    assert "</script><script>document.title='owned'</script><img src=x" in document.text
    assert "\\x1b[31m\\x00" in document.text
    assert not any(tag == "img" for tag, _ in document.elements)


def test_ten_thousand_rounds_of_a_thousand_nodes_give_a_page_of_sane_size_that_says_what_is_left_out() -> None:
    page = as_page(long_report(10_000, 1_000, log_lines=20_000))
    assert len(page) < 2_000_000
    text = Document(page).text
    for words in (
        "400 of 10,000 rounds are drawn.",
        "Each point stands for up to 25 rounds, by their largest times.",
        "The 20 slowest; 981 more nodes are in the JSON file.",
        "The first 50 and last 150 of 10,000 rounds; all are in the JSON file.",
        "The newest 5,000 of 20,000 lines; all are in the JSON file.",
    ):
        assert words in text


def test_the_straggler_is_marked_among_many_nodes_and_comes_first() -> None:
    document = Document(as_page(long_report(20, 100)))
    assert "node_3, the slowest in all, in colour" in document.text
    rows = [attributes for tag, attributes in document.elements if tag == "tr"]
    assert [attributes.get("class") for attributes in rows].count("marked") == 1


def test_numbers_beyond_the_first_are_counted() -> None:
    page = as_page(report_of([np.arange(100.0) + i for i in range(5)]))
    assert "The first 24 of 100 numbers." in Document(page).text


@pytest.mark.parametrize(
    "report",
    [
        Report(),
        report_of([], "failed"),
        report_of([1.0], "single round"),
        report_of(["a", "b", "c"]),
        report_of([1.0] * 5),
        report_of([1.0, math.nan, math.inf, -math.inf]),
        report_of([{"a": 1.0}, [1.0], None, np.zeros(3)]),
        report_of([1e300 * (-1) ** i for i in range(5)]),
        report_of([5e-324 * i for i in range(5)]),
        report_of([Withheld()] * 5),
    ],
)
def test_every_report_gives_a_page_and_a_fragment(report: Report) -> None:
    assert Document(as_page(report)).open == []
    assert Document(report._repr_html_()).open == []
    assert str(report)


async def test_under_privacy_the_page_and_the_json_hold_nothing_exact(tmp_path: Path) -> None:
    report = await halfway_report(data_splits=TELLING, privacy=Privacy(epsilon=1e-9, sensitivity=1.0))
    report.save(tmp_path / "run.html")
    for name in ("run.html", "run.json"):
        text = (tmp_path / name).read_text()
        assert "local mean" not in text
        assert "owned" not in text
        assert "765432" not in text
        assert "privacy is on" in text
    assert "<svg" not in report._repr_html_()


async def test_a_private_run_that_failed_without_an_account_leaves_the_logs_out_too(tmp_path: Path) -> None:
    report = report_of([Withheld()] * 3, "failed", logs=[Log("node_0", "default", 0, "info", "exact 5.25")])
    report.save(tmp_path / "run.html")
    assert "5.25" not in (tmp_path / "run.html").read_text() + (tmp_path / "run.json").read_text()


async def test_save_writes_a_page_and_beside_it_what_load_report_reads(tmp_path: Path) -> None:
    report = await halfway_report()
    page = report.save(tmp_path / "made" / "run.html")
    assert page == tmp_path / "made" / "run.html"
    again = load_report(page.with_suffix(".json"))
    assert as_page(again, "run.json") == page.read_text()
    assert str(again) == str(report)


async def test_a_path_that_ends_in_json_writes_that_alone(tmp_path: Path) -> None:
    report = await halfway_report()
    assert report.save(str(tmp_path / "run.json")) == tmp_path / "run.json"
    assert not (tmp_path / "run.html").exists()


@pytest.mark.parametrize("path", ["run.pdf", "run", "", "folder/", None, 3])
def test_other_paths_are_refused(path: Any) -> None:
    with pytest.raises(ConfigurationError, match="is given"):
        report_of([1.0]).save(path)


def test_a_name_with_every_character_is_linked(tmp_path: Path) -> None:
    page = report_of([1.0]).save(tmp_path / 'a "b" #1&?.html')
    document = Document(page.read_text())
    assert "./a%20%22b%22%20%231%26%3F.json" in [attributes.get("href") for _, attributes in document.elements]
    assert 'a "b" #1&?.json' in document.text


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=20), st.booleans())
def test_a_chart_of_any_numbers_has_only_finite_coordinates(values: list[float], log: bool) -> None:
    points = [(i, abs(value)) for i, value in enumerate(values)]
    axis, plot = Chart("words", [Line(points), Line(points, "band", points)], str, marks=[], log=log).svg()
    assert "nan" not in re.sub(r">[^<]*<", "><", axis + plot)
    assert "inf" not in re.sub(r">[^<]*<", "><", axis + plot)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=20))
def test_a_line_the_size_of_a_word_has_only_finite_coordinates(values: list[float]) -> None:
    path = "".join(re.findall(r' d="([^"]*)"', spark(list(enumerate(values)), "words")))
    assert re.fullmatch(r"[-ML0-9. h]*", path)


def test_hostile_text_is_in_the_shared_run() -> None:
    assert "</script>" in HOSTILE
