"""What a node keeps: intermediate data, its own ("local", with tags) and what others addressed to it ("global")."""

from __future__ import annotations

import json
import os
import pickle
import re
import uuid
from pathlib import Path
from typing import Any

__all__ = ["LocalStore", "check_tag"]

_TAG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def check_tag(tag: str) -> None:
    """Raise ValueError for a tag that FLAME would refuse."""
    if not isinstance(tag, str) or not _TAG.fullmatch(tag):
        raise ValueError(f"tag={tag!r} is given, lower-case letters, digits and hyphens are wanted, e.g. 'run-1'")


class LocalStore:
    """One node's own store, in order of saving. With a `folder` it outlives the run; each object is one pickle file,
    and `index.json`, which is replaced as a whole, names them."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._index: list[tuple[str, str | None]] = []
        self._objects: dict[str, bytes] = {}
        if folder is not None and (folder / "index.json").exists():
            self._index = [(id, tag) for id, tag in json.loads((folder / "index.json").read_text("utf-8"))]

    @classmethod
    def of(cls, storage_dir: str | os.PathLike[str] | None, node_id: str) -> LocalStore:
        """The store of one node; None: for the run only."""
        # Absolute, since user code may change the working directory.
        return cls(None if storage_dir is None else Path(storage_dir).absolute() / node_id)

    def save(self, data: Any, tag: str | None) -> str:
        """Keep a copy; gives its id. Raises what pickle raises."""
        if tag is not None:
            check_tag(tag)
        id = str(uuid.uuid4())
        content = pickle.dumps(data)
        if self._folder is None:
            self._objects[id] = content
        else:
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / f"{id}.pkl").write_bytes(content)
        self._index.append((id, tag))
        if self._folder is not None:
            fresh = self._folder / "index.json.new"
            fresh.write_text(json.dumps(self._index), "utf-8")
            fresh.replace(self._folder / "index.json")
        return id

    def load(self, id: str) -> Any:
        """A fresh copy of one object. Raises KeyError for an unknown id."""
        if id not in {known for known, _ in self._index}:
            raise KeyError(f"no local data with id {id!r} at this node")
        if self._folder is None:
            return pickle.loads(self._objects[id])
        return pickle.loads((self._folder / f"{id}.pkl").read_bytes())

    def tagged(self, tag: str) -> list[str]:
        """The ids saved under a tag, oldest first."""
        return [id for id, known in self._index if known == tag]

    def tags(self, containing: str | None) -> list[str]:
        """Every tag in use, in order of first use; only those that contain a text, where one is given."""
        tags = dict.fromkeys(tag for _, tag in self._index if tag is not None)
        return [tag for tag in tags if containing is None or containing in tag]
