"""A node's data sources, answered from its split."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from ..isolation import private_copy

if TYPE_CHECKING:
    import httpx

    from ..engines.seats import Seat

__all__ = ["Sources"]


class Sources:
    """FLAME gives a node one dict per source: {name: bytes} from S3, {query: bundle} from FHIR. A split of that shape
    answers like those; any other is handed over as it is. `asked` says that user code has asked for data."""

    def __init__(self, seat: Seat, data_type: str) -> None:
        self._seat = seat
        self._data_type = data_type
        self.asked = False

    def s3(self, keys: list[str] | None) -> Any:
        """Per source {name: bytes}, the names asked for, or all."""
        return self._select("s3", keys)

    def fhir(self, queries: list[str] | None) -> Any:
        """Per source {query: bundle}, the queries asked for, or all."""
        return self._select("fhir", queries)

    def describe(self) -> list[dict[str, Any]]:
        """One dict per source, with FLAME's keys."""
        count = len(self._seat.data) if self._shaped() else 1
        return [
            {"id": f"source_{i}", "name": f"source_{i}", "paths": [f"http://source_{i}"], "type": self._data_type}
            for i in range(count)
        ]

    def client(self, data_id: str) -> httpx.AsyncClient:
        """An HTTP client whose server is one source of the split: GET a name for its content, GET / for the names."""
        try:
            import httpx
        except ImportError as error:
            raise ImportError("get_data_client needs httpx: pip install 'star-actors[fhir]'") from error
        self.asked = True
        ids = [source["id"] for source in self.describe()]
        if data_id not in ids:
            raise ValueError(f"data_id={data_id!r} is given, this node has {ids}")
        if not self._shaped():
            raise ValueError(
                "get_data_client needs a split in FLAME's shape, a list of one dict per source; "
                f"this node's is a {type(self._seat.data).__name__}"
            )
        source: dict[str, Any] = self._seat.data[ids.index(data_id)]

        def answer(request: httpx.Request) -> httpx.Response:
            path = unquote(request.url.raw_path.decode("ascii")).strip("/")
            if path in source:
                content = source[path]
                if isinstance(content, bytes):
                    return httpx.Response(200, content=content)
                return httpx.Response(200, json=content)
            if not path:
                names = "".join(f"<Contents><Key>{name}</Key></Contents>" for name in source)
                return httpx.Response(200, text=f"<ListBucketResult>{names}</ListBucketResult>")
            return httpx.Response(404, text=json.dumps({"error": f"{path!r} is not in this source"}))

        return httpx.AsyncClient(base_url=f"http://{data_id}", transport=httpx.MockTransport(answer))

    def next_page(self, url: str) -> dict[str, Any]:
        """The bundle that a `next` link leads to, out of this node's split."""
        from ..data.fhir_table import held_pages

        return held_pages(self._seat.data if self._shaped() else [])(url)

    def _select(self, kind: str, names: list[str] | None) -> Any:
        self.asked = True
        if kind != self._data_type and not self._shaped():
            raise ValueError(f"the run was started with data_type={self._data_type!r}: this node has no {kind} data")
        if names is None:
            return None
        data = self._seat.data
        if not self._shaped():
            return data
        if kind != self._data_type:
            return [{} for _ in data]
        # A fresh copy for each call, as each call on FLAME fetches anew; bytes need none.
        return [
            {name: private_copy(content)[0] for name, content in source.items() if not names or name in names}
            for source in data
        ]

    def _shaped(self) -> bool:
        data = self._seat.data
        return isinstance(data, list) and bool(data) and all(isinstance(source, dict) for source in data)
