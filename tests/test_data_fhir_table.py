"""Expected tables were worked out by hand, and agree with FLAME's SDK 0.6.0 except where a test's name says so."""

import csv
from typing import Any

import pytest

from star_actors.data.fhir_table import fhir_to_csv, held_pages
from star_actors.errors import ConfigurationError


def observation(patient: str | None, code: Any, value: Any) -> dict[str, Any]:
    resource: dict[str, Any] = {"resourceType": "Observation", "valueQuantity": {"value": value}}
    if patient is not None:
        resource["subject"] = {"reference": patient}
    resource["code"] = {"coding": [{"system": "http://loinc.org", "code": code}]}
    return {"resource": resource}


def response(*items: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        "resource": {
            "resourceType": "QuestionnaireResponse",
            "item": [{"linkId": link, "answer": [answer]} for link, answer in items],
        }
    }


def bundle(*entries: Any, following: str | None = None) -> dict[str, Any]:
    links = [{"relation": "self", "url": "http://x/fhir/Observation"}]
    if following is not None:
        links.append({"relation": "next", "url": following})
    return {"resourceType": "Bundle", "total": len(entries), "link": links, "entry": list(entries)}


OBSERVED = bundle(
    observation("Patient/1", "HR", 71),
    observation("Patient/1", "BP", 120),
    observation("Patient/2", "HR", 64.5),
)
ANSWERED = bundle(
    response(("age", {"valueInteger": 40}), ("smoker", {"valueBoolean": False})),
    response(("age", {"valueInteger": 51})),
)
OBSERVATION: dict[str, Any] = {
    "col_key_seq": "resource.code.coding.code",
    "value_key_seq": "resource.valueQuantity.value",
    "input_resource": "Observation",
    "row_key_seq": "resource.subject.reference",
}
QUESTIONNAIRE: dict[str, Any] = {
    "col_key_seq": "resource.item.linkId",
    "value_key_seq": "resource.item.answer.value",
    "input_resource": "QuestionnaireResponse",
}


def table(data: Any, /, **options: Any) -> Any:
    return fhir_to_csv(data, **{"output_type": "dict", **OBSERVATION, **options})


def text(data: Any, /, **options: Any) -> str:
    file = fhir_to_csv(data, **{**OBSERVATION, **options})
    assert not isinstance(file, dict)
    return file.read()


def answers(data: Any, /, **options: Any) -> Any:
    return fhir_to_csv(data, **{"output_type": "dict", **QUESTIONNAIRE, **options})


def test_observations_become_columns_of_rows() -> None:
    assert table(OBSERVED) == {"HR": {"Patient/1": 71, "Patient/2": 64.5}, "BP": {"Patient/1": 120}}


def test_observations_become_csv_from_its_beginning() -> None:
    assert text(OBSERVED, row_col_name="patient") == "patient,HR,BP\nPatient/1,71,120\nPatient/2,64.5,"


def test_positional_arguments_stand_in_flames_order() -> None:
    file = fhir_to_csv(
        OBSERVED,
        "resource.code.coding.code",
        "resource.valueQuantity.value",
        "Observation",
        "resource.subject.reference",
        ["Patient/1"],
        None,
        "patient",
        ";",
        "file",
    )
    assert not isinstance(file, dict)
    assert file.read() == "patient;HR;BP\nPatient/1;71;120"


def test_answers_become_columns_with_a_row_per_response() -> None:
    assert answers(ANSWERED) == {"age": {"0": 40, "1": 51}, "smoker": {"0": False}}


def test_answers_become_csv() -> None:
    file = fhir_to_csv(ANSWERED, **QUESTIONNAIRE)
    assert not isinstance(file, dict)
    assert file.read() == ",age,smoker\n0,40,False\n1,51,"


def test_the_data_is_left_as_it_was() -> None:
    before = repr(OBSERVED)
    table(OBSERVED)
    assert repr(OBSERVED) == before


def test_a_list_gives_its_first_element_that_leads_to_a_value() -> None:
    entry = observation("Patient/1", "HR", 71)
    entry["resource"]["component"] = [
        {"valueString": "x"},
        {"valueQuantity": {"value": None}},
        {"valueQuantity": {"value": 5}},
        {"valueQuantity": {"value": 6}},
    ]
    assert table(bundle(entry), value_key_seq="resource.component.valueQuantity.value") == {"HR": {"Patient/1": 5}}


def test_a_last_key_is_found_by_a_part_of_its_name() -> None:
    entry = observation("Patient/1", "HR", 71)
    entry["resource"]["valueDecimal"] = 1.5
    del entry["resource"]["valueQuantity"]
    assert table(bundle(entry), value_key_seq="resource.value") == {"HR": {"Patient/1": 1.5}}


def test_a_path_that_breaks_off_gives_none_and_the_word_none_in_csv() -> None:
    entry = observation(None, "HR", 71)
    assert table(bundle(entry)) == {"HR": {None: 71}}
    assert text(bundle(entry)) == ",HR\nNone,71"


