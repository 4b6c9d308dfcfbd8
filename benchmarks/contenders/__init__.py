"""Who is measured: a file each, all by the interface in `base`."""

from __future__ import annotations

from .bare import BareLoop, BareProcesses
from .base import Contender
from .flower import Flower
from .naive_anyio import NaiveAnyio
from .pfl_simulation import Pfl
from .pykka_actors import Pykka
from .ray_actors import Ray
from .star import Star, StarAwaited, StarProcesses, StarSerial, StarThreads
from .vantage6_mock import Vantage6

__all__ = ["CONTENDERS", "Contender"]

CONTENDERS: dict[str, Contender] = {
    contender.name: contender
    for contender in (
        BareLoop(),
        BareProcesses(),
        NaiveAnyio(),
        Pykka(),
        Star(),
        StarAwaited(),
        StarSerial(),
        StarThreads(),
        StarProcesses(),
        Pfl(),
        Vantage6(),
        Ray(),
        Flower(),
    )
}
"""By name, in the order in which tables show them."""
