"""Live progress: what is sampled of a run, where it is shown, and that all else on the terminal stays as it was."""

import contextlib
import fcntl
import io
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
from array import array
from collections.abc import Iterator
from typing import Any, TextIO

import pyte
import pytest
from display_runs import SPLITS, Halfway, Mean
from hypothesis import given
from hypothesis import strategies as st

from star_actors.config import configure
from star_actors.display.lines import LineProgress
from star_actors.display.progress import PATIENCE, live_display, shown
from star_actors.display.sampling import Sampler, bars, span
from star_actors.display.terminal import TerminalProgress
from star_actors.messages import Contribution
from star_actors.report import NodeInfo, Record


def a_record(*, withhold: bool = False) -> Record:
    nodes = [NodeInfo(f"node_{i}", "default") for i in range(3)]
    return Record([*nodes, NodeInfo("node_3", "aggregator", has_data=False)], 256 << 20, withhold=withhold)


def finish(record: Record, *aggregates: Any) -> None:
    for aggregate in aggregates:
        record.finish_round(aggregate, 21, 0.02, array("d", [0.01] * 4), 63, 62)


class TestSampling:
    def test_a_sample_tells_the_round_its_bytes_its_time_the_aggregate_and_its_change(self) -> None:
        record = a_record()
        finish(record, 4.0, 5.0, 5.5)
        sample = Sampler(record, 200).sample()
        facts = dict(sample.facts())
        assert sample.progress == "round 3 of at most 200"
        assert (facts["up"], facts["down"], facts["a round"]) == ("63 B", "62 B", "20 ms")
        assert (sample.aggregate, sample.change) == ("5.5", 0.5)

    def test_contributions_in_and_aggregates_out_are_counted_and_who_is_missing_is_named(self) -> None:
        record = a_record()
        finish(record, 4.0)
        record.arrived = [[Contribution("node_0", 1, 1.0)], [Contribution("node_2", 1, 1.0)]]
        sample = Sampler(record, None).sample()
        facts = dict(sample.facts())
        assert (facts["in"], facts["out"]) == ("2 of 3", "3 of 3")
        assert sample.missing == ["node_1"]

    def test_what_is_not_told_is_not_shown(self) -> None:
        sample = Sampler(a_record(), None).sample()
        assert [label for label, _ in sample.facts()] == ["", ""]
        assert sample.waiting() == ""

    def test_every_round_is_looked_at_where_they_are_slow(self) -> None:
        record = a_record()
        sampler = Sampler(record, None)
        for i in range(20):
            finish(record, 0.5**i)
            sampler.sample()
        assert sampler.changes == [(i, 0.5**i) for i in range(1, 20)]

    def test_a_sample_looks_at_few_rounds_however_many_there_are(self) -> None:
        record = a_record()
        finish(record, *(1 / (1 + i) for i in range(50_000)))
        looked = []
        whole = record.round
        record.round = lambda number: looked.append(number) or whole(number)  # type: ignore[method-assign, func-returns-value]
        sampler = Sampler(record, None)
        assert sampler.sample().change == pytest.approx(1 / 49_999 - 1 / 50_000)
        assert len(looked) < 30

    def test_a_long_run_keeps_few_changes_from_its_first_to_its_last(self) -> None:
        record = a_record()
        sampler = Sampler(record, None)
        for i in range(3_000):
            finish(record, float(i))
            sampler.sample()
        assert len(sampler.changes) <= 400
        assert (sampler.changes[0][0], sampler.changes[-1][0]) == (1, 2_999)

    def test_a_withheld_aggregate_has_neither_value_nor_change(self) -> None:
        record = a_record(withhold=True)
        finish(record, 123456.0, 234567.0)
        sampler = Sampler(record, None)
        sample = sampler.sample()
        assert (sample.aggregate, sample.change, sampler.changes) == ("withheld", None, [])
        assert "123456" not in sample.said() + sampler.closing()
        assert "234567" not in sample.said() + sampler.closing()

    def test_a_run_of_one_round_is_said_to_be_one(self) -> None:
        assert Sampler(a_record(), 1).sample().said().startswith("one round, ")


