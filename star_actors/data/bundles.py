"""What is read off a FHIR resource: whether it is a bundle, its entries, its next page, what an outcome says.

Source: HL7 FHIR R4, Bundle (http://hl7.org/fhir/R4/bundle.html) and OperationOutcome.
"""

from __future__ import annotations

from typing import Any

__all__ = ["entries_of", "is_bundle", "next_url", "outcome_text"]


def is_bundle(value: object) -> bool:
    """Whether `value` is a FHIR bundle as parsed from JSON."""
    return isinstance(value, dict) and value.get("resourceType") == "Bundle"


def entries_of(bundle: dict[str, Any]) -> list[Any]:
    """The entries of `bundle`; an empty search result has none. Raises ValueError where `entry` is not a list."""
    entries = bundle.get("entry", [])
    if not isinstance(entries, list):
        raise ValueError(f"its 'entry' is of type {type(entries).__name__}, a list is wanted")
    return entries


def next_url(bundle: dict[str, Any]) -> str | None:
    """The address in the bundle's `next` link, None on the last page. Raises ValueError for links that are not FHIR."""
    links = bundle.get("link", [])
    if not isinstance(links, list) or not all(isinstance(link, dict) for link in links):
        raise ValueError("its 'link' is not a list of objects with 'relation' and 'url'")
    for link in links:
        if link.get("relation") == "next":
            url = link.get("url")
            if not isinstance(url, str) or not url:
                raise ValueError("its next link has no 'url'")
            return url
    return None


def outcome_text(resource: object) -> str | None:
    """What an OperationOutcome reports, issue after issue; None where `resource` is not one."""
    if not isinstance(resource, dict) or resource.get("resourceType") != "OperationOutcome":
        return None
    issues = resource.get("issue")
    said = [_issue_text(issue) for issue in issues if isinstance(issue, dict)] if isinstance(issues, list) else []
    return "; ".join(said) or "an OperationOutcome without any issue"


def _issue_text(issue: dict[str, Any]) -> str:
    details = issue.get("details")
    text = details.get("text") if isinstance(details, dict) else None
    reasons = [str(reason) for reason in (issue.get("diagnostics"), text) if reason]
    if not reasons:
        reasons = ["no diagnostics"]
    return f"{issue.get('severity', 'issue')} ({issue.get('code', 'no code')}): {', '.join(reasons)}"
