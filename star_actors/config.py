"""The validated description of a run. Whatever can be wrong with a call is found here, before any node starts."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from .engines.choice import check_extra
from .errors import ConfigurationError, WrongTypeError
from .isolation import copy_in
from .nodes import StarAggregator, StarAnalyzer
from .options import (
    ENGINES,
    Auto,
    Checks,
    Dask,
    EngineOptions,
    History,
    Privacy,
    Processes,
    Serial,
    Threads,
    is_number,
    one_of,
)
from .release.delivery import check_paths
from .release.encoding import check_output_type

__all__ = ["NodePlan", "Paths", "RunConfig", "configure"]

Paths = str | os.PathLike[str] | list[str | os.PathLike[str]]
Role = Literal["default", "aggregator"]
OutputType = Literal["str", "bytes", "pickle"] | list[Literal["str", "bytes", "pickle"]]


@dataclass(frozen=True)
class NodePlan:
    """One node to be: its id and role, and the position of its split, None for an aggregator without data."""

    id: str
    role: Role
    split: int | None


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that a run is told, checked and complete."""

    nodes: tuple[NodePlan, ...]
    data_splits: Sequence[Any]
    analyzer: type[StarAnalyzer]
    aggregator: type[StarAggregator]
    data_type: Literal["fhir", "s3"]
    query: str | list[str] | None
    simple_analysis: bool
    output_type: OutputType
    multiple_results: bool
    analyzer_kwargs: Mapping[str, Any]
    aggregator_kwargs: Mapping[str, Any]
    paths: Paths | None
    stream_log_level: int
    max_iterations: int | None
    timeout: float | None
    seed: int | None
    copy_data: bool
    progress: bool | None
    engine: EngineOptions
    privacy: Privacy | None
    checks: Checks
    history: History

    @property
    def analyzers(self) -> list[NodePlan]:
        """The analyzer nodes, in the order of their splits."""
        return [node for node in self.nodes if node.role == "default"]

    @property
    def protects(self) -> bool:
        """Whether some node computes exact values that noise protects, and that are not to be seen."""
        return self.privacy is not None and not self.privacy.keep_exact

    @property
    def withholds(self) -> bool:
        """Whether aggregates are such values, and so appear nowhere."""
        return self.protects and self.privacy is not None and self.privacy.noise_at == "final"

    def data_of(self, node: NodePlan) -> Any:
        """The node's own copy of its split. Raises ConfigurationError for what cannot be copied."""
        if node.split is None:
            return None
        data = self.data_splits[node.split]
        return copy_in(data, what=f"data_splits[{node.split}]") if self.copy_data else data

    def kwargs_of(self, node: NodePlan) -> dict[str, Any]:
        """The node's own copy of the keyword arguments of its class."""
        name = "analyzer_kwargs" if node.role == "default" else "aggregator_kwargs"
        kwargs: Mapping[str, Any] = getattr(self, name)
        if not self.copy_data or not kwargs:
            return dict(kwargs)
        copied: dict[str, Any] = copy_in(dict(kwargs), what=name)
        return copied


