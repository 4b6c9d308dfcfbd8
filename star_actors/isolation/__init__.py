"""What keeps nodes apart: nothing mutable passes by reference from one node to another.

On FLAME every message is pickled, stored and unpickled. Here a message is copied only as far as that makes a
difference: immutable values pass as they are, arrays cost one memcpy, what only its sender owned is moved, a large
broadcast is written once and mapped copy-on-write by each receiver, and the rest is pickled once.
"""

from .broadcast import Broadcast
from .copies import moved, private_copy
from .entry import copy_in
from .kinds import ATOMIC, nbytes_of
from .origin import main_only_class
from .pages import Pages
from .uncopyable import Uncopyable

__all__ = [
    "ATOMIC",
    "Broadcast",
    "Pages",
    "Uncopyable",
    "copy_in",
    "main_only_class",
    "moved",
    "nbytes_of",
    "private_copy",
]
