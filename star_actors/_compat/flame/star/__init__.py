"""The names that the guide imports from `flame.star`."""

from star_actors import StarAggregator, StarAnalyzer, StarLocalDPModel, StarModel, StarModelTester

__all__ = ["StarAggregator", "StarAnalyzer", "StarLocalDPModel", "StarModel", "StarModelTester"]