def configure(
    data_splits: Sequence[Any],
    analyzer: type[StarAnalyzer],
    aggregator: type[StarAggregator],
    data_type: Literal["fhir", "s3"],
    query: str | list[str] | None = None,
    simple_analysis: bool = True,
    output_type: OutputType = "str",
    analyzer_kwargs: Mapping[str, Any] | None = None,
    aggregator_kwargs: Mapping[str, Any] | None = None,
    epsilon: float | None = None,
    sensitivity: float | None = None,
    result_filepath: Paths | None = None,
    *,
    node_roles: Sequence[str] | None = None,
    multiple_results: bool = False,
    filename: Paths | None = None,
    stream_log_level: int = 10,
    max_iterations: int | None = 10_000,
    timeout: float | None = None,
    seed: int | None = None,
    copy_data: bool = True,
    progress: bool | None = None,
    engine: str | EngineOptions = "auto",
    privacy: Privacy | None = None,
    checks: Checks | None = None,
    history: History | None = None,
) -> RunConfig:
    """Check every argument of a run. Raises ConfigurationError: what was given, what is wanted, what to do."""
    _check_splits(data_splits)
    _check_class("analyzer", analyzer, StarAnalyzer, ("analysis_method",))
    _check_class(
        "aggregator",
        aggregator,
        StarAggregator,
        ("aggregation_method",) if simple_analysis is True else ("aggregation_method", "has_converged"),
    )
    one_of("data_type", data_type, ("fhir", "s3"))
    if not (query is None or isinstance(query, str) or _all_str(query)):
        raise ConfigurationError(f"query={query!r} is given, a str or a list of str is wanted")
    for name, flag in (
        ("simple_analysis", simple_analysis),
        ("multiple_results", multiple_results),
        ("copy_data", copy_data),
    ):
        one_of(name, flag, (True, False))
    one_of("progress", progress, (None, True, False))
    if isinstance(stream_log_level, bool) or not isinstance(stream_log_level, int):
        raise ConfigurationError(f"stream_log_level={stream_log_level!r} is given, a level is wanted, e.g. 10")
    if max_iterations is not None and (
        isinstance(max_iterations, bool) or not isinstance(max_iterations, int) or max_iterations < 1
    ):
        raise ConfigurationError(
            f"max_iterations={max_iterations!r} is given, a whole number from 1, or None for no cap, is wanted"
        )
    if timeout is not None and not (is_number(timeout) and timeout > 0):
        raise ConfigurationError(f"timeout={timeout!r} is given, seconds above 0, or None, are wanted")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise ConfigurationError(f"seed={seed!r} is given, a whole number or None is wanted")
    nodes = _plan(len(data_splits), node_roles)
    if filename is not None and result_filepath is not None:
        raise ConfigurationError("result_filepath and filename are both given: they are two names for one, give one")
    paths = result_filepath if filename is None else filename
    check_output_type(output_type, multiple_results)
    if paths is not None:
        check_paths(paths, multiple_results=multiple_results)
    options = _options("privacy", privacy, Privacy) or _shorthand(epsilon, sensitivity)
    if privacy is not None and (epsilon is not None or sensitivity is not None):
        raise ConfigurationError(
            "privacy=Privacy(...) and epsilon/sensitivity are both given: they say the same, give one of them"
        )
    if options is not None and options.noise_at == "analyzer":
        for node in nodes:
            if node.role == "aggregator" and node.split is not None:
                raise ConfigurationError(
                    f'node_roles makes {node.id}, which has data of its own, the aggregator, with noise_at="analyzer", '
                    'which adds noise to what analyzers send only: use noise_at="final" or "broadcast", or give the '
                    "aggregator no split"
                )
    kinds = output_type if isinstance(output_type, list) else [output_type]
    if options is not None and "bytes" in kinds:
        raise ConfigurationError(
            f"output_type={output_type!r} is given with privacy: bytes cannot be noised, so 'str' or 'pickle' is wanted"
        )
    return RunConfig(
        nodes=nodes,
        data_splits=data_splits,
        analyzer=analyzer,
        aggregator=aggregator,
        data_type=data_type,
        query=query,
        simple_analysis=simple_analysis,
        output_type=output_type,
        multiple_results=multiple_results,
        analyzer_kwargs=_check_kwargs("analyzer_kwargs", analyzer_kwargs, analyzer),
        aggregator_kwargs=_check_kwargs("aggregator_kwargs", aggregator_kwargs, aggregator),
        paths=paths,
        stream_log_level=stream_log_level,
        max_iterations=max_iterations,
        timeout=timeout,
        seed=seed,
        copy_data=copy_data,
        progress=progress,
        engine=_engine(engine),
        privacy=options,
        checks=_options("checks", checks, Checks) or Checks(),
        history=_options("history", history, History) or History(),
    )


_CALLS = {
    "analysis_method": ("data", "aggregator_results"),
    "aggregation_method": ("analysis_results",),
    "has_converged": ("result", "last_result"),
}
"""What the methods are called with."""


def _check_splits(data_splits: object) -> None:
    if not isinstance(data_splits, list | tuple):
        table = type(data_splits).__name__ == "DataFrame"
        raise ConfigurationError(
            f"data_splits of type {type(data_splits).__name__} is given, a list with one element per analyzer node is "
            "wanted: data_splits=[node1_data, node2_data]"
            + (", or data_splits=star_actors.data.split(table, n=3)" if table else "")
        )
    if not data_splits:
        raise ConfigurationError("data_splits is empty, a list with one element per analyzer node is wanted")


def _check_class(name: str, given: object, base: type, methods: tuple[str, ...]) -> None:
    if not isinstance(given, type):
        if isinstance(given, base):
            own = type(given).__name__
            raise WrongTypeError(
                f"{name}={own}(...), an instance, is given, and the class itself is wanted: {name}={own}; the nodes "
                "make their own instances"
            )
        raise WrongTypeError(
            f"{name}={given!r} is given, a subclass of {base.__name__} is wanted: class My(...({base.__name__})): ..."
        )
    if not issubclass(given, base):
        raise ConfigurationError(f"{name}={given.__name__} is given, which {_no_subclass(given, base)}")
    for method in methods:
        if getattr(given, method) is getattr(base, method):
            raise ConfigurationError(
                f"{name}={given.__name__} has no {method}{_near(given, base, method)}: write one, the run needs it"
            )
        _check_signature(name, given, method)