def test_a_later_value_replaces_an_earlier_one() -> None:
    twice = bundle(observation("Patient/1", "HR", 71), observation("Patient/1", "HR", 72))
    assert table(twice) == {"HR": {"Patient/1": 72}}


def test_row_filters_keep_ids_that_contain_one_of_the_texts() -> None:
    assert table(OBSERVED, row_id_filters=["nt/2", "nowhere"]) == {"HR": {"Patient/2": 64.5}}


def test_row_filters_drop_rows_without_an_id() -> None:
    assert table(bundle(observation(None, "HR", 71)), row_id_filters=["Patient"]) == {}


def test_column_filters_keep_ids_that_contain_one_of_the_texts() -> None:
    assert table(OBSERVED, col_id_filters=["B"]) == {"BP": {"Patient/1": 120}}
    assert answers(ANSWERED, col_id_filters=["smok"]) == {"smoker": {"0": False}}


def test_of_both_filters_only_the_row_filters_count_as_on_flame() -> None:
    said: list[str] = []
    got = table(OBSERVED, row_id_filters=["Patient/1"], col_id_filters=["BP"], notice=said.append)
    assert got == {"HR": {"Patient/1": 71}, "BP": {"Patient/1": 120}}
    assert "only the row filters count" in said[0]


def test_row_filters_do_not_filter_answers_as_on_flame() -> None:
    said: list[str] = []
    assert answers(ANSWERED, row_id_filters=["1"], notice=said.append) == answers(ANSWERED)
    assert "rows are not filtered" in said[0]


def test_nothing_kept_gives_an_empty_file() -> None:
    assert text(OBSERVED, row_id_filters=["nowhere"]) == ""
    assert text(OBSERVED, row_id_filters=["nowhere"], row_col_name="id") == "id"


def test_a_bundle_with_no_entries_in_its_list_gives_an_empty_table() -> None:
    assert table(bundle()) == {}


def test_fields_with_separators_quotes_and_line_breaks_are_quoted_unlike_flame() -> None:
    said: list[str] = []
    data = bundle(observation('P "1", a', "HR\n2", "x,y"))
    written = text(data, row_col_name="id", notice=said.append)
    assert list(csv.reader(written.splitlines(keepends=True))) == [["id", "HR\n2"], ['P "1", a', "x,y"]]
    assert "bare and so broken on FLAME" in said[0]


def test_another_separator_leaves_commas_bare() -> None:
    assert text(bundle(observation("P,1", "HR", 1)), separator=";") == ";HR\nP,1;1"


def test_next_links_are_followed_to_the_last_page() -> None:
    pages = {
        "http://x/fhir/b": bundle(observation("Patient/3", "HR", 3), following="http://x/fhir/c"),
        "http://x/fhir/c": bundle(observation("Patient/4", "BP", 4)),
    }
    first = bundle(observation("Patient/2", "HR", 2), following="http://x/fhir/b")
    assert table(first, fetch_next=pages.__getitem__) == {
        "HR": {"Patient/2": 2, "Patient/3": 3},
        "BP": {"Patient/4": 4},
    }


def test_answers_are_numbered_through_all_pages_unlike_flame() -> None:
    said: list[str] = []
    first = {**ANSWERED, "link": [{"relation": "next", "url": "b"}]}
    got = answers(first, fetch_next=lambda url: ANSWERED, notice=said.append)
    assert got["age"] == {"0": 40, "1": 51, "2": 40, "3": 51}
    assert "FLAME numbers each page from 0 again" in said[0]


def test_a_next_link_that_nothing_follows_is_told() -> None:
    said: list[str] = []
    assert table(bundle(observation("P", "HR", 1), following="b"), notice=said.append) == {"HR": {"P": 1}}
    assert "nothing here to follow it with" in said[0]


def test_pages_in_a_circle_are_an_error_not_a_hang() -> None:
    page = bundle(observation("P", "HR", 1), following="b")
    with pytest.raises(ConfigurationError, match="next link of page 2 leads back to 'b'"):
        table(page, fetch_next=lambda url: page)


def test_an_error_of_the_page_fetcher_passes_through() -> None:
    def fails(url: str) -> dict[str, Any]:
        raise OSError("cut off")

    with pytest.raises(OSError, match="cut off"):
        table(bundle(observation("P", "HR", 1), following="b"), fetch_next=fails)


def test_a_page_that_is_no_bundle_is_an_error_that_says_which() -> None:
    page = bundle(observation("P", "HR", 1), following="b")
    with pytest.raises(ConfigurationError, match="page 2 is of type NoneType, a bundle is wanted"):
        table(page, fetch_next=lambda url: None)
    with pytest.raises(ConfigurationError, match="page 2 has no list 'entry'"):
        table(page, fetch_next=lambda url: {"resourceType": "Bundle"})


