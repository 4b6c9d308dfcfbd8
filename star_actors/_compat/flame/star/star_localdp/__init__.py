"""Where FLAME keeps `StarLocalDPModel`."""

from star_actors import StarLocalDPModel

__all__ = ["StarLocalDPModel"]