def _no_subclass(given: type, base: type) -> str:
    if issubclass(given, StarAnalyzer | StarAggregator):
        other = StarAggregator if base is StarAnalyzer else StarAnalyzer
        return f"is a {other.__name__}, and a {base.__name__} is wanted: are the two classes the wrong way round?"
    for cls in given.__mro__:
        if cls.__name__ == base.__name__:
            return (
                f"has another {base.__name__} for a base, that of {cls.__module__}: write from star_actors import "
                f"{base.__name__} below whatever else has that name, and define {given.__name__} again"
            )
    return f"is no subclass of {base.__name__}: write class {given.__name__}({base.__name__})"


def _near(given: type, base: type, method: str) -> str:
    """The class's own name that was likely meant for a method, in brackets."""
    import difflib

    own = [name for name in dir(given) if not hasattr(base, name)]
    return "".join(f" (but it has {name})" for name in difflib.get_close_matches(method, own, 1, 0.75))


def _check_signature(name: str, cls: type, method: str) -> None:
    """Raise ConfigurationError for a plain method that cannot be called as it will be."""
    if not inspect.isfunction(inspect.getattr_static(cls, method)):
        return
    wanted = ("self", *_CALLS[method])
    signature = inspect.signature(getattr(cls, method))
    try:
        signature.bind(*wanted)
    except TypeError as error:
        raise ConfigurationError(
            f"{name}={cls.__name__} has {method}{signature}, and {method}({', '.join(wanted)}) is wanted: {error}"
        ) from None


def _check_kwargs(name: str, kwargs: Mapping[str, Any] | None, cls: type) -> Mapping[str, Any]:
    if kwargs is None:
        kwargs = {}
    if not isinstance(kwargs, Mapping) or not _all_str(list(kwargs)):
        raise ConfigurationError(f"{name}={kwargs!r} is given, a dict with names as keys is wanted")
    if "flame" in kwargs:
        raise ConfigurationError(f"{name} has the key 'flame', which the node sets itself: leave it out")
    try:
        signature = inspect.signature(cls)
    except (TypeError, ValueError):  # a constructor without a signature says for itself what it does not take
        return kwargs
    try:
        signature.bind(flame=None, **kwargs)
    except TypeError as error:
        raise ConfigurationError(
            f"{cls.__name__} is made as {cls.__name__}(flame=..., **{name}), and cannot be: {error}; "
            f"given are {sorted(kwargs)}, its constructor takes {signature}"
        ) from error
    return kwargs


def _plan(splits: int, roles: Sequence[str] | None) -> tuple[NodePlan, ...]:
    if roles is None:
        roles = ["default"] * splits
    if not isinstance(roles, list | tuple) or len(roles) != splits:
        given = f"{len(roles)} roles" if isinstance(roles, list | tuple) else repr(roles)
        raise ConfigurationError(f"node_roles: {given} are given, one role for each of {splits} splits is wanted")
    for i, role in enumerate(roles):
        one_of(f"node_roles[{i}]", role, ("default", "aggregator"))
    if roles.count("aggregator") > 1:
        raise ConfigurationError(f"node_roles={list(roles)!r} has more than one aggregator, one is wanted")
    if "default" not in roles:
        raise ConfigurationError(f"node_roles={list(roles)!r} has no analyzer: at least one 'default' is wanted")
    nodes = [NodePlan(f"node_{i}", cast(Role, role), i) for i, role in enumerate(roles)]
    if "aggregator" not in roles:
        nodes.append(NodePlan(f"node_{splits}", "aggregator", None))
    return tuple(nodes)


def _shorthand(epsilon: float | None, sensitivity: float | None) -> Privacy | None:
    if epsilon is None and sensitivity is None:
        return None
    if epsilon is None or sensitivity is None:
        given, missing = ("sensitivity", "epsilon") if epsilon is None else ("epsilon", "sensitivity")
        raise ConfigurationError(
            f"{given} is given without {missing}: noise needs both, and without noise leave both out"
        )
    return Privacy(epsilon=epsilon, sensitivity=sensitivity)


def _engine(engine: object) -> EngineOptions:
    if isinstance(engine, str) and engine in ENGINES:
        engine = ENGINES[engine]()
    if isinstance(engine, Auto | Serial | Threads | Processes | Dask):
        check_extra(engine)
        return engine
    names = ", ".join(repr(name) for name in ENGINES)
    raise ConfigurationError(f"engine={engine!r} is given, one of {names}, Processes(...) or Dask(...) is wanted")


def _options(name: str, given: Any, wanted: type) -> Any:
    if given is not None and not isinstance(given, wanted):
        raise ConfigurationError(f"{name}={given!r} is given, {wanted.__name__}(...) is wanted")
    return given


def _all_str(names: object) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) for name in names)
