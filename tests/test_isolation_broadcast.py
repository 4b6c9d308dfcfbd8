"""One value for many receivers: each has one of its own, and memory grows only by what they write to."""

from __future__ import annotations

import copy
import gc
import itertools
import pathlib
import pickle
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from sent_values import (
    ARRAYS,
    LARGE_ARRAYS,
    Tensor,
    UnpicklingFails,
    mapped_files,
    memory_files,
    proportional_size,
    run_script,
    same,
    through_flame,
)

from star_actors.isolation import (
    Broadcast,
    Pages,
    Uncopyable,
)

linux = pytest.mark.skipif(sys.platform != "linux", reason="there is no memfd elsewhere: large values are copied")


class TestBroadcast:
    @pytest.mark.parametrize("make", (ARRAYS | LARGE_ARRAYS).values(), ids=lambda make: None)
    @pytest.mark.parametrize("wrap", ["alone", "flat", "nested", "tuple"])
    def test_each_receiver_gets_what_arrives_on_flame(self, make: Callable[[], Any], wrap: str) -> None:
        array = make()
        value = {"alone": array, "flat": {"x": array, "n": 1}, "nested": [{"x": array}], "tuple": (1, array)}[wrap]
        expected = through_flame(value)
        with Pages() as pages:
            for _ in range(3):
                broadcast = Broadcast(value, pages=pages)
                assert broadcast.nbytes >= array.nbytes
                for received in (broadcast.take(), broadcast.take(), broadcast.keep()):
                    assert same(received, expected)
                broadcast.close()

    @pytest.mark.parametrize("make", (ARRAYS | LARGE_ARRAYS).values(), ids=lambda make: None)
    def test_receivers_get_writable_arrays_of_their_own(self, make: Callable[[], Any]) -> None:
        array = make()
        broadcast = Broadcast(array)
        first, second, kept = broadcast.take(), broadcast.take(), broadcast.keep()
        for one, other in itertools.permutations((array, first, second, kept), 2):
            assert not np.shares_memory(one, other)
        assert first.flags.writeable
        assert second.flags.writeable

    @pytest.mark.parametrize("size", [10, 300_000])
    @pytest.mark.parametrize("wrap", [lambda a: a, lambda a: {"x": a}, lambda a: [{"x": a}]], ids=["", "flat", "deep"])
    def test_writing_at_one_receiver_shows_nowhere_else(self, size: int, wrap: Callable[[Any], Any]) -> None:
        array = np.zeros(size)
        broadcast = Broadcast(wrap(array))
        first = np.asarray(_array_in(broadcast.take()))
        first += 1.0
        assert not array.any()
        assert not _array_in(broadcast.take()).any()
        assert not _array_in(broadcast.keep()).any()

    @pytest.mark.parametrize("size", [10, 300_000])
    def test_what_is_taken_is_the_value_as_it_was_at_the_start(self, size: int) -> None:
        value = {"x": np.zeros(size), "list": [1]}
        flat = {"x": value["x"], "n": 1}
        broadcasts = [Broadcast(value), Broadcast(flat), Broadcast(value["x"])]
        np.asarray(value["x"])[:] = 9.0
        value["list"] = flat["n"] = "changed"
        assert broadcasts[0].take()["list"] == [1]
        assert broadcasts[1].take()["n"] == 1
        assert not any(_array_in(broadcast.take()).any() for broadcast in broadcasts)

    @pytest.mark.parametrize("value", [{"n": 1}, [1], [[1]], bytearray(b"1"), np.array([1])], ids=repr)
    def test_what_changes_later_is_not_in_what_is_taken(self, value: Any) -> None:
        broadcast = Broadcast(value)
        before = copy.deepcopy(value)
        value[0 if not isinstance(value, dict) else "n"] = 2
        assert same(broadcast.take(), before)

    def test_one_array_twice_stays_one_array(self) -> None:
        array = np.zeros(300_000)
        received = Broadcast({"a": array, "b": array}).take()
        assert received["a"] is received["b"]

    def test_small_and_large_arrays_and_bytes_can_be_mixed(self) -> None:
        value = {"w": np.ones(300_000), "b": np.ones(3), "raw": bytearray(b"abc"), "n": 1, "v": np.ones((2, 100_000))}
        broadcast = Broadcast(value)
        first, second = broadcast.take(), broadcast.take()
        assert same(first, value)
        first["raw"][0] = first["b"][0] = first["w"][0] = first["v"][0, 0] = 7
        assert same(second, value)

    def test_a_large_buffer_out_of_band_is_writable_and_private(self) -> None:
        tensor = Tensor(bytearray(2_000_000))
        broadcast = Broadcast(tensor)
        first = memoryview(broadcast.take().data)
        first[0] = first[-1] = 1
        assert bytes(broadcast.take().data) == bytes(2_000_000)

    def test_a_large_frame_is_writable_and_private(self) -> None:
        pandas = pytest.importorskip("pandas", reason="frames need pandas")
        frame = pandas.DataFrame({"a": np.arange(200_000.0), "b": np.arange(200_000)})
        broadcast = Broadcast(frame)
        received = broadcast.take()
        received.iloc[:, 0] = 7.0
        pandas.testing.assert_frame_equal(broadcast.take(), frame)

    def test_it_tells_the_pickle_that_it_made(self) -> None:
        broadcast = Broadcast({"a": [1]})
        assert broadcast.pickled is not None
        assert pickle.loads(broadcast.pickled) == {"a": [1]}
        assert Broadcast(np.zeros(3)).pickled is None

    @pytest.mark.parametrize("value", [1.5, [1], [[1]], np.zeros(3), np.zeros(300_000)], ids=lambda value: None)
    def test_nothing_can_be_taken_once_it_is_closed(self, value: Any) -> None:
        broadcast = Broadcast(value)
        broadcast.take()
        broadcast.close()
        broadcast.close()
        with pytest.raises(RuntimeError, match="closed"):
            broadcast.take()

    def test_what_was_taken_outlives_the_broadcast_and_its_pages(self) -> None:
        with Pages() as pages:
            broadcast = Broadcast(np.arange(300_000.0), pages=pages)
            whole, view = broadcast.take(), broadcast.take()[1:]
            inner = broadcast.take().data[5:]
            broadcast.close()
            del broadcast
        gc.collect()
        assert whole[-1] == view[-1] == inner[-1] == 299_999.0
        view += 1.0
        assert view[-1] == 300_000.0

    def test_what_cannot_be_pickled_fails_at_the_sender(self) -> None:
        with pytest.raises(Uncopyable) as caught:
            Broadcast({"model": [{"hook": threading.Lock()}]})
        assert caught.value.path == '["model"][0]["hook"]'

    def test_what_cannot_be_unpickled_fails_at_the_sender(self) -> None:
        with pytest.raises(Uncopyable) as caught:
            Broadcast({"error": UnpicklingFails("a", "b")})
        assert caught.value.path == '["error"]'
        assert isinstance(caught.value.cause, TypeError)

    def test_takes_on_many_threads_are_private_and_equal(self) -> None:
        with Pages() as pages, ThreadPoolExecutor(8) as threads:
            for number in range(10):
                value = {"x": np.full(200_000, float(number)), "deep": [{"n": number}]}
                broadcasts = [Broadcast(value, pages=pages), Broadcast(value["x"], pages=pages)]

                def use(broadcast: Broadcast, number: int = number) -> bool:
                    array = _array_in(broadcast.take())
                    right = bool((array == number).all())
                    array += 1.0
                    return right

                assert all(threads.map(use, broadcasts * 16))
                for broadcast in broadcasts:
                    broadcast.close()


