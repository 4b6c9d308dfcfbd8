"""A star on FLAME: the tester's actor loops over FLAME's own SDK.

    model -> node -> exchange -> link -> sdk

`model` has the public classes, `node` a node's life, `exchange` what the actor loops speak, `link` the letters between
nodes, `sdk` FLAME's SDK. Nothing here imports the SDK before it is used.
"""

from .model import AsyncStarLocalDPModel, AsyncStarModel, StarLocalDPModel, StarModel
from .node import NodeRun

__all__ = ["AsyncStarLocalDPModel", "AsyncStarModel", "NodeRun", "StarLocalDPModel", "StarModel"]