def test_a_malformed_link_is_an_error_not_the_last_page() -> None:
    with pytest.raises(ConfigurationError, match="page 1 is not a FHIR bundle: its next link has no 'url'"):
        table({**OBSERVED, "link": [{"relation": "next"}]})


def test_a_bundle_without_entry_is_an_error_as_on_flame() -> None:
    with pytest.raises(ConfigurationError, match="page 1 has no list 'entry': an empty search result has none"):
        table({"resourceType": "Bundle", "total": 0})


def test_a_bundle_without_total_or_link_is_told() -> None:
    said: list[str] = []
    assert table({"resourceType": "Bundle", "entry": OBSERVED["entry"]}, notice=said.append) == table(OBSERVED)
    assert [name in sentence for name, sentence in zip(("'total'", "'link'"), said, strict=True)] == [True, True]


def test_nothing_is_told_where_flame_ends_the_same() -> None:
    said: list[str] = []
    text(OBSERVED, notice=said.append)
    answers(ANSWERED, notice=said.append)
    assert said == []


def test_data_with_its_query_or_sources_around_it_is_told_to_be_unpacked() -> None:
    with pytest.raises(ConfigurationError, match=r"give one of the bundles in it, e\.g\. data\[0\]\['Observation'\]"):
        table({"Observation": OBSERVED})
    with pytest.raises(ConfigurationError, match=r"is of type list.*give one bundle of a source"):
        table([{"Observation": OBSERVED}])


def test_a_last_key_that_nothing_matches_is_an_error_that_says_where_as_on_flame() -> None:
    entry = observation("Patient/1", "HR", 71)
    entry["resource"]["valueQuantity"] = {"unit": "bpm"}
    with pytest.raises(ConfigurationError, match=r"no key with 'value' in entry 1 of page 1, which has 'unit' there"):
        table(bundle(OBSERVED["entry"][0], entry))


@pytest.mark.parametrize("resource", [{"resourceType": "QuestionnaireResponse"}, {"item": {}}, None])
def test_a_response_without_items_is_an_error_that_says_which(resource: Any) -> None:
    with pytest.raises(ConfigurationError, match="entry 2 of page 1 has no list 'item'"):
        answers(bundle(*ANSWERED["entry"], {"resource": resource}))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"input_resource": "Patient"}, "input_resource='Patient'"),
        ({"row_key_seq": None}, "row_key_seq=None is given, an Observation needs a path"),
        ({"col_key_seq": ""}, "col_key_seq='' is given, a dotted path is wanted"),
        ({"value_key_seq": 3}, "value_key_seq=3 is given, a dotted path is wanted"),
        ({"output_type": "csv"}, "output_type='csv'"),
        ({"separator": ", "}, "separator=', ' is given, one character is wanted"),
        ({"separator": ""}, "separator='' is given, one character is wanted"),
        ({"row_id_filters": "Patient"}, "row_id_filters='Patient' is given, a list of strings"),
        ({"col_id_filters": [3]}, r"col_id_filters=\[3\] is given, a list of strings"),
        (
            {"col_key_seq": "resource.code"},
            "col_key_seq='resource.code' leads to a value of type dict, a plain value is wanted",
        ),
        ({"row_key_seq": "resource.code.coding"}, "row_key_seq='resource.code.coding' leads to a value of type list"),
        (
            {"row_key_seq": "resource.valueQuantity.value", "row_id_filters": ["7"]},
            "row_key_seq='resource.valueQuantity.value' leads to a value of type int, and a filter needs a string",
        ),
    ],
)
def test_wrong_arguments_are_errors_that_say_what_is_wanted(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        table(OBSERVED, **options)


def test_a_questionnaires_path_needs_a_key_below_the_item() -> None:
    with pytest.raises(ConfigurationError, match=r"col_key_seq='resource.item' is given.*'resource.item.linkId'"):
        answers(ANSWERED, col_key_seq="resource.item")


@pytest.mark.parametrize(
    "link", ["http://x/kong/source/fhir/Observation?page=2", "/Observation?page=2", "Observation?page=2"]
)
def test_held_pages_are_found_by_the_end_of_the_link(link: str) -> None:
    data = [{}, {"Observation?page=2": OBSERVED, "page=2": ANSWERED, "2": ANSWERED}]
    assert held_pages(data)(link) is OBSERVED


def test_of_held_pages_the_longest_query_counts() -> None:
    data = [{"Observation": ANSWERED}, {"site/Observation": OBSERVED}]
    assert held_pages(data)("http://x/fhir/site/Observation") is OBSERVED


def test_a_page_that_is_not_held_is_an_error_that_names_the_link() -> None:
    with pytest.raises(ConfigurationError, match=r"next link 'http://x/fhir/Observation\?page=3' leads to a page that"):
        held_pages([{"Observation": OBSERVED}])("http://x/fhir/Observation?page=3")
