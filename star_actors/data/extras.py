"""Loading the libraries that come with an extra of this package, on use."""

from __future__ import annotations

import importlib
from typing import Any

from star_actors.errors import ConfigurationError

__all__ = ["load_extra"]


def load_extra(module: str, extra: str, wanted_for: str) -> Any:
    """Import `module`, or raise ConfigurationError that names the extra which brings it.

    A module that is installed but fails while it is imported raises its own error.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise ConfigurationError(
            f"{wanted_for} needs {module}, which is not installed: pip install 'star-actors[{extra}]'"
        ) from error
