"""Nodes for the tests of engines whose nodes live in other processes, which import them from here."""

import os
import random
import signal
import threading
from pathlib import Path
from typing import Any

from star_actors import StarAggregator, StarAnalyzer


class Mean(StarAnalyzer):
    """Blends the mean of its data with the last aggregate, and logs."""

    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        self.flame.flame_log(f"round {self.num_iterations}")
        self.flame.set_progress(10 * self.num_iterations + 5)
        mean = sum(data) / len(data)
        return mean if aggregator_results is None else (mean + aggregator_results) / 2


class Average(StarAggregator):
    """Averages; ends after `last` rounds."""

    def __init__(self, flame: Any, last: int = 3) -> None:
        super().__init__(flame)
        self.last = last

    def aggregation_method(self, analysis_results: list[Any]) -> Any:
        return sum(analysis_results) / len(analysis_results)

    def has_converged(self, result: Any, last_result: Any) -> bool:
        return self.num_iterations >= self.last


class Collect(StarAggregator):
    """The list of contributions is the aggregate."""

    def aggregation_method(self, analysis_results: list[Any]) -> Any:
        return list(analysis_results)


class CollectRounds(Collect):
    """The same, twice."""

    def has_converged(self, result: Any, last_result: Any) -> bool:
        return self.num_iterations >= 1


def shaped(kind: str, number: float) -> Any:
    """A value of a kind, filled with a number."""
    import numpy as np  # here, since most workers can do without

    match kind:
        case "array of 10":
            return np.full(10, number)
        case "array of 0.4 MB":
            return np.full(50_000, number)
        case "array of 2.4 MB":
            return np.full((600, 500), number)
        case "dict of arrays":
            return {"w": np.full(300_000, number), "b": np.full(3, number), "n": number}
        case "nested":
            return {"layers": [{"w": np.full(200_000, number)}, {"w": np.full(10, number)}], "name": "net"}
    raise ValueError(kind)


def leaves(value: Any) -> list[Any]:
    """The arrays in a value."""
    if hasattr(value, "dtype"):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [leaf for part in value for leaf in leaves(part)] if isinstance(value, list) else []


class Arrays(StarAnalyzer):
    """Sends values of one kind; writes into the aggregate that it gets, and keeps it."""

    def __init__(self, flame: Any, kind: str) -> None:
        super().__init__(flame)
        self.kind = kind
        self.kept: list[Any] = []
        self.seen: list[float] = []

    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        if aggregator_results is None:
            return shaped(self.kind, data)
        for number, kept in enumerate(self.kept):
            assert all((leaf == self.seen[number]).all() for leaf in leaves(kept)), "an earlier aggregate has changed"
        for leaf in leaves(aggregator_results):
            leaf += data
        self.kept.append(aggregator_results)
        self.seen = [leaves(kept)[0].flat[0] for kept in self.kept]
        return shaped(self.kind, float(self.seen[-1]))


class FirstPlusKept(StarAggregator):
    """The first contribution; keeps all there were, and finds them unchanged."""

    def __init__(self, flame: Any) -> None:
        super().__init__(flame)
        self.kept: list[Any] = []
        self.seen: list[float] = []

    def aggregation_method(self, analysis_results: list[Any]) -> Any:
        for seen, kept in zip(self.seen, self.kept, strict=True):
            assert all((leaf == seen).all() for leaf in leaves(kept)), "an earlier contribution has changed"
        self.kept.append(analysis_results[1])
        self.seen.append(leaves(analysis_results[1])[0].flat[0])
        for leaf in leaves(analysis_results[0]):
            leaf += 1
        return analysis_results[0]

    def has_converged(self, result: Any, last_result: Any) -> bool:
        return self.num_iterations >= 5


def body_from(flame: Any, sender: str, category: str) -> Any:
    """The body of the next message."""
    (message,) = flame.await_messages([sender], category)[sender]
    return message.body


class Ring(StarAnalyzer):
    """Sends its number around the ring of analyzers, by messages and by intermediate data, and sums what passes."""

    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        import numpy as np

        ids = sorted([*self.partner_node_ids, self.id], key=lambda id: int(id.split("_")[1]))[:-1]
        position = ids.index(self.id)
        after, before = ids[(position + 1) % len(ids)], ids[position - 1]
        total, passing = 0.0, np.full(60_000, float(data))
        for step in range(len(ids)):
            self.flame.send_intermediate_data([after], {"part": passing}, f"data {step}")
            passing = self.flame.await_intermediate_data([before], f"data {step}")[before]["part"]
            passing += 1
            total += float(passing[0])
            self.flame.send_message([after], f"total {step}", {"total": total})
            total += body_from(self.flame, before, f"total {step}")["total"]
        return total


class AsyncRing(StarAnalyzer):
    """Exchanges with every other analyzer, awaiting."""

    async def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        others = [id for id in self.partner_node_ids if id != self.flame.get_aggregator_id()]
        await self.flame.aio.send_intermediate_data(others, data)
        got = await self.flame.aio.await_intermediate_data(others)
        return data + sum(got[id] for id in others)