class TestBars:
    def test_the_scale_is_logarithmic_from_the_smallest_to_the_largest(self) -> None:
        assert bars([(i, 10.0 ** (8 - i)) for i in range(8)], 8, " ▁▂▃▄▅▆▇█") == "█▇▆▅▄▃▂▁"

    def test_no_change_is_no_bar(self) -> None:
        assert bars([(0, 1.0), (1, 0.0), (2, 1.0)], 8, " ab") == "b b"

    def test_one_change_is_not_drawn(self) -> None:
        assert bars([(0, 1.0)], 8, " ab") == ""
        assert span([(0, 1.0)]) == "1.0 to 1.0"

    @given(st.dictionaries(st.integers(0, 10**6), st.floats(0, 1e300), min_size=2), st.integers(1, 80))
    def test_any_changes_fill_their_columns(self, changes: dict[int, float], width: int) -> None:
        drawn = bars(sorted(changes.items()), width, " ▁▂▃▄▅▆▇█")
        assert len(drawn) == min(width, max(changes) - min(changes) + 1)


class Terminal(io.StringIO):
    """A terminal as a program sees it, with a screen as a person does."""

    encoding = "utf-8"

    def __init__(self) -> None:
        super().__init__()
        self.screen = pyte.HistoryScreen(100, 12, history=1000)
        self._stream = pyte.Stream(self.screen)

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._stream.feed(text.replace("\n", "\r\n"))
        return super().write(text)

    @property
    def lines(self) -> list[str]:
        above = ["".join(line[x].data for x in range(100)) for line in self.screen.history.top]
        return [line.rstrip() for line in [*above, *self.screen.display] if line.strip()]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setattr("star_actors.display.terminal.PATIENCE", 0.0)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("CI", raising=False)
    return Terminal()


@contextlib.contextmanager
def displayed(terminal: Terminal, record: Record) -> Iterator[TerminalProgress]:
    live = TerminalProgress(Sampler(record, 200), terminal)
    try:
        with contextlib.redirect_stdout(terminal):
            yield live
            live.close()
    finally:
        live.close()


def tick(live: TerminalProgress) -> None:
    live._next = 0.0
    live.tick()


