"""Mechanisms and the taking apart of results: what is accepted, what is refused, and what the noise is like.

Noise cannot be seeded. A test of its distribution fails by chance with probability 1e-9 at most.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import math
import pickle
import subprocess
import sys
import threading
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nst

from star_actors.errors import ConfigurationError, PrivacyError
from star_actors.options import Privacy
from star_actors.release.flatten import flatten
from star_actors.release.noise import Mechanism, clip_to_norm, mechanism_for, zcdp_epsilon

SECRET = 7316502948.25
SECRET_DIGITS = "73165029"

LAPLACE = mechanism_for(Privacy(epsilon=1, sensitivity=1))
DISCRETE = mechanism_for(Privacy(epsilon=1, sensitivity=1, integers="discrete"))


class Pair(NamedTuple):
    a: Any
    b: Any


class Number(float):
    pass


def layout(value: Any) -> Any:
    """Types, keys, shapes and dtypes of a nest, without its numbers."""
    if isinstance(value, dict):
        return {key: layout(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value), [layout(part) for part in value]
    return type(value), getattr(value, "dtype", None), getattr(value, "shape", None)


def cyclic() -> list[Any]:
    value: list[Any] = [SECRET]
    value.append(value)
    return value


# --- taking apart


numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(1 << 53), 1 << 53),
    st.floats(-1000, 1000, width=32).map(np.float32),
    nst.arrays(st.sampled_from([np.float64, np.float32, np.float16, np.int8, np.uint16, np.int32]), nst.array_shapes()),
)
nests = st.recursive(
    numbers,
    lambda part: st.one_of(
        st.lists(part, max_size=4),
        st.tuples(part, part),
        st.builds(Pair, part, part),
        st.dictionaries(st.text(max_size=3), part, max_size=4),
    ),
    max_leaves=12,
)


def finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(finite, value))
    return bool(np.isfinite(value).all())


def count(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(count, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(count, value))
    return int(np.size(value))


@given(nests.filter(lambda value: finite(value) and count(value) > 0))
@settings(deadline=None)
def test_a_nest_comes_together_as_it_was_taken_apart(value: Any) -> None:
    flat = flatten(value, integers="discrete")
    rebuilt = flat.rebuild(flat.floats, flat.ints)
    assert flat.size == count(value)
    assert layout(rebuilt) == layout(value)
    assert pickle.dumps(rebuilt) == pickle.dumps(flat.rebuild(flat.floats.copy(), flat.ints.copy()))
    np.testing.assert_equal(rebuilt, value)


def test_integers_become_floats_by_default() -> None:
    flat = flatten([1, np.int8(2), np.arange(3, dtype=np.uint8).reshape(3, 1)])
    rebuilt = flat.rebuild(flat.floats + 0.5, flat.ints)
    assert layout(rebuilt) == layout([1.5, np.float64(2.5), np.zeros((3, 1))])
    assert rebuilt[2].tolist() == [[0.5], [1.5], [2.5]]


def test_array_dtypes_keep_their_byte_order() -> None:
    flat = flatten(np.array([1, 2], dtype=">f4"))
    assert flat.rebuild(flat.floats, flat.ints).dtype == np.dtype(">f4")


def test_numbers_beyond_a_dtype_become_the_nearest_it_holds() -> None:
    value = [np.float16(1), np.zeros(2, np.uint8), np.zeros(2, np.int8), np.uint64(5)]
    flat = flatten(value, integers="discrete")
    rebuilt = flat.rebuild(flat.floats * 1e9, np.array([-7, 300, -300, 300, -1]))
    assert rebuilt[0] == np.finfo(np.float16).max
    assert [part.tolist() for part in rebuilt[1:]] == [[0, 255], [-128, 127], 0]


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (True, "result is of type bool"),
        (np.True_, f"result is of type {type(np.True_).__name__}"),
        ("73165029", "result is of type str"),
        (b"73165029", "result is of type bytes"),
        (None, "result is of type NoneType"),
        (SECRET * 1j, "result is of type complex"),
        (np.complex64(SECRET), "result is of type complex64"),
        (decimal.Decimal(SECRET), "result is of type Decimal"),
        (Fraction(SECRET), "result is of type Fraction"),
        (datetime.date(2024, 1, 2), "result is of type date"),
        (Number(SECRET), "result is of type Number"),
        ({SECRET}, "result is of type set"),
        (np.longdouble(SECRET), "result is of type longdouble"),
        (np.timedelta64(73165029), "result is of type timedelta64"),
        (np.array(["2024"], dtype="M8[Y]"), "result is of type array of datetime64"),
        (np.array([1, SECRET], dtype=object), "result is of type array of object"),
        (np.array([True]), "result is of type array of bool"),
        (np.array(["73165029"]), "result is of type array of str"),
        (np.zeros(2, dtype=[("a", "f8")]), "result is of type array of void"),
        (np.ma.array([SECRET, 2]), "result is of type MaskedArray"),
        (collections.Counter(a=7), "result is of type Counter"),
        (collections.OrderedDict(a=SECRET), "result is of type OrderedDict"),
        ({1: SECRET}, "result has a key of type int"),
        ({np.str_("a"): SECRET}, "result has a key of type str_"),
        ({"a": {b"x": SECRET}}, 'result["a"] has a key of type bytes'),
        ({"a": [1, 2, {"b": None}]}, 'result["a"][2]["b"] is of type NoneType'),
        ({'"]["': (1, "x")}, r'result["\"][\""][1] is of type str'),
        ([1, Pair(2, [True])], "result[1][1][0] is of type bool"),
        (float("nan"), "result (float) is not finite"),
        ({"w": [1.0, -math.inf]}, 'result["w"][1] (float) is not finite'),
        (np.array([[SECRET, 1], [2, np.nan]]), "result[1, 1] (array of float64) is not finite"),
        (np.float32("inf"), "result (float32) is not finite"),
        (np.array(np.nan), "result (array of float64) is not finite"),
        (int(SECRET) << 60, "result (int) is beyond the whole numbers"),
        (np.array([int(SECRET) << 28]), "result (array of int64) is beyond the whole numbers"),
        (np.uint64(int(SECRET) << 28), "result (uint64) is beyond the whole numbers"),
        (cyclic(), "result[1] (list) contains itself"),
        ([], "result (list) holds no number"),
        ({"a": [], "b": np.zeros((0, 3))}, "result (dict) holds no number"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_number_is_refused_by_path_and_type_but_not_by_value(value: Any, named: str) -> None:
    with pytest.raises(PrivacyError) as caught:
        flatten(value)
    assert named in str(caught.value)
    assert SECRET_DIGITS not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_nest_too_deep_is_refused() -> None:
    value: Any = 1.0
    for _ in range(200):
        value = [value]
    with pytest.raises(PrivacyError, match="deeper than 64 containers"):
        flatten(value)


def test_a_part_that_stands_in_two_places_is_taken_twice() -> None:
    part = [1.0, 2.0]
    assert flatten([part, part]).floats.tolist() == [1, 2, 1, 2]


@pytest.mark.parametrize("value", [1 << 63, -(1 << 63) - 1, np.array([1 << 63], dtype=np.uint64)], ids=repr)
def test_integers_beyond_64_bits_are_refused_where_they_stay_integers(value: Any) -> None:
    with pytest.raises(PrivacyError, match="does not fit into 64 bits"):
        flatten(value, integers="discrete")


@pytest.mark.parametrize(
    "value", [1e17, np.float32(1e9), np.float16(8192), np.array([0.0, -1e17]), sys.float_info.max], ids=repr
)
def test_floats_coarser_than_the_sensitivity_are_refused(value: Any) -> None:
    with pytest.raises(PrivacyError, match="lie further apart than the sensitivity"):
        LAPLACE.noise(value)


@given(st.floats(1e10, 1e20), st.floats(-1, 1))
@settings(deadline=None)
def test_whether_a_float_is_too_coarse_tells_no_neighbours_apart(x: float, move: float) -> None:
    other = x + move
    if abs(Fraction(other) - Fraction(x)) > 1:
        return
    outcomes = []
    for value in (x, other):
        try:
            LAPLACE.take_apart(value)
            outcomes.append("accepted")
        except PrivacyError:
            outcomes.append("refused")
    assert outcomes[0] == outcomes[1]


# --- mechanisms


@given(st.floats(1e-6, 1e3), st.floats(1e-6, 1e6))
@settings(deadline=None)
def test_laplace_has_the_scale_of_the_textbook_and_keeps_epsilon_by_opendps_own_map(e: float, s: float) -> None:
    from opendp import domains, measurements, metrics

    mechanism = mechanism_for(Privacy(epsilon=e, sensitivity=s))
    space = domains.vector_domain(domains.atom_domain(T="f64", nan=False)), metrics.l1_distance(T="f64")
    made: Any = measurements.make_laplace(*space, scale=mechanism.scale)
    assert made.map(s) <= e
    assert mechanism.scale == pytest.approx(s / e, rel=1e-14)
    assert mechanism.scale >= s / e
    assert (mechanism.name, mechanism.epsilon, mechanism.delta, mechanism.rho) == ("laplace", e, 0.0, 0.0)


@pytest.mark.parametrize(("e", "d"), [(1.0, 1e-6), (0.1, 1e-9), (1 / 3, 1e-5), (50.0, 1e-12)])
@pytest.mark.parametrize("s", [1.0, 0.7, 1e-100, 3e50])
def test_gaussian_has_the_smallest_scale_that_keeps_epsilon_and_delta(e: float, d: float, s: float) -> None:
    from opendp import combinators, domains, measurements, metrics

    def spent(scale: float) -> float:
        space = domains.vector_domain(domains.atom_domain(T="f64", nan=False)), metrics.l2_distance(T="f64")
        made: Any = combinators.make_zCDP_to_approxDP(measurements.make_gaussian(*space, scale=scale))
        return float(made.map(s).epsilon(d))

    mechanism = mechanism_for(Privacy(epsilon=e, sensitivity=s, delta=d))
    assert spent(mechanism.scale) <= e < spent(mechanism.scale * (1 - 1e-9))
    assert zcdp_epsilon(mechanism.rho, d) <= e
    assert mechanism.rho >= (s / mechanism.scale) ** 2 / 2 * (1 - 1e-15)


@pytest.mark.parametrize("k", [1, 2, 7, 100])
def test_zcdp_epsilon_is_what_opendps_composition_of_gaussians_comes_to(k: int) -> None:
    from opendp import combinators, domains, measurements, metrics

    space = domains.vector_domain(domains.atom_domain(T="f64", nan=False)), metrics.l2_distance(T="f64")
    composed = combinators.make_composition([measurements.make_gaussian(*space, scale=5.0)] * k)
    approximate: Any = combinators.make_zCDP_to_approxDP(composed)
    theirs = approximate.map(1.0).epsilon(1e-6)
    assert zcdp_epsilon(k * (1 / 25 / 2), 1e-6) == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"epsilon": 1e-300, "sensitivity": 1e10},
        {"epsilon": 1e300, "sensitivity": 1e-10},
        {"epsilon": 1, "sensitivity": 5e-324},
        {"epsilon": 1e-5, "sensitivity": 1e13, "integers": "discrete"},
        {"epsilon": 1, "sensitivity": 1e300, "delta": 1e-6},
        {"epsilon": 1e6, "sensitivity": 1, "delta": 1e-6},
        {"epsilon": 1e-15, "sensitivity": 1, "delta": 1e-300},
    ],
    ids=str,
)
def test_epsilon_and_sensitivity_that_make_no_usable_scale_fail_before_a_run(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="is given"):
        mechanism_for(Privacy(**options))


def test_noise_keeps_the_nest() -> None:
    value: dict[str, Any] = {
        "n": 3,
        "mean": 2.5,
        "w": np.ones((2, 3), np.float32),
        "pair": Pair(np.int32(4), [1.0, (2.0,)]),
    }
    noised = LAPLACE.noise(value)
    expected = {**value, "n": 3.0, "pair": Pair(np.float64(4), [1.0, (2.0,)])}
    assert layout(noised) == layout(expected)
    assert not np.equal(noised["w"], value["w"]).any()


def test_discrete_noise_keeps_integers_and_their_dtypes_and_leaves_floats_floats() -> None:
    value = [10, np.int16(5), np.arange(4, dtype=np.uint8), 0.5]
    assert layout(DISCRETE.noise(value)) == layout(value)


def test_discrete_noise_reaches_the_ends_of_64_bits_without_wrapping() -> None:
    ends = [(1 << 63) - 1, -(1 << 63)] * 50
    noised = DISCRETE.noise(ends)
    assert all(abs(after - before) < 100 for before, after in zip(ends, noised, strict=True))


@pytest.mark.parametrize("name", ["laplace", "gaussian", "discrete laplace", "discrete gaussian"])
def test_noise_has_the_claimed_distribution(name: str) -> None:
    from star_actors.studies.calibration import calibrate

    delta = 1e-6 if "gaussian" in name else None
    mechanism = mechanism_for(
        Privacy(epsilon=0.8, sensitivity=3, delta=delta, integers="discrete" if "discrete" in name else "float")
    )
    assert mechanism.name == name
    exact = [7] * 10_000
    noise = np.array(mechanism.noise(exact)) - 7.0
    floats, ints = (noise[:0], noise) if "discrete" in name else (noise, noise[:0])
    assert calibrate(floats, ints, mechanism, alpha=1e-9).passed


@pytest.mark.parametrize("delta", [None, 1e-6])
def test_numbers_of_one_result_get_independent_noise(delta: float | None) -> None:
    noise = np.array(mechanism_for(Privacy(epsilon=1, sensitivity=1, delta=delta)).noise([0.0] * 4000))
    neighbours = np.corrcoef(noise[:-1], noise[1:])[0, 1]
    # Six standard errors: a chance of 2e-9.
    assert abs(neighbours) < 6.1 / math.sqrt(noise.size)
    assert np.unique(noise).size == noise.size


def test_progress_counts_every_number_up_to_the_total() -> None:
    seen: list[tuple[int, int]] = []
    DISCRETE.noise([np.zeros(3000), list(range(10))], progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (3010, 3010)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert len(seen) > 2


def test_stop_ends_a_draw_between_two_chunks() -> None:
    stop = threading.Event()
    seen: list[int] = []

    def progress(done: int, total: int) -> None:
        seen.append(done)
        stop.set()

    with pytest.raises(PrivacyError, match="was stopped"):
        LAPLACE.noise(np.zeros(100_000), progress=progress, stop=stop.is_set)
    assert len(seen) == 1


def test_one_mechanism_serves_many_threads() -> None:
    results: list[list[float]] = []

    def draw() -> None:
        results.extend(LAPLACE.noise([0.0] * 5) for _ in range(20))

    threads = [threading.Thread(target=draw) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    values = [x for result in results for x in result]
    assert len(values) == len(set(values)) == 800


def test_a_mechanism_pickles_and_cannot_be_edited() -> None:
    copy: Mechanism = pickle.loads(pickle.dumps(LAPLACE))
    assert copy == LAPLACE
    assert isinstance(copy.noise(1.0), float)
    with pytest.raises(dataclasses.FrozenInstanceError):
        copy.scale = 0.1  # type: ignore[misc]


def test_importing_the_mechanisms_imports_neither_opendp_nor_numpy() -> None:
    code = (
        "import sys, star_actors.release.privacy, star_actors.studies.audit\n"
        "print([m for m in ('opendp', 'numpy', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


# --- clipping


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=8),
    st.floats(1e-200, 1e200),
    st.sampled_from([1, 2]),
)
@settings(deadline=None)
def test_a_clipped_value_is_within_the_norm_exactly(values: list[float], norm: float, p: Any) -> None:
    clipped = clip_to_norm(values, norm, p)
    assert sum(abs(Fraction(x)) ** p for x in clipped) <= Fraction(norm) ** p


@pytest.mark.parametrize(("norm", "p"), [(7.0, 1), (5.0, 2), (100.0, 2)])
def test_what_is_within_the_norm_stays_as_it_is(norm: float, p: Any) -> None:
    assert clip_to_norm({"a": 3.0, "b": [-4.0]}, norm, p) == {"a": 3.0, "b": [-4.0]}


def test_clipping_keeps_the_direction() -> None:
    np.testing.assert_allclose(clip_to_norm(np.array([30.0, -40.0]), 5.0, 2), [3, -4], rtol=1e-9)


def test_clipped_integers_are_floats_whether_or_not_they_were_scaled() -> None:
    assert layout(clip_to_norm([3, 4], 100.0, 1)) == layout(clip_to_norm([3, 4], 1.0, 1)) == layout([3.0, 4.0])


def test_clipped_integers_stay_integers_within_the_norm_where_they_are_discrete() -> None:
    assert clip_to_norm([30, -40], 7.0, 1, integers="discrete") == [2, -3]


def test_clipping_refuses_what_is_no_number() -> None:
    with pytest.raises(PrivacyError, match=r"contribution\[0\] is of type bool"):
        clip_to_norm([True], 1.0, 1, root="contribution")