class AsksTheAggregator(StarAnalyzer):
    """Asks the aggregator for a number, which answers in the middle of its own method."""

    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        if not self.num_iterations:
            return data
        stored = body_from(self.flame, "node_3", "stored")["id"]
        return data + self.flame.get_intermediate_data("global", query=stored)["number"]


class AnswersAnalyzers(CollectRounds):
    """Stores an object for each analyzer, and tells it the id."""

    def aggregation_method(self, analysis_results: list[Any]) -> Any:
        if not self.num_iterations:
            saved = self.flame.save_intermediate_data({"number": 100}, "global", self.partner_node_ids)
            for receiver, answer in saved.items():
                self.flame.send_message([receiver], "stored", {"id": answer["id"]})
        return list(analysis_results)


class SiteError(Exception):
    """An exception of a user's own."""


class Fails(StarAnalyzer):
    """Raises in one phase, on the node with the data 2."""

    def __init__(self, flame: Any, phase: str) -> None:
        super().__init__(flame)
        self.phase = phase
        if phase == "constructor" and self.id == "node_1":
            raise SiteError("in the constructor")

    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        if data == 2 and self.phase == f"round {self.num_iterations}":
            raise SiteError(f"in round {self.num_iterations}")
        return data


class FailsToAggregate(StarAggregator):
    """Raises in one phase of its own."""

    def __init__(self, flame: Any, phase: str) -> None:
        super().__init__(flame)
        self.phase = phase
        if phase == "aggregator's constructor":
            raise SiteError("in the constructor")

    def aggregation_method(self, analysis_results: list[Any]) -> Any:
        if self.phase == "aggregation" and self.num_iterations:
            raise SiteError("in aggregation")
        return sum(analysis_results)

    def has_converged(self, result: Any, last_result: Any) -> bool:
        if self.phase == "convergence" and self.num_iterations:
            raise SiteError("in convergence")
        return self.num_iterations >= 5


class StubbornError(Exception):
    """An exception that pickles, but cannot be unpickled."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{reason} ({code})")


class RaisesStubborn(StarAnalyzer):
    """Raises what does not come back from a pickle."""

    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        raise StubbornError(7, "stubborn")


class SendsLock(StarAnalyzer):
    """Returns what cannot be pickled."""

    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        return {"model": {"lock": threading.Lock()}} if data == 2 else data


class OnlyThere:
    """Pickles, and is unpickled in the process that it was made in only."""

    def __init__(self) -> None:
        self.pid = os.getpid()

    def __setstate__(self, state: Any) -> None:
        if state["pid"] != os.getpid():
            raise SiteError("not here")


class SendsOnlyThere(StarAnalyzer):
    """Returns what cannot be unpickled elsewhere."""

    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        return OnlyThere() if data == 2 else data


class Dies(StarAnalyzer):
    """Its process is killed in one phase, on the node with the data 2."""

    def __init__(self, flame: Any, phase: str) -> None:
        super().__init__(flame)
        self.phase = phase
        if phase == "constructor" and self.id == "node_1":
            os.kill(os.getpid(), signal.SIGKILL)

    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        if data == 2 and self.phase == f"round {self.num_iterations}":
            os.kill(os.getpid(), signal.SIGKILL)
        if data == 2 and self.phase == "exit":
            os._exit(3)
        if data == 2 and self.phase == "idle" and self.num_iterations == 1:
            return os.getpid()
        return data


class Kills(StarAggregator):
    """Kills the process whose id is the second contribution, which has nothing to do then, and waits."""

    def aggregation_method(self, analysis_results: list[Any]) -> Any:
        if analysis_results[1] > 2:
            os.kill(analysis_results[1], signal.SIGKILL)
            self.flame.await_messages(["node_0"], "never sent", timeout=600)
        return 0

    def has_converged(self, result: Any, last_result: Any) -> bool:
        return self.num_iterations >= 5


class SaysThatItArrived:
    """Writes into a pipe when it is unpickled in another process than it was made in."""

    def __init__(self, pipe: str) -> None:
        self.pipe = pipe
        self.pid = os.getpid()

    def __setstate__(self, state: Any) -> None:
        if state["pid"] != os.getpid():
            Path(state["pipe"]).write_text("here")


class Stuck(StarAnalyzer):
    """Writes its process's id into a pipe, and never returns, whatever is thrown into it."""

    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        Path(data).write_text(str(os.getpid()))
        forever = threading.Event()
        while True:
            try:
                forever.wait()
            except BaseException:  # whatever is thrown in to end it: that it does not end is what this node is for
                continue


class StuckBesideOneThatReturns(Stuck):
    """The first node returns, and says so into its pipe once that has arrived; the others are stuck."""

    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        return SaysThatItArrived(data) if self.id == "node_0" else super().analysis_method(data, aggregator_results)