class TestTerminal:
    def test_the_display_is_drawn_in_place(self, terminal: Terminal) -> None:
        record = a_record()
        with displayed(terminal, record) as live:
            for i in range(5):
                finish(record, 0.5**i)
                tick(live)
            assert len(terminal.lines) == 3
            assert terminal.lines[0].startswith("round 5 of at most 200   ")
            assert terminal.lines[1] == "aggregate 0.0625   change 0.062"
            assert terminal.lines[2] == "change per round █▆▃▁ 0.50 to 0.062"

    def test_what_is_printed_stands_above_in_order_and_as_it_was(self, terminal: Terminal) -> None:
        record = a_record()
        with displayed(terminal, record) as live:
            for i in range(30):
                finish(record, 0.5**i)
                print(f"\033[36mline {i}\t{'x' * 40}\033[0m")
                tick(live)
            lines = terminal.lines
            assert [line.split()[1] for line in lines[:30]] == [str(i) for i in range(30)]
            assert len(lines) == 33
        assert f"\033[36mline 7\t{'x' * 40}\033[0m\n" in terminal.getvalue()

    def test_a_line_that_is_longer_than_the_terminal_is_not_broken_by_us(self, terminal: Terminal) -> None:
        with displayed(terminal, a_record()) as live:
            tick(live)
            print("y" * 250)
            tick(live)
        assert "y" * 250 + "\n" in terminal.getvalue()

    def test_a_line_is_shown_once_it_is_whole(self, terminal: Terminal) -> None:
        with displayed(terminal, a_record()) as live:
            tick(live)
            print("half ", end="")
            tick(live)
            assert not any("half" in line for line in terminal.lines)
            print("and half")
            tick(live)
            assert terminal.lines[0] == "half and half"
            print("the rest", end="")
        assert terminal.lines[1] == "the rest"

    def test_at_the_end_one_line_about_the_run_is_left(self, terminal: Terminal) -> None:
        record = a_record()
        with displayed(terminal, record) as live:
            finish(record, 1.0, 0.5)
            tick(live)
            print("a log")
            live.close()
            print("Final result: 0.5")
        assert terminal.lines[0] == "a log"
        assert terminal.lines[1].startswith("2 rounds in ")
        assert terminal.lines[1].endswith("last change 0.50")
        assert terminal.lines[2:] == ["Final result: 0.5"]

    def test_standard_output_is_given_back(self, terminal: Terminal) -> None:
        hook = sys.breakpointhook
        with displayed(terminal, a_record()) as live:
            tick(live)
            assert sys.stdout is live.stream
            live.close()
            assert sys.stdout is terminal
        assert sys.breakpointhook is hook

    def test_a_stream_that_somebody_put_there_meanwhile_is_left(self, terminal: Terminal) -> None:
        other = io.StringIO()
        with displayed(terminal, a_record()) as live:
            tick(live)
            sys.stdout = other
            live.close()
            assert sys.stdout is other

    def test_a_run_that_is_soon_over_shows_nothing(self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("star_actors.display.terminal.PATIENCE", 100.0)
        with displayed(terminal, a_record()) as live:
            live.tick()
            print("a log", file=live.stream)
        assert terminal.getvalue() == "a log\n"

    def test_of_two_runs_at_once_the_first_is_shown(self, terminal: Terminal) -> None:
        with displayed(terminal, a_record()) as first, displayed(terminal, a_record()) as second:
            tick(first)
            drawn = terminal.getvalue()
            tick(second)
            assert terminal.getvalue() == drawn
        with displayed(terminal, a_record()) as third:
            tick(third)
            assert sys.stdout is third.stream

    def test_a_breakpoint_takes_it_down(self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
        stopped: list[object] = []
        monkeypatch.setattr(sys, "breakpointhook", lambda: stopped.append(sys.stdout))
        with displayed(terminal, a_record()) as live:
            tick(live)
            breakpoint()
            drawn = terminal.getvalue()
            tick(live)
            assert terminal.getvalue() == drawn
        assert stopped == [terminal]

    def test_a_narrow_terminal_gets_one_row_a_line(self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "30")
        record = a_record()
        with displayed(terminal, record) as live:
            for i in range(40):
                finish(record, 0.9**i)
                tick(live)
            assert len(terminal.lines) == 3
            assert max(map(len, terminal.lines)) < 30

    def test_a_terminal_without_unicode_gets_plain_bars(self, terminal: Terminal) -> None:
        terminal.encoding = "ascii"
        record = a_record()
        with displayed(terminal, record) as live:
            finish(record, *(0.5**i for i in range(9)))
            tick(live)
        assert terminal.getvalue().isascii()

    def test_printing_from_many_threads_loses_no_line(self, terminal: Terminal) -> None:
        def talk(name: int) -> None:
            for i in range(100):
                sys.stdout.write(f"thread {name} line {i}\n")

        with displayed(terminal, a_record()) as live:
            tick(live)
            threads = [threading.Thread(target=talk, args=(name,)) for name in range(8)]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                tick(live)
            for thread in threads:
                thread.join()
        assert sum(line.startswith("thread ") for line in terminal.lines) == 800


def config_of(**options: Any) -> Any:
    return configure(SPLITS, Halfway, Mean, "s3", **options)


def shown_on(stream: Any, **options: Any) -> Any:
    """The display of a run, where standard output is `stream`."""
    default = options.pop("default", None)
    with contextlib.redirect_stdout(stream):
        return live_display(configure(SPLITS, Halfway, Mean, "s3", **options), a_record(), default=default)


class TestWhereItIsShown:
    def test_on_a_terminal(self, terminal: Terminal) -> None:
        assert isinstance(shown_on(terminal), TerminalProgress)

    def test_not_where_it_is_switched_off(self, terminal: Terminal) -> None:
        assert shown_on(terminal, progress=False) is None

    @pytest.mark.parametrize(("name", "value"), [("CI", "true"), ("CI", "1"), ("TERM", "dumb")])
    def test_not_in_continuous_integration_and_on_dumb_terminals(
        self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch, name: str, value: str
    ) -> None:
        monkeypatch.setenv(name, value)
        assert shown_on(terminal) is None
        assert isinstance(shown_on(terminal, progress=True), LineProgress)

    def test_not_in_a_pipe_unless_it_is_asked_for(self) -> None:
        assert shown_on(io.StringIO()) is None
        assert isinstance(shown_on(io.StringIO(), progress=True), LineProgress)

    def test_not_without_a_console(self) -> None:
        assert shown_on(None, progress=True) is None

    def test_a_caller_may_have_another_default(self, terminal: Terminal) -> None:
        assert shown_on(terminal, default=False) is None
        assert isinstance(shown_on(terminal, default=False, progress=True), TerminalProgress)


class TestLines:
    def test_lines_come_ever_less_often_and_one_at_the_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = 0.0
        monkeypatch.setattr("star_actors.display.lines.perf_counter", lambda: now)
        record, file = a_record(), io.StringIO()
        live = LineProgress(Sampler(record, 200), file, io.StringIO())
        finish(record, 1.0, 0.5)
        at = []
        for second in range(200):
            now = float(second)
            before = file.tell()
            live.tick()
            if file.tell() > before:
                at.append(second)
        live.close()
        assert at == [1, 2, 5, 10, 20, 30, 60, 120, 180]
        first, *_, last = file.getvalue().splitlines()
        assert first.startswith("round 2 of at most 200, ")
        assert first.endswith("20 ms a round, aggregate 0.5, change 0.50")
        assert last.startswith("2 rounds in ")

    def test_a_short_run_writes_none(self) -> None:
        file = io.StringIO()
        with shown(LineProgress(Sampler(a_record(), 1), file, io.StringIO())):
            pass
        assert file.getvalue() == ""


def test_a_display_is_driven_from_a_thread_where_nobody_else_waits() -> None:
    class Counting:
        interval = 0.001
        stream: TextIO = io.StringIO()
        ticks: list[str] = []
        enough = threading.Event()

        def tick(self) -> None:
            self.ticks.append(threading.current_thread().name)
            if len(self.ticks) > 3:
                self.enough.set()

        def close(self) -> None:
            self.ticks.append("closed")

    live = Counting()
    with shown(live, on_thread=True):
        assert live.enough.wait(20)
    assert live.ticks[-1] == "closed"
    assert set(live.ticks[:-1]) == {"star-progress"}
    assert not any(thread.name == "star-progress" for thread in threading.enumerate())


PROGRAM = """
import sys, time
from star_actors import StarAggregator, StarAnalyzer, StarModelTester
from star_actors.display import progress
progress.PATIENCE = LONG
class Slow(StarAnalyzer):
    def analysis_method(self, data, last):
        time.sleep(PAUSE)
        if self.id == "node_0" and self.num_iterations == 3:
            print("printed by a node")
        self.flame.flame_log(f"in round {self.num_iterations}", log_type="notice")
        if self.id == "node_1" and self.num_iterations == FAILS:
            raise ValueError("no")
        return data if last is None else (data + last) / 2 + 0.25
class Mean(StarAggregator):
    def aggregation_method(self, results):
        return sum(results) / len(results)
    def has_converged(self, result, last):
        return self.num_iterations >= 12
tester = StarModelTester([1.0, 2.0], Slow, Mean, "s3", simple_analysis=False, OPTIONS)
print("rich" in sys.modules)
"""


def on_a_terminal(
    pause: float, fails: int = -1, options: str = "", interrupt: str = "", patience: float = PATIENCE
) -> tuple[int, str, list[str]]:
    """Run the program on a terminal of its own; its exit code, what it wrote, and the lines that are left to see."""
    code = PROGRAM.replace("PAUSE", str(pause)).replace("FAILS", str(fails)).replace("OPTIONS", options)
    code = code.replace("LONG", str(patience))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 200, 100, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("CI", "NO_COLOR", "COLUMNS", "LINES")}
    program = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**environment, "TERM": "xterm-256color", "PYTHONUTF8": "1"},
    )
    os.close(theirs)
    written = b""
    try:
        while part := _read(ours):
            written += part
            if interrupt and interrupt.encode() in written:
                program.send_signal(signal.SIGINT)
                interrupt = ""
        returned = program.wait(timeout=60)
    finally:
        os.close(ours)
        program.kill()
        program.wait()
    screen = pyte.Screen(100, 200)
    pyte.ByteStream(screen).feed(written)
    return returned, written.decode(), [line.rstrip() for line in screen.display if line.strip()]


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other end is closed
        return b""


