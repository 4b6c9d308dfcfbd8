"""Bad input: a clear error before any node starts."""

from __future__ import annotations

from typing import Any

import pytest
from analyses import Average, LocalMean

from star_actors import ConfigurationError, Privacy, StarAggregator, StarAnalyzer
from star_actors.config import configure

GOOD: dict[str, Any] = {"data_splits": [[1.0]], "analyzer": LocalMean, "aggregator": Average, "data_type": "s3"}


class NoMethod(StarAnalyzer):
    pass


class NoConvergence(StarAggregator):
    def aggregation_method(self, analysis_results: list[Any]) -> Any:
        return 1


class Picky(LocalMean):
    def __init__(self, flame: Any, rate: float) -> None:
        super().__init__(flame)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"data_splits": []}, "data_splits is empty"),
        ({"data_splits": "abc"}, "a list with one element per analyzer node is wanted"),
        ({"analyzer": int}, "no subclass of StarAnalyzer"),
        ({"analyzer": NoMethod}, "has no analysis_method"),
        ({"aggregator": NoConvergence, "simple_analysis": False}, "has no has_converged"),
        ({"analyzer": Picky}, "rate"),
        ({"analyzer_kwargs": {"nope": 1}}, "nope"),
        ({"analyzer_kwargs": {"flame": 1}}, "leave it out"),
        ({"data_type": "csv"}, "'fhir' or 's3' is wanted"),
        ({"query": 3}, "query=3 is given"),
        ({"output_type": "json"}, "json"),
        ({"node_roles": ["default", "default"]}, "1 splits is wanted"),
        ({"data_splits": [1, 2], "node_roles": ["default", "boss"]}, r"node_roles\[1\]='boss'"),
        ({"data_splits": [1, 2], "node_roles": ["aggregator", "aggregator"]}, "one is wanted"),
        ({"node_roles": ["aggregator"]}, "at least one 'default'"),
        ({"epsilon": 1.0}, "without sensitivity"),
        ({"sensitivity": 1.0}, "without epsilon"),
        ({"epsilon": 0.0, "sensitivity": 1.0}, "above 0"),
        ({"epsilon": float("inf"), "sensitivity": 1.0}, "finite"),
        ({"epsilon": True, "sensitivity": 1.0}, "epsilon=True"),
        ({"epsilon": 1.0, "sensitivity": 1.0, "output_type": "bytes"}, "bytes cannot be noised"),
        ({"epsilon": 1.0, "sensitivity": 1.0, "privacy": Privacy(epsilon=1, sensitivity=1)}, "give one of them"),
        ({"result_filepath": "a", "filename": "b"}, "give one"),
        ({"max_iterations": 0}, "max_iterations=0"),
        ({"timeout": -1}, "timeout=-1"),
        ({"seed": 1.5}, "seed=1.5"),
        ({"engine": "gpu"}, "engine='gpu'"),
        ({"checks": {}}, r"Checks\(\.\.\.\) is wanted"),
        ({"history": 5}, r"History\(\.\.\.\) is wanted"),
        ({"progress": "yes"}, "progress='yes'"),
    ],
)
def test_a_wrong_argument_is_refused_in_words(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        configure(**{**GOOD, **wrong})


@pytest.mark.parametrize(("name", "cls"), [("analyzer", LocalMean), ("aggregator", Average)])
def test_an_instance_where_a_class_is_wanted_is_a_type_error_too(name: str, cls: type) -> None:
    with pytest.raises(TypeError, match="the class itself is wanted") as caught:
        configure(**{**GOOD, name: object.__new__(cls)})
    assert isinstance(caught.value, ConfigurationError)
    assert isinstance(caught.value, ValueError)
