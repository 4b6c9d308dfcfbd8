"""FLAME's own import path; everything here is star_actors' own object."""