def _array_in(value: Any) -> Any:
    while not isinstance(value, np.ndarray):
        value = value["x"] if isinstance(value, dict) else value[0]
    return value


@linux
class TestPages:
    def test_reading_costs_less_than_two_copies_for_any_number_of_receivers(self) -> None:
        array = np.arange(2_000_000.0)
        before = proportional_size()
        broadcast = Broadcast(array)
        received = [broadcast.take() for _ in range(300)]
        assert {float(one[::512].sum()) for one in received} == {float(array[::512].sum())}
        assert proportional_size() - before < 2 * array.nbytes

    def test_memory_grows_by_the_pages_that_are_written(self) -> None:
        array = np.arange(2_000_000.0)
        broadcast = Broadcast(array)
        received = [broadcast.take() for _ in range(50)]
        before = proportional_size()
        for one in received:
            one[1000] = 0.0
        assert proportional_size() - before < array.nbytes

    def test_large_arrays_in_containers_are_mapped_too(self) -> None:
        value = [{"x": np.arange(2_000_000.0)}]
        before = proportional_size()
        broadcast = Broadcast(value)
        received = [broadcast.take() for _ in range(100)]
        assert {float(one[0]["x"][-1]) for one in received} == {1_999_999.0}
        assert proportional_size() - before < 2 * value[0]["x"].nbytes

    def test_ten_thousand_mappings_take_one_descriptor(self) -> None:
        broadcast = Broadcast(np.arange(200_000.0))
        received = [broadcast.take() for _ in range(10_000)]
        assert mapped_files() >= 10_000
        assert memory_files() == 1
        assert received[0][-1] == received[-1][-1] == 199_999.0
        broadcast.close()
        assert memory_files() == 0
        del received
        assert mapped_files() == 0

    @pytest.mark.parametrize("close", [True, False])
    def test_no_descriptor_or_mapping_is_left_over_many_rounds(self, close: bool) -> None:
        array = np.arange(150_000.0)
        received: list[Any] = []
        for _ in range(500):
            broadcast = Broadcast(array)
            received = [broadcast.take(), broadcast.take(), broadcast.keep()]
            if close:
                broadcast.close()
            del broadcast
            assert memory_files() == 0
        del received
        assert mapped_files() == 0

    def test_the_same_pages_serve_round_after_round(self) -> None:
        seen: set[int] = set()
        latest: list[Any] = []
        with Pages() as pages:
            for number in range(50):
                broadcast = Broadcast(np.full(300_000, float(number)), pages=pages)
                latest = [broadcast.take(), broadcast.take()]
                assert all((one == number).all() for one in latest)
                broadcast.close()
                seen |= _inodes()
                assert memory_files() <= 3
            assert len(seen) <= 3
            del latest
        assert memory_files() == 0
        assert mapped_files() == 0

    def test_pages_that_are_still_mapped_are_not_written_to(self) -> None:
        with Pages() as pages:
            kept = []
            for number in range(30):
                broadcast = Broadcast(np.full(200_000, float(number)), pages=pages)
                kept.append(broadcast.keep())
                broadcast.close()
            assert all((one == number).all() for number, one in enumerate(kept))
            assert memory_files() < 15
            # Those that had to give up their descriptor are gone for good; what comes after is mapped again.
            while kept:
                kept.pop(0)
            again = [Broadcast(np.zeros(200_000), pages=pages).take() for _ in range(12)]
            assert mapped_files() >= len(again)

    def test_pages_that_a_forked_child_maps_are_not_written_to(self) -> None:
        script = """
            import os, numpy as np
            from star_actors.isolation import Broadcast, Pages
            pages = Pages()
            broadcast = Broadcast(np.zeros(300_000), pages=pages)
            array = broadcast.take()
            broadcast.close()
            written, write = os.pipe()
            child = os.fork()
            if child == 0:
                os.read(written, 1)
                os._exit(int(array.any()))
            del array, broadcast
            for number in range(5):
                Broadcast(np.full(300_000, 1.0 + number), pages=pages).take()
            os.write(write, b"x")
            print("child exited with", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """
        assert run_script(script) == "child exited with 0"

    def test_without_a_descriptor_left_values_are_copied(self) -> None:
        script = """
            import resource, numpy as np
            from star_actors.isolation import Broadcast
            array = np.arange(300_000.0)
            Broadcast(array).take()
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
            broadcast = Broadcast(array)
            first, second = broadcast.take(), broadcast.take()
            first += 1
            print((second == array).all(), first.flags.writeable, Broadcast([{"x": array}]).take()[0]["x"][-1])
        """
        assert run_script(script) == "True True 299999.0"

    def test_far_more_receivers_than_mappings_get_copies(self) -> None:
        with Pages() as pages:
            broadcast = Broadcast(np.arange(140_000.0), pages=pages)
            received: list[Any] = [broadcast.take() for _ in range(30_010)]
            assert mapped_files() <= 30_001
            received[-1][0] = 7.0
            assert received[-1][-1] == 139_999.0
            assert received[-2][0] == 0.0


def _inodes() -> set[int]:
    found = set()
    for entry in pathlib.Path("/proc/self/fd").iterdir():
        try:
            if "memfd:star_actors" in str(entry.readlink()):
                found.add(entry.stat().st_ino)
        except FileNotFoundError:  # the listing's own
            continue
    return found
