"""Benchmarks of star_actors beside its peers; run by `python -m benchmarks`, see `python -m benchmarks --help`."""
