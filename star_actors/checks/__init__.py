"""What looks at a run while it runs, and makes findings: will it run on FLAME, and what do its messages give away?

The checks run in the first two rounds and not in later ones, where a round costs a few microseconds a node.
"""

from .node import Lookout, NodeChecks
from .plan import CheckPlan, plan_of
from .run import SecretWatch, look_at_classes, look_at_result, look_at_shape, strict_error

__all__ = [
    "CheckPlan",
    "Lookout",
    "NodeChecks",
    "SecretWatch",
    "look_at_classes",
    "look_at_result",
    "look_at_shape",
    "plan_of",
    "strict_error",
]
