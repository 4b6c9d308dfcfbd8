"""A run served over HTTP: its rounds as server-sent events, drawn in the browser as they end.

Run it with `python examples/live_app/app.py` and open http://127.0.0.1:8000; it needs the extra `examples`.

GET /run begins a run and streams its events: one `start`, a `round` for each round as it ends, then `end` or `failed`.
The run lives in the response. A browser that goes away, or presses Stop, closes the connection; that cancels the
response, which leaves `async with`, which stops every node. Nothing runs on for nobody.

The next round begins when the last one was sent, so that a slow reader slows the run instead of filling a buffer.

The analysis is a logistic regression by gradient steps over made-up hospitals. Anybody who can reach the port can start
runs: put your own authentication in front before it leaves your machine.
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import uvicorn
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Send

from star_actors import AsyncStarModelTester, NotConvergedError, Report, StarAggregator, StarAnalyzer, StarError

STATIC = Path(__file__).parent / "static"
COEFFICIENTS = ["intercept", "age", "blood pressure", "smoker"]
PATIENTS = 150
TOLERANCE = 1e-4
MOST_ROUNDS = 200


class Hospital(StarAnalyzer):
    """Sends the gradient of its patients' log-likelihood at the coefficients that it was sent."""

    def analysis_method(self, data: tuple[NDArray[Any], NDArray[Any]], aggregator_results: list[float] | None) -> Any:
        features, ill = data
        beta = np.zeros(features.shape[1]) if aggregator_results is None else np.array(aggregator_results)
        if not np.isfinite(features).all():
            raise ValueError("a blood pressure is missing")
        return (features.T @ (ill - 1 / (1 + np.exp(-features @ beta)))).tolist(), len(ill)


class Step(StarAggregator):
    """Takes a step along the mean gradient, and says when the steps have become small."""

    def __init__(self, flame: Any, rate: float) -> None:
        super().__init__(flame)
        self.rate = rate

    def aggregation_method(self, analysis_results: list[tuple[list[float], int]]) -> list[float]:
        gradient = np.sum([part for part, _ in analysis_results], axis=0) / sum(n for _, n in analysis_results)
        before = np.zeros(len(gradient)) if self.latest_result is None else np.array(self.latest_result)
        return [float(value) for value in before + self.rate * gradient]

    def has_converged(self, result: list[float], last_result: list[float] | None) -> bool:
        return last_result is not None and change(result, last_result) < TOLERANCE


def change(result: list[float], last: list[float]) -> float:
    """The largest change of a coefficient."""
    return max(abs(a - b) for a, b in zip(result, last, strict=True))


def hospitals(count: int, *, incomplete: bool) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Made-up patients: features (n, 4) with an intercept, standardised, and who is ill (n,)."""
    chance = np.random.default_rng(2025)
    truth = np.array([-0.4, 0.9, 0.5, 0.7])
    sites = []
    for _ in range(count):
        smokes = (chance.random(PATIENTS) < 0.3).astype(float)
        features = np.column_stack([np.ones(PATIENTS), chance.normal(size=(PATIENTS, 2)), smokes])
        ill = (chance.random(PATIENTS) < 1 / (1 + np.exp(-features @ truth))).astype(float)
        sites.append((features, ill))
    if incomplete:
        sites[-1][0][7, 2] = math.nan
    return sites


class BadRequest(ValueError):
    """A parameter of the query is wrong; the text says which, and what is wanted."""


def number(query: Mapping[str, str], name: str, default: float, low: float, high: float) -> float:
    """One number of the query, within bounds. Raises BadRequest."""
    given = query.get(name, str(default))
    try:
        value = float(given)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise BadRequest(f"{name}={given!r} is given, a number from {low:g} to {high:g} is wanted")
    return value


class EventStream(StreamingResponse):
    """A stream that closes what it streams when the browser goes away, wherever it stands at that moment."""

    media_type = "text/event-stream"

    async def stream_response(self, send: Send) -> None:
        async with aclosing(self.body_iterator):  # type: ignore[type-var]  # it is given a generator
            await super().stream_response(send)


def event(name: str, data: Mapping[str, Any]) -> str:
    """One server-sent event; its data are one line of JSON, in which what is not finite is null."""
    return f"event: {name}\ndata: {json.dumps(data, allow_nan=False)}\n\n"


def finite(values: list[float]) -> list[float | None]:
    """JSON has no word for NaN and infinities."""
    return [value if math.isfinite(value) else None for value in values]


async def events(tester: AsyncStarModelTester, pause: float, ended: Callable[[Report], None]) -> AsyncIterator[str]:
    """The events of one run, `pause` seconds apart at least."""
    yield event("start", {"coefficients": COEFFICIENTS, "tolerance": TOLERANCE, "most_rounds": MOST_ROUNDS})
    try:
        async with tester:
            last: list[float] | None = None
            async for round in tester:
                moved = None if last is None else change(round.aggregate, last)
                slowest = max(round.node_seconds, key=lambda node: round.node_seconds[node])
                told = {
                    "number": round.number,
                    "values": finite(round.aggregate),
                    "change": moved if moved is not None and math.isfinite(moved) else None,
                    "milliseconds": round.seconds * 1000,
                    "slowest": slowest,
                }
                yield event("round", told)
                last = round.aggregate
                await anyio.sleep(pause)
        yield event("end", {"text": tester.report.diagnosis.text, "values": finite(tester.result)})
    except NotConvergedError:
        yield event("failed", {"text": str(tester.report.diagnosis)})
    except StarError as error:
        # Its first line names node, round and exception; the rest names files of this machine.
        yield event("failed", {"text": str(error).splitlines()[0]})
    finally:
        ended(tester.report)


def make_app(ended: Callable[[Report], None] = lambda report: None) -> Starlette:
    """The application; `ended` is told of every run's report, those included that a browser left early."""

    async def run(request: Request) -> Response:
        query = request.query_params
        try:
            sites = int(number(query, "sites", 4, 2, 50))
            rate = number(query, "rate", 4.0, 0.001, 100.0)
            pause = number(query, "pause", 0.1, 0.0, 5.0)
        except BadRequest as error:
            return PlainTextResponse(str(error), status_code=400)
        tester = AsyncStarModelTester(
            hospitals(sites, incomplete=query.get("incomplete") == "yes"),
            Hospital,
            Step,
            "s3",
            simple_analysis=False,
            aggregator_kwargs={"rate": rate},
            max_iterations=MOST_ROUNDS,
        )
        return EventStream(events(tester, pause, ended), headers={"Cache-Control": "no-store"})

    return Starlette(routes=[Route("/run", run), Mount("/", StaticFiles(directory=STATIC, html=True))])


if __name__ == "__main__":
    uvicorn.run(make_app(), host="127.0.0.1", port=8000, log_level="warning")
