"""The names that the guide imports from `flame.star`, loaded when they are first used."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from star_actors import StarAggregator, StarAnalyzer, StarLocalDPModel, StarModel, StarModelTester

__all__ = ["StarAggregator", "StarAnalyzer", "StarLocalDPModel", "StarModel", "StarModelTester"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import star_actors

    return getattr(star_actors, name)
