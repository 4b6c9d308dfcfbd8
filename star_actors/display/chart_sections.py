"""The sections of the page that are charts: convergence, node times, traffic."""

from __future__ import annotations

from collections.abc import Sequence

from star_actors.report import NodeInfo, Report

from .charts import Chart, Line, bar, spark
from .formats import amount, duration, number, size, visible
from .frames import drawn, figure, head, row, section, table, text
from .timing import Bucket, NodeTimes, node_times
from .trajectory import Step, pick, trajectory

__all__ = ["change_chart", "convergence", "nodes", "traffic"]

_POINTS = 400
_SPARKS = 120
_NUMBERS = 24
_NODES = 20
_MARKED = 40


def convergence(report: Report) -> str:
    """The change per round, and each number of the aggregate as a line the size of a word."""
    total = len(report.rounds)
    steps = trajectory(report.rounds, pick(total, _POINTS, first=50, last=100))
    changed = [step for step in steps if step.change is not None]
    if not changed:
        return ""
    moved = any(step.change for step in changed)
    body = figure(
        "Change per round",
        "how far the aggregate moved since the round before, logarithmic" if moved else "the aggregate never moved",
        change_chart(changed),
        [step.number for step in changed],
        [f"round {step.number:,}: changed by {amount(step.change)}" for step in changed],
    )
    return section("Convergence", body + drawn(len(steps), total) + _numbers(steps))


def change_chart(changed: Sequence[Step]) -> Chart:
    """The chart of changes, all of them known; logarithmic where there are any but zeros."""
    moved = any(step.change for step in changed)
    first, last = changed[0], changed[-1]
    return Chart(
        f"Change of the aggregate in each round: {amount(first.change)} in round {first.number}, "
        f"{amount(last.change)} in round {last.number}.",
        [Line([(step.number, step.change or 0.0) for step in changed])],
        _power if moved else amount,
        log=moved,
    )


def _power(value: float) -> str:
    return number(value) if 0.001 <= value < 10_000 else f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")


def _numbers(steps: Sequence[Step]) -> str:
    last = steps[-1].numbers
    if last is None:
        return ""
    tracks: dict[str, list[tuple[float, float]]] = {name: [] for name, _ in last.named(_NUMBERS)}
    for i in pick(len(steps), _SPARKS, first=10, last=30):
        numbers = steps[i].numbers
        for name, value in numbers.named(_NUMBERS) if numbers is not None else ():
            if name in tracks:
                tracks[name].append((steps[i].number, value))
    numeric = "  nnn"
    rows = []
    for name, track in tracks.items():
        label = f"aggregate{name}" if name[:1] in ("", "[", ".") else name
        (_, first), (_, now) = track[0], track[-1]
        moved = amount(abs(now - track[-2][1])) if len(track) > 1 else ""
        words = f"{visible(label)}: {number(first)} at first, {number(now)} at last"
        rows.append(row([text(label), spark(track, words), number(first), number(now), moved], numeric))
    names = head(("number", "by round", "first", "last", "last change"), numeric)
    note = f'<p class="quiet">The first {_NUMBERS} of {last.size:,} numbers.</p>' if last.size > _NUMBERS else ""
    return table("Numbers in the aggregate", names, rows) + note


def nodes(report: Report) -> str:
    """Time per node by round, with the slowest node marked, and the nodes by what they took."""
    times = node_times(report, _POINTS)
    if times is None:
        return ""
    slow = times.ids[times.straggler]
    buckets = times.buckets
    body = ""
    if len(buckets) > 1:
        behind = "the other nodes thin" if buckets[0].each else "behind it the range and the median of all nodes"
        dots = [(b.round, b.slowest) for b in buckets if b.slowest_node == slow] if len(buckets) <= _MARKED else []
        body = figure(
            "Time per node",
            f"{slow}, the slowest in all, in colour; {behind}",
            Chart(
                f"Seconds that nodes took in each round. The slowest in all is {slow}.",
                _time_lines(times),
                duration,
                marks=dots,
            ),
            [b.round for b in buckets],
            [_time_words(b, slow) for b in buckets],
        )
    if times.merged > 1:
        body += f'<p class="quiet">Each point stands for up to {times.merged:,} rounds, by their largest times.</p>'
    return section("Nodes", body + _node_table(report, times))


def _time_lines(times: NodeTimes) -> list[Line]:
    buckets = times.buckets
    accent = Line([(b.round, b.straggler) for b in buckets])
    if buckets[0].each:
        others = [i for i in range(len(times.ids)) if i != times.straggler]
        return [*(Line([(b.round, b.each[i]) for b in buckets], "quiet") for i in others), accent]
    band = Line([(b.round, b.slowest) for b in buckets], "band", [(b.round, b.fastest) for b in buckets])
    return [band, Line([(b.round, b.median) for b in buckets], "dashed"), accent]


def _time_words(b: Bucket, slow: str) -> str:
    slowest = "" if b.slowest_node == slow else f", slowest {b.slowest_node} {duration(b.slowest)}"
    return f"round {b.round:,}: {slow} {duration(b.straggler)}, median {duration(b.median)}{slowest}"


def _node_table(report: Report, times: NodeTimes) -> str:
    by_id = {node.id: node for node in report.nodes}
    order = sorted(range(len(times.ids)), key=lambda i: -times.total[i])
    longest = times.total[times.straggler] or 1.0
    numeric = "  n nn "
    rows = []
    for i in order[:_NODES]:
        node = by_id[times.ids[i]]
        cells = [
            text(node.id),
            "analyzer" if node.role == "default" else text(node.role),
            duration(times.total[i]),
            bar(times.total[i] / longest),
            duration(times.total[i] / times.rounds),
            f"{times.slowest[i]:,}",
            text(_ran_on(node)),
        ]
        rows.append(row(cells, numeric, marked=i == times.straggler))
    names = head(("node", "role", "in all", "", "a round", "slowest in", "ran on"), numeric)
    more = len(order) - len(rows)
    note = f'<p class="quiet">The {len(rows)} slowest; {more:,} more nodes are in the JSON file.</p>' if more else ""
    return table("Nodes by time", names, rows) + note


def _ran_on(node: NodeInfo) -> str:
    if node.stuck:
        return f"{node.ran_on}; a method never returned"
    return node.ran_on if node.moved is None else f"{node.ran_on} since round {node.moved}"


def traffic(report: Report) -> str:
    """Bytes up and down by round."""
    total = len(report.rounds)
    if total < 2:
        return ""
    chosen = [report.rounds[i] for i in pick(total, _POINTS, first=50, last=100)]
    last = chosen[-1]
    if len({(r.bytes_up, r.bytes_down) for r in report.rounds}) == 1:
        same = f"{size(last.bytes_up)} up and {size(last.bytes_down)} down in every round."
        return section("Traffic", f"<p>{same}</p>")
    down = Line([(r.number, r.bytes_down) for r in chosen], "dashed")
    up = Line([(r.number, r.bytes_up) for r in chosen])
    body = figure(
        "Bytes",
        "contributions up in colour, aggregates down dashed",
        Chart(
            f"Bytes sent in each round; in the last {size(last.bytes_up)} up and {size(last.bytes_down)} down.",
            [down, up],
            size,
        ),
        [r.number for r in chosen],
        [f"round {r.number:,}: {size(r.bytes_up)} up, {size(r.bytes_down)} down" for r in chosen],
    )
    return section("Traffic", body + drawn(len(chosen), total))