class Announces(StarAnalyzer):
    """Logs a line and writes its process's id into a pipe when it is made."""

    def __init__(self, flame: Any, pipe: str) -> None:
        super().__init__(flame)
        self.flame.flame_log("here I am")
        Path(pipe).write_text(str(os.getpid()))

    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        return data


class WaitsForNobody(StarAnalyzer):
    """Waits for a message that nobody sends."""

    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        other = next(id for id in self.partner_node_ids if id != self.flame.get_aggregator_id())
        return self.flame.await_messages([other], "never sent")


class OneFailsOthersWait(StarAnalyzer):
    """Node 0 fails; the others wait for it."""

    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        if self.id == "node_0":
            raise SiteError("before anything was sent")
        return self.flame.await_messages(["node_0"], "never sent")


class Draws(StarAnalyzer):
    """Draws from the global generators, and waits in between."""

    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        import numpy as np

        first = random.random()
        others = [id for id in self.partner_node_ids if id != self.flame.get_aggregator_id()]
        self.flame.send_message(others, "drawn", {"first": first})
        self.flame.await_messages(others, "drawn")
        return [first, random.random(), float(np.random.random())]


class Prints(StarAnalyzer):
    """Prints."""

    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        print(f"here is {self.id}")
        return data


class Meets(StarAnalyzer):
    """Opens a named pipe, which blocks in the system until the other node opens its other end."""

    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        with Path(data).open("rb" if self.id == "node_0" else "wb"):
            return os.getpid()


class EditsItsArguments(StarAnalyzer):
    """Edits what its constructor was given."""

    def __init__(self, flame: Any, names: list[str]) -> None:
        super().__init__(flame)
        names.append(self.id)
        self.names = names

    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        return self.names


class PidOf(StarAnalyzer):
    """The id of its process."""

    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        return os.getpid()


class Guarded:
    """Data that cannot be pickled."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


class Exact(StarAnalyzer):
    """Raises with an exact value in its text."""

    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        raise ValueError(f"secret {data}")


class Wanders(StarAnalyzer):
    """Keeps state of every kind, exchanges with every other analyzer, and at one point of one round kills its process,
    once; `die` is the node, the round, the point, and a file that says that it has happened."""

    def __init__(self, flame: Any, die: tuple[str, int | None, str, str] | None = None) -> None:
        super().__init__(flame)
        self.die = die
        self.total = 0.0
        self.rows: Any = None
        self._die_at("made", None)

    def _die_at(self, point: str, round: int | None) -> None:
        if self.die is not None and self.die[:3] == (self.id, round, point):
            marker = Path(self.die[3])
            if not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)

    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        import numpy as np

        round = self.num_iterations
        others = [id for id in self.partner_node_ids if id != self.flame.get_aggregator_id()]
        self.flame.flame_log(f"round {round} begins")
        if self.rows is None:
            self.rows = data["rows"]  # a part of the data, edited in place
        self.rows += 1
        data["count"].append(round)
        self._die_at("before sending", round)
        self.flame.send_intermediate_data(others, self.rows * 2)
        saved = self.flame.save_intermediate_data({"round": round}, "global", [*others, self.id])
        for receiver, answer in saved.items():
            if receiver != self.id:
                self.flame.send_message([receiver], "stored", {"id": answer["id"]})
        assert self.flame.get_intermediate_data("global", query=saved[self.id]["id"]) == {"round": round}
        self._die_at("after sending", round)
        got = self.flame.await_intermediate_data(others)
        for sender in others:
            stored = body_from(self.flame, sender, "stored")["id"]
            assert self.flame.get_intermediate_data("global", query=stored) == {"round": round}
        self._die_at("after receiving", round)
        self.flame.send_message(others, "received", {})
        self.flame.await_messages(others, "received")
        self._die_at("after all have received", round)
        self.total += sum(float(part.sum()) for part in got.values()) + float(np.random.random())
        self.flame.save_intermediate_data(self.total, "local", tag="totals")
        kept = self.flame.get_intermediate_data("local", tag="totals")
        self.flame.set_progress(20 * round)
        self.flame.flame_log(f"round {round} ends")
        return {"total": self.total, "kept": kept, "rows": data["rows"].copy(), "count": list(data["count"])}


class GathersRounds(Collect):
    """All contributions of every round, for four rounds."""

    def __init__(self, flame: Any) -> None:
        super().__init__(flame)
        self.rounds: list[Any] = []

    def aggregation_method(self, analysis_results: list[Any]) -> Any:
        self.rounds.append(analysis_results)
        return list(self.rounds)

    def has_converged(self, result: Any, last_result: Any) -> bool:
        return self.num_iterations >= 3


class Unkeepable(StarAnalyzer):
    """Its state cannot be pickled."""

    def __init__(self, flame: Any) -> None:
        super().__init__(flame)
        self.connection = {"lock": threading.Lock()}

    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        return data


class DiesOnce(StarAnalyzer):
    """Kills its process in its first round, once, and says in which process it is."""

    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        if not Path(data).exists():
            Path(data).write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return os.getpid()
