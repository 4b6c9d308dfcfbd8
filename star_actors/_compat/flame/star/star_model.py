"""Where FLAME keeps `StarModel`."""

from star_actors import StarModel

__all__ = ["StarModel"]
