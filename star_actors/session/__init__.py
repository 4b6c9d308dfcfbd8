"""`self.flame` in a local run: FLAME's method names, answered inside the process."""

from .flame import AioSession, FlameSession, Message

__all__ = ["AioSession", "FlameSession", "Message"]
