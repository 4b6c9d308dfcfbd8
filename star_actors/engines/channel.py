"""A channel between two processes of one machine: batches of messages over a socket, shared memory passed along."""

from __future__ import annotations

import array
import copyreg
import io
import pickle
import socket
import struct
from collections import deque
from collections.abc import Sequence
from typing import Any

from .parcels import Attachment, Parcel
from .segments import Arrived, Segments
from .wire import Released

__all__ = ["Channel"]

_HEADER = struct.Struct("<QI")
_FDS = 200
"""Descriptors in one batch at most; the kernel passes 253."""
_NOW = getattr(socket, "MSG_DONTWAIT", 0)
_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class Channel:
    """One end. Messages are sent by one thread at a time, and received by one."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.segments = Segments()
        self._let_go: deque[int] = deque()
        self._fds: deque[int] = deque()
        self._target = bytearray(_HEADER.size)
        self._filled = 0
        self._count: int | None = None

    def send(self, messages: Sequence[Any]) -> None:
        """Send a batch; waits while the other end has no room for it. Raises OSError where there is no other end."""
        if self._let_go:
            numbers = [self._let_go.popleft() for _ in range(len(self._let_go))]
            messages = [Released(numbers), *messages]
        self._send(messages)

    def _send(self, messages: Sequence[Any]) -> None:
        payload, memories = _encode(messages)
        if len(memories) > _FDS:  # each message has one at most
            middle = len(messages) // 2
            self._send(messages[:middle])
            self._send(messages[middle:])
            return
        header = _HEADER.pack(len(payload), len(memories))
        if memories:
            for memory in memories:
                self.segments.sent(memory)
            fds = array.array("i", [memory.fd for memory in memories])
            done = self.socket.sendmsg([header, payload], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
            if done < len(header) + len(payload):
                self.socket.sendall(memoryview(header + payload)[done:])
        else:
            self.socket.sendall(header + payload)

    def receive(self, *, wait: bool) -> list[Any] | None:
        """The next batch; None where it is not complete and should not be waited for. Raises EOFError at the end."""
        flags = _CLOEXEC | (0 if wait else _NOW)
        while True:
            while self._filled < len(self._target):
                if not self._fill(flags):
                    return None
            content, self._filled = self._target, 0
            if self._count is None:
                length, self._count = _HEADER.unpack(content)
                self._target = bytearray(length)
                continue
            fds = [self._fds.popleft() for _ in range(self._count)]
            self._target, self._count = bytearray(_HEADER.size), None
            messages: list[Any] = pickle.loads(content, buffers=[Arrived(fd, self._let_go.append) for fd in fds])
            if type(messages[0]) is Released:
                self.segments.release(messages[0].numbers)
                del messages[0]
            if messages:
                return messages

    def _fill(self, flags: int) -> bool:
        room = memoryview(self._target)[self._filled :]
        try:
            size, ancillary, answer, _ = self.socket.recvmsg_into([room], socket.CMSG_SPACE(4 * 253), flags)
        except BlockingIOError:
            return False
        except ConnectionError:
            size, ancillary, answer = 0, [], 0
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                self._fds.extend(array.array("i", data[: len(data) - len(data) % 4]))
        if answer & socket.MSG_CTRUNC:
            raise OSError("shared memory could not be taken over: this process has no file descriptor left")
        if not size:
            raise EOFError
        self._filled += size
        return True

    def end(self) -> None:
        """Tell the other end that nothing more comes."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:  # there is no other end any more
            return

    def close(self) -> None:
        """Close the socket, and whatever was not received."""
        self.socket.close()
        self.segments.close()
        while self._fds:
            Arrived(self._fds.popleft(), self._let_go.append)


def _encode(messages: Sequence[Any]) -> tuple[bytes, list[Attachment]]:
    """A batch, and the memory that goes with it: in the pickle a buffer out of band keeps the place of each."""
    memories: list[Attachment] = []

    def reduced(parcel: Parcel) -> tuple[Any, ...]:
        memory = parcel.memory
        if memory is None:
            return Parcel, (parcel.data, parcel.buffers, None, parcel.nbytes, parcel.type_name)
        memories.append(memory)
        stand_in = pickle.PickleBuffer(bytearray())
        return _arrived, (
            parcel.data,
            parcel.buffers,
            stand_in,
            memory.size,
            memory.number,
            parcel.nbytes,
            parcel.type_name,
        )

    stream = io.BytesIO()
    pickler = pickle.Pickler(stream, protocol=5, buffer_callback=lambda stand_in: None)
    pickler.dispatch_table = {**copyreg.dispatch_table, Parcel: reduced}
    pickler.dump(messages)
    return stream.getvalue(), memories


def _arrived(
    data: bytes, buffers: Sequence[Any], memory: Arrived, size: int, number: int, nbytes: int, type_name: str
) -> Parcel:
    return Parcel(data, buffers, memory.sized(size, number), nbytes, type_name)