def test_rich_leaves_the_global_generator_as_it_was() -> None:
    code = (
        "import random, sys; from star_actors.display.terminal import load_rich; random.seed(1);"
        "before = random.getstate(); load_rich(); print('rich.style' in sys.modules, random.getstate() == before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True True\n"


class TestRuns:
    def test_a_run_draws_below_its_logs_and_ends_with_its_result(self) -> None:
        returned, written, lines = on_a_terminal(0.1)
        assert returned == 0
        assert "change per round" in written
        assert " of at most 10,000" in written
        assert not any("change per round" in line for line in lines)
        assert lines.count("in round 3") == 2
        assert lines.count("printed by a node") == 1
        assert lines[-3].startswith("13 rounds in ")
        assert lines[-2].startswith("Final result: 1.9998779296875")

    def test_the_lines_of_the_guide_are_those_of_a_quiet_run(self) -> None:
        _, _, shown_lines = on_a_terminal(0.1)
        _, _, quiet = on_a_terminal(0.1, options="progress=False")
        assert [line for line in shown_lines[:-1] if not line.startswith("13 rounds in ")] == quiet[:-1]

    def test_a_short_run_draws_nothing_and_loads_nothing_for_it(self) -> None:
        returned, written, lines = on_a_terminal(0.0, patience=100.0)
        assert returned == 0
        assert "\x1b[J" not in written
        assert lines[-1] == "False"

    def test_a_serial_run_draws_nothing_unasked(self) -> None:
        _, written, _ = on_a_terminal(0.05, options='engine="serial"')
        assert "\x1b[J" not in written

    def test_a_serial_run_draws_where_it_is_asked(self) -> None:
        _, written, lines = on_a_terminal(0.05, options='engine="serial", progress=True')
        assert "change per round" in written
        assert lines[-2].startswith("Final result: 1.9998779296875")

    def test_the_error_of_a_node_stands_below_what_was_drawn(self) -> None:
        returned, written, lines = on_a_terminal(0.15, fails=10)
        assert returned == 1
        assert "change per round" in written
        at = next(i for i, line in enumerate(lines) if line.startswith("10 rounds in "))
        assert any("ValueError: no" in line for line in lines[at:])
        assert not any("change per round" in line for line in lines)

    def test_ctrl_c_takes_the_display_down(self) -> None:
        returned, _, lines = on_a_terminal(0.15, interrupt="change per round")
        assert returned != 0
        assert any(" rounds in " in line for line in lines)
        assert not any("change per round" in line for line in lines)
        assert lines[-1] == "KeyboardInterrupt"

    def test_under_privacy_no_exact_value_is_drawn(self) -> None:
        _, written, _ = on_a_terminal(0.1, options="epsilon=1e-9, sensitivity=1.0")
        assert "aggregate" in written
        assert "withheld" in written
        exact = [line for line in written.splitlines() if "1.999" in line and "Final result" not in line]
        assert exact == []
