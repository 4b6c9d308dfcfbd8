import pytest

from star_actors.data.bundles import entries_of, is_bundle, next_url, outcome_text


def test_a_bundle_is_known_by_its_resource_type() -> None:
    assert is_bundle({"resourceType": "Bundle"})
    assert not is_bundle({"resourceType": "Patient"})
    assert not is_bundle([{"resourceType": "Bundle"}])


def test_a_bundle_without_entry_has_no_entries() -> None:
    assert entries_of({"resourceType": "Bundle", "total": 0}) == []


def test_entries_that_are_no_list_are_an_error() -> None:
    with pytest.raises(ValueError, match="'entry' is of type dict"):
        entries_of({"entry": {}})


def test_the_next_link_is_found_among_others() -> None:
    links = [{"relation": "self", "url": "a"}, {"relation": "next", "url": "b"}]
    assert next_url({"link": links}) == "b"


def test_the_last_page_has_no_next_link() -> None:
    assert next_url({"link": [{"relation": "self", "url": "a"}]}) is None
    assert next_url({}) is None


@pytest.mark.parametrize("link", [{"relation": "next"}, ["next"], [{"relation": "next"}], None])
def test_a_malformed_link_is_an_error_not_the_last_page(link: object) -> None:
    with pytest.raises(ValueError, match="link"):
        next_url({"link": link})


def test_an_outcome_tells_severity_code_diagnostics_and_details() -> None:
    issues = [
        {"severity": "error", "code": "invalid", "diagnostics": "Unknown parameter 'colour'"},
        {"severity": "warning", "code": "informational", "details": {"text": "slow"}},
    ]
    assert outcome_text({"resourceType": "OperationOutcome", "issue": issues}) == (
        "error (invalid): Unknown parameter 'colour'; warning (informational): slow"
    )


@pytest.mark.parametrize("issue", [None, [], "x", [3]])
def test_an_outcome_without_issues_is_still_an_outcome(issue: object) -> None:
    assert outcome_text({"resourceType": "OperationOutcome", "issue": issue}) == (
        "an OperationOutcome without any issue"
    )


def test_another_resource_is_no_outcome() -> None:
    assert outcome_text({"resourceType": "Bundle"}) is None
    assert outcome_text(None) is None
