"""The release pipeline: what is announced and written, what survives a failure, and that privacy fails closed."""

from __future__ import annotations

import io
import os
import pickle
import traceback
from pathlib import Path
from typing import Any

import pytest

import star_actors.release as release
from star_actors.errors import DeliveryError, EncodingError, NodeStopped, PrivacyError, StarError
from star_actors.release import UNSET, Draft, Withheld, build_pipeline, run_pipeline
from star_actors.report import Output

EXACT = 41.25


class Raising:
    def __str__(self) -> str:
        raise ValueError("no text")


class Listener:
    """Keeps what a release says, and what it warns of."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []

    def release(self, value: Any, **options: Any) -> Draft:
        draft = Draft(value, 0)
        self.run(draft, **options)
        return draft

    def run(self, draft: Draft, **options: Any) -> None:
        stages = build_pipeline(**{"announce": self.said.append, "warn": self.warned.append, **options})
        run_pipeline(stages, draft)

    def fails(self, error: type[StarError], value: Any, **options: Any) -> tuple[StarError, Draft]:
        draft = Draft(value, 0)
        with pytest.raises(error) as caught:
            self.run(draft, **options)
        return caught.value, draft


@pytest.fixture
def listener() -> Listener:
    return Listener()


def add_one(draft: Draft) -> None:
    draft.items = [item + 1 for item in draft.items]


def test_a_result_without_a_path_is_announced_as_text(listener: Listener) -> None:
    draft = listener.release(5.46875)
    assert listener.said == ["Final result: 5.46875"]
    assert draft.outputs == [Output("str", "5.46875")]


def test_the_result_is_the_very_object_that_was_aggregated(listener: Listener) -> None:
    value = {"a": [1]}
    assert listener.release(value).result is value


@pytest.mark.parametrize(("kind", "value"), [("bytes", b"ab"), ("pickle", {"a": 1})])
def test_bytes_and_pickles_are_announced_as_the_object(listener: Listener, kind: str, value: Any) -> None:
    listener.release(value, output_type=kind)
    assert listener.said == [f"Final result: {value}"]


def test_nothing_is_said_where_nobody_listens() -> None:
    draft = run_pipeline(build_pipeline(output_type="pickle"), Draft([Raising()], 0))
    assert [output.kind for output in draft.outputs] == ["pickle"]


@pytest.mark.parametrize(
    ("kind", "value", "content"),
    [
        ("str", "Größe\n", "Größe\n".encode()),
        ("bytes", bytearray(b"ab"), b"ab"),
        ("pickle", [1.5], pickle.dumps([1.5])),
    ],
)
def test_a_result_with_a_path_is_written_and_announced(
    listener: Listener, tmp_path: Path, kind: str, value: Any, content: bytes
) -> None:
    path = tmp_path / "new" / "out"
    draft = listener.release(value, output_type=kind, paths=str(path))
    assert path.read_bytes() == content
    assert listener.said == [f"Final result written to {path}"]
    assert draft.outputs[0].path == path


def test_a_relative_path_means_the_folder_that_the_call_was_made_in(
    listener: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stages = build_pipeline(paths="out.txt", announce=listener.said.append)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run_pipeline(stages, Draft(1, 0))
    assert (tmp_path / "out.txt").read_text() == "1"
    assert listener.said == ["Final result written to out.txt"]


@pytest.mark.parametrize("value", [[1, 2.5], (1, 2.5)], ids=["list", "tuple"])
def test_several_results_are_announced_one_by_one(listener: Listener, value: Any) -> None:
    draft = listener.release(value, multiple_results=True)
    assert listener.said == ["Final result_1: 1", "Final result_2: 2.5"]
    assert draft.result is value


def test_one_path_for_several_results_is_numbered(listener: Listener, tmp_path: Path) -> None:
    listener.release(["a", "b"], multiple_results=True, paths=tmp_path / "v1.2" / "out.txt")
    first, second = tmp_path / "v1.2" / "out_1.txt", tmp_path / "v1.2" / "out_2.txt"
    assert listener.said == [f"Final result_1 written to {first}", f"Final result_2 written to {second}"]
    assert (first.read_text(), second.read_text()) == ("a", "b")


def test_a_list_of_one_result_is_numbered_like_any_other(listener: Listener, tmp_path: Path) -> None:
    listener.release(["a"], multiple_results=True, paths=tmp_path / "out.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["out_1.txt"]


def test_each_result_has_its_own_path_and_kind_where_lists_are_given(listener: Listener, tmp_path: Path) -> None:
    paths = [str(tmp_path / "a.txt"), tmp_path / "b.pkl"]
    listener.release([1, {"b": 2}], multiple_results=True, output_type=["str", "pickle"], paths=paths)
    assert (tmp_path / "a.txt").read_text() == "1"
    assert pickle.loads((tmp_path / "b.pkl").read_bytes()) == {"b": 2}


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX terminal device")
def test_a_device_takes_several_results_without_numbers(listener: Listener) -> None:
    master, slave = os.openpty()
    try:
        terminal = os.ttyname(slave)
        listener.release(["a", "b"], multiple_results=True, paths=terminal)
        with open(master, "rb", buffering=0, closefd=False) as screen:
            assert screen.read(1) + screen.read(1) == b"ab"  # a terminal hands over what has been written so far
    finally:
        os.close(slave)
        os.close(master)
    assert listener.said == [f"Final result_1 written to {terminal}", f"Final result_2 written to {terminal}"]


def test_a_list_is_one_result_unless_several_are_asked_for(listener: Listener) -> None:
    listener.release([1, 2])
    assert listener.said == ["Final result: [1, 2]"]


def test_several_asked_for_and_one_given_is_delivered_with_a_warning(listener: Listener, tmp_path: Path) -> None:
    listener.release(EXACT, multiple_results=True, paths=tmp_path / "out.txt")
    assert (tmp_path / "out.txt").read_text() == "41.25"
    assert listener.warned == [
        "multiple_results=True is given, but the result is of type float, a list or tuple is wanted: it is delivered "
        "as one result"
    ]


def test_an_empty_list_of_results_is_a_warning(listener: Listener, tmp_path: Path) -> None:
    draft = listener.release([], multiple_results=True, paths=tmp_path / "out")
    assert listener.warned == ["multiple_results=True is given, but the result is empty: there is nothing to deliver"]
    assert (draft.result, draft.outputs, list(tmp_path.iterdir())) == ([], [], [])


def test_a_list_of_kinds_of_the_wrong_length_keeps_the_result(listener: Listener) -> None:
    error, draft = listener.fails(EncodingError, [1, 2, 3], multiple_results=True, output_type=["str", "str"])
    assert "output_type is a list of 2, the result has 3 items" in str(error)
    assert draft.result == [1, 2, 3]


def test_a_list_of_paths_of_the_wrong_length_keeps_the_outputs_and_writes_nothing(
    listener: Listener, tmp_path: Path
) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    error, draft = listener.fails(DeliveryError, [1, 2, 3], multiple_results=True, paths=paths)
    assert "result_filepath is a list of 2, the result has 3 items" in str(error)
    assert [output.value for output in draft.outputs] == ["1", "2", "3"]
    assert list(tmp_path.iterdir()) == []


def test_a_list_of_paths_for_a_result_that_is_no_list_keeps_the_result(listener: Listener, tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    error, draft = listener.fails(DeliveryError, 5, multiple_results=True, paths=paths)
    assert "the result has 1 item," in str(error)
    assert (draft.result, draft.outputs) == (5, [Output("str", "5")])


def test_nothing_is_written_before_everything_is_encoded(listener: Listener, tmp_path: Path) -> None:
    error, draft = listener.fails(EncodingError, [1, Raising(), 3], multiple_results=True, paths=tmp_path / "out")
    assert "result[1], of type " in str(error)
    assert list(tmp_path.iterdir()) == []
    assert draft.outputs == [Output("str", "1")]
    assert isinstance(draft.result[1], Raising)


def test_a_failed_write_names_the_path_and_keeps_what_was_done(listener: Listener, tmp_path: Path) -> None:
    (tmp_path / "out_2").mkdir()
    path = tmp_path / "out"
    error, draft = listener.fails(DeliveryError, ["a", "b", "c"], multiple_results=True, paths=path)
    assert str(error).startswith(f"result[1] could not be written to '{path}_2': IsADirectoryError")
    assert f"written before it: {path}_1." in str(error)
    assert isinstance(error.__cause__, OSError)
    assert [output.path for output in draft.outputs] == [Path(f"{path}_1"), None, None]
    assert draft.result == ["a", "b", "c"]
    assert listener.said == []


def test_a_result_that_cannot_be_shown_keeps_its_pickle(listener: Listener) -> None:
    error, draft = listener.fails(EncodingError, Raising(), output_type="pickle")
    assert isinstance(error.__cause__, ValueError)
    assert [output.kind for output in draft.outputs] == ["pickle"]


def test_a_closed_console_is_a_delivery_error_that_keeps_the_result(listener: Listener) -> None:
    console = io.StringIO()
    console.close()
    error, draft = listener.fails(DeliveryError, 5, announce=lambda text: print(text, file=console))
    assert "result could not be announced" in str(error)
    assert draft.result == 5


def test_privacy_stands_before_encoding_and_its_value_is_the_result(listener: Listener) -> None:
    draft = listener.release(EXACT, privacy_stage=add_one)
    assert listener.said == ["Final result: 42.25"]
    assert draft.result == 42.25


@pytest.mark.parametrize(("value", "result"), [([1, 2], [2, 3]), ((1, 2), (2, 3))], ids=["list", "tuple"])
def test_privacy_sees_several_results_item_by_item(listener: Listener, value: Any, result: Any) -> None:
    draft = listener.release(value, multiple_results=True, privacy_stage=add_one)
    assert draft.result == result
    assert type(draft.result) is type(result)


def test_a_privacy_stage_may_set_the_value_instead_of_the_items(listener: Listener) -> None:
    def hide(draft: Draft) -> None:
        draft.value = [0, 0]

    listener.release([EXACT, EXACT], multiple_results=True, privacy_stage=hide)
    assert listener.said == ["Final result_1: 0", "Final result_2: 0"]


def everything_told(error: BaseException, draft: Draft, listener: Listener, folder: Path) -> str:
    """Whatever text a failed release leaves anywhere."""
    chain: list[BaseException | None] = [error, error.__cause__, error.__context__]
    texts = [f"{part!r} {part}" for part in chain if part is not None]
    texts += traceback.format_exception(error)
    texts += [str(pickle.loads(pickle.dumps(error)).__dict__), repr(draft), *listener.said, *listener.warned]
    texts += [path.read_text() for path in folder.rglob("*") if path.is_file()]
    return "\n".join(texts)


def raise_plainly(draft: Draft) -> None:
    raise TypeError(f"cannot noise {draft.value}")


def raise_while_handling(draft: Draft) -> None:
    try:
        raise_plainly(draft)
    except TypeError:
        raise PrivacyError("the result cannot be noised")  # noqa: B904 - the chain is what is tested


def raise_chained(draft: Draft) -> None:
    try:
        raise_plainly(draft)
    except TypeError as error:
        raise PrivacyError("the result cannot be noised") from error


def leave(draft: Draft) -> None:
    raise SystemExit(f"leaving with {draft.value}")


@pytest.mark.parametrize("stage", [raise_plainly, raise_while_handling, raise_chained, leave])
def test_a_privacy_stage_that_fails_tells_nothing_exact(listener: Listener, tmp_path: Path, stage: Any) -> None:
    error, draft = listener.fails(PrivacyError, EXACT, privacy_stage=stage, paths=tmp_path / "out")
    assert "41.25" not in everything_told(error, draft, listener, tmp_path)


@pytest.mark.parametrize("stage", [raise_plainly, raise_while_handling, raise_chained, leave])
def test_a_privacy_stage_that_fails_releases_nothing(listener: Listener, tmp_path: Path, stage: Any) -> None:
    _, draft = listener.fails(PrivacyError, EXACT, privacy_stage=stage, paths=tmp_path / "out")
    assert (draft.result, draft.outputs, draft.value) == (UNSET, [], Withheld())
    assert list(tmp_path.iterdir()) == []


def test_the_privacy_error_of_the_stage_is_the_one_that_rises(listener: Listener) -> None:
    error, _ = listener.fails(PrivacyError, EXACT, privacy_stage=raise_while_handling)
    assert str(error) == "the result cannot be noised"


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, NodeStopped])
def test_an_interrupted_privacy_stage_leaves_nothing_exact_on_the_draft(interrupt: type[BaseException]) -> None:
    def stop(draft: Draft) -> None:
        raise interrupt

    draft = Draft([EXACT], 0)
    with pytest.raises(interrupt):
        run_pipeline(build_pipeline(multiple_results=True, privacy_stage=stop), draft)
    assert (draft.result, draft.value, draft.items) == (UNSET, Withheld(), [Withheld()])


def test_the_warning_on_a_single_result_does_not_tell_it(listener: Listener, tmp_path: Path) -> None:
    error, draft = listener.fails(PrivacyError, EXACT, multiple_results=True, privacy_stage=raise_plainly)
    assert len(listener.warned) == 1
    assert "41.25" not in everything_told(error, draft, listener, tmp_path)


def test_a_list_of_a_user_s_own_kind_is_not_iterated_before_it_is_noised(listener: Listener) -> None:
    class Telling(list[float]):
        def __iter__(self) -> Any:
            raise ValueError(f"holds {self[0]}")

    draft = listener.release(Telling([1.0]), multiple_results=True, privacy_stage=add_one)
    assert draft.result == [2.0]


@pytest.mark.parametrize("name", sorted(set(release.__all__)))
def test_every_exported_name_is_there(name: str) -> None:
    assert getattr(release, name) is not None
    assert name in dir(release)
