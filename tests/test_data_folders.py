import json
import os
from pathlib import Path

import pytest

from star_actors.data import from_folders
from star_actors.errors import ConfigurationError

BUNDLE = {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": {"resourceType": "Patient"}}]}


def node(root: Path, name: str, files: dict[str, bytes]) -> Path:
    folder = root / name
    folder.mkdir()
    for file, content in files.items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def test_each_folder_becomes_one_split_with_one_source(tmp_path: Path) -> None:
    one = node(tmp_path, "one", {"data.csv": b"a\n1\n"})
    two = node(tmp_path, "two", {"data.csv": b"a\n2\n"})
    assert from_folders(one, str(two)) == [[{"data.csv": b"a\n1\n"}], [{"data.csv": b"a\n2\n"}]]


def test_names_are_relative_posix_paths_in_sorted_order(tmp_path: Path) -> None:
    folder = node(tmp_path, "one", {"z.csv": b"", "a/b/c.bin": b"\x00\xff", "a.csv": b"x", "a/a.csv": b"y"})
    ((source,),) = from_folders(folder)
    assert list(source) == ["a.csv", "a/a.csv", "a/b/c.bin", "z.csv"]
    assert source["a/b/c.bin"] == b"\x00\xff"


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    folder = node(tmp_path, "one", {".DS_Store": b"x", ".git/config": b"x", "sub/.hidden": b"x", "data.csv": b"x"})
    assert from_folders(folder) == [[{"data.csv": b"x"}]]


def test_a_hidden_folder_may_itself_be_given(tmp_path: Path) -> None:
    assert from_folders(node(tmp_path, ".data", {"a": b"x"})) == [[{"a": b"x"}]]


def test_linked_files_and_folders_are_read(tmp_path: Path) -> None:
    kept = node(tmp_path, "kept", {"a.csv": b"x"})
    folder = node(tmp_path, "one", {"own.csv": b"y"})
    (folder / "first").symlink_to(kept)
    (folder / "second").symlink_to(kept)
    (folder / "file.csv").symlink_to(kept / "a.csv")
    ((source,),) = from_folders(folder)
    assert source == {"file.csv": b"x", "first/a.csv": b"x", "own.csv": b"y", "second/a.csv": b"x"}


def test_bundles_are_named_by_their_path_without_json(tmp_path: Path) -> None:
    text = json.dumps(BUNDLE).encode()
    folder = node(tmp_path, "one", {"Patient.json": text, "v2/Observation.JSON": text, "README.md": b"no bundle"})
    assert from_folders(folder, data_type="fhir") == [[{"Patient": BUNDLE, "v2/Observation": BUNDLE}]]


def test_a_bundle_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    folder = node(tmp_path, "one", {"Patient.json": json.dumps(BUNDLE).encode("utf-8-sig")})
    assert from_folders(folder, data_type="fhir") == [[{"Patient": BUNDLE}]]


def test_no_folder_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="no folder, one per node"):
        from_folders()


def test_a_list_of_folders_is_told_to_be_unpacked(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"was given list.*\*folders"):
        from_folders([tmp_path])  # type: ignore[call-overload]


def test_a_folder_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_bytes(b"x")
    with pytest.raises(ConfigurationError, match=r"data\.csv' is a file, a folder is wanted"):
        from_folders(tmp_path / "data.csv")


def test_a_missing_folder_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere' does not exist"):
        from_folders(tmp_path / "nowhere")


def test_all_folders_are_checked_before_any_is_read(tmp_path: Path) -> None:
    bad = node(tmp_path, "bad", {"Patient.json": b"{"})
    with pytest.raises(ConfigurationError, match="nowhere' does not exist"):
        from_folders(bad, tmp_path / "nowhere", data_type="fhir")


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds no file that is not hidden"):
        from_folders(node(tmp_path, "one", {".hidden": b"x"}))


def test_a_folder_without_json_is_an_error_for_fhir(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"holds no \.json file"):
        from_folders(node(tmp_path, "one", {"data.csv": b"x"}), data_type="fhir")


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe\xfa", b"[" * 100_000])
def test_json_that_does_not_parse_is_an_error_that_names_the_file(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConfigurationError, match=r"Patient\.json' does not parse as JSON"):
        from_folders(node(tmp_path, "one", {"Patient.json": content}), data_type="fhir")


@pytest.mark.parametrize(
    ("content", "given"),
    [
        (b'{"resourceType": "Patient"}', "resourceType 'Patient'"),
        (b"[]", "a JSON list without resourceType"),
        (b'{"a": 1}', "a JSON dict without resourceType"),
    ],
)
def test_json_that_is_no_bundle_is_an_error_that_says_what_it_is(tmp_path: Path, content: bytes, given: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"Patient\.json' is {given}, a FHIR Bundle is wanted"):
        from_folders(node(tmp_path, "one", {"Patient.json": content}), data_type="fhir")


def test_two_files_for_one_query_are_an_error(tmp_path: Path) -> None:
    text = json.dumps(BUNDLE).encode()
    folder = node(tmp_path, "one", {"Patient.json": text, "Patient.JSON": text})
    if len(list(folder.iterdir())) < 2:
        pytest.skip("this file system does not tell upper from lower case")
    with pytest.raises(ConfigurationError, match="would both be the query 'Patient'"):
        from_folders(folder, data_type="fhir")


def test_a_link_to_a_folder_above_is_an_error_not_an_endless_walk(tmp_path: Path) -> None:
    folder = node(tmp_path, "one", {"a/data.csv": b"x"})
    (folder / "a" / "up").symlink_to(folder)
    with pytest.raises(ConfigurationError, match="links back to"):
        from_folders(folder)


def test_a_link_that_leads_nowhere_is_an_error(tmp_path: Path) -> None:
    folder = node(tmp_path, "one", {"data.csv": b"x"})
    (folder / "gone.csv").symlink_to(tmp_path / "gone")
    with pytest.raises(ConfigurationError, match=r"gone\.csv' links to .*which does not exist"):
        from_folders(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_an_error_not_a_hang(tmp_path: Path) -> None:
    folder = node(tmp_path, "one", {"data.csv": b"x"})
    os.mkfifo(folder / "pipe")
    with pytest.raises(ConfigurationError, match="pipe' is neither a file nor a folder"):
        from_folders(folder)


@pytest.mark.skipif(not Path("/proc/self/mem").is_file(), reason="needs a file that cannot be read, as Linux has")
def test_a_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    folder = node(tmp_path, "one", {"data.csv": b"x"})
    (folder / "memory").symlink_to("/proc/self/mem")
    with pytest.raises(ConfigurationError, match="memory' cannot be read"):
        from_folders(folder)


def test_an_unknown_data_type_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="data_type='csv'"):
        from_folders(tmp_path, data_type="csv")  # type: ignore[call-overload]
