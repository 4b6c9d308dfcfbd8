"""Which engine an option object stands for, and what it needs."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from ..options import Auto, Dask, EngineOptions, Processes, Serial, Threads

if TYPE_CHECKING:
    from ..config import RunConfig
    from ..report import Record
    from .hosts import Hosts

__all__ = ["check_extra", "hosts_of", "lanes_of"]


def check_extra(options: EngineOptions) -> None:
    """Raise ConfigurationError where the engine needs a package that is not installed."""
    needs = {Processes: ("processes", ("cloudpickle",)), Dask: ("dask", ("cloudpickle", "distributed"))}
    extra, packages = needs.get(type(options), ("", ()))
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise ConfigurationError(
            f"engine={options!r} is given, which needs {' and '.join(missing)}: pip install 'star-actors[{extra}]'"
        )


def lanes_of(options: EngineOptions) -> Serial | Auto | Threads:
    """Where the code runs that stays in the caller's process."""
    if isinstance(options, Processes | Dask):
        return Auto(max_threads=options.max_threads)
    return options


def hosts_of(config: RunConfig, record: Record) -> Hosts | None:
    """The hosts of a run; None where every node stays in this process."""
    if isinstance(config.engine, Processes):
        from .processes import ProcessHosts

        return ProcessHosts(config, record)
    if isinstance(config.engine, Dask):
        from .dask import DaskHosts

        return DaskHosts(config, record)
    return None
