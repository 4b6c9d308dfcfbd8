"""What goes wrong between a data source and this machine, in one small tree under StarError.

DataError           a data source could not be read whole; nothing of it was handed over
  S3Error           a bucket, a listing or an object
  FhirError         a page of a FHIR search, with the pages read before it
"""

from __future__ import annotations

from typing import Any

from star_actors.errors import StarError

__all__ = ["DataError", "FhirError", "S3Error"]


class DataError(StarError):
    """A data source could not be read whole. No split is handed over, so none is short of anything."""


class S3Error(DataError):
    """A bucket could not be listed or an object not be read: `bucket`, and `key` (None while listing)."""

    def __init__(self, message: str, *, bucket: str = "", key: str | None = None) -> None:
        super().__init__(message)
        self.bucket = bucket
        self.key = key


class FhirError(DataError):
    """A page of a FHIR search could not be read.

    `base_url` and `query` say of what, `page` counts from 1, `status` is the HTTP status (None where there was no
    answer). `partial` is the bundle merged from the pages before it, None on page 1.
    """

    def __init__(
        self,
        message: str,
        *,
        base_url: str = "",
        query: str = "",
        page: int = 1,
        status: int | None = None,
        partial: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.base_url = base_url
        self.query = query
        self.page = page
        self.status = status
        self.partial = partial
