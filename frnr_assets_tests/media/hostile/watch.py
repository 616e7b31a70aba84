"""Noticing which files of a folder are opened, and who connects to a socket."""

import contextlib
import ctypes
import os
import socket
import struct
import threading
from pathlib import Path

_IN_ACCESS, _IN_OPEN = 0x1, 0x20
_EVENT = struct.Struct("iIII")


class FolderWatch:
    """Tells which files of a folder were opened or read, by any process."""

    def __init__(self, folder: Path):
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0 or libc.inotify_add_watch(self._fd, os.fsencode(folder), _IN_OPEN | _IN_ACCESS) < 0:
            raise OSError(ctypes.get_errno(), "the folder cannot be watched")

    def opened(self) -> set[str]:
        """Return the names of the files since the last call."""
        names = set()
        with contextlib.suppress(BlockingIOError):
            while events := os.read(self._fd, 1 << 16):
                at = 0
                while at < len(events):
                    *_, length = _EVENT.unpack_from(events, at)
                    at += _EVENT.size
                    names.add(events[at : at + length].rstrip(b"\0").decode())
                    at += length
        # What happens to the folder itself has no name.
        return names - {""}

    def close(self) -> None:
        """End the watch."""
        os.close(self._fd)


class Listener:
    """Counts who connects to a socket, and hangs up at once."""

    def __init__(self, listening: socket.socket):
        self._socket = listening
        self._count = 0
        self._last: object = None
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            connection, peer = self._socket.accept()
            connection.close()
            if peer == self._last:
                return
            self._count += 1

    def close(self) -> int:
        """Stop, and return how many have connected: whoever did so before this is accepted before this."""
        with socket.socket(self._socket.family) as client:
            # A UNIX socket gets a name of its own from the kernel, a TCP socket a port.
            client.bind("" if client.family == socket.AF_UNIX else ("127.0.0.1", 0))
            self._last = client.getsockname()
            client.connect(self._socket.getsockname())
            self._thread.join()
        self._socket.close()
        return self._count


class Servers:
    """A TCP server on this machine and a UNIX socket that an attack may point at."""

    def __init__(self, folder: Path):
        self.unix = folder / "socket"
        unix = socket.socket(socket.AF_UNIX)
        unix.bind(str(self.unix))
        unix.listen()
        tcp = socket.create_server(("127.0.0.1", 0))
        self.port: int = tcp.getsockname()[1]
        self._listeners = {"tcp": Listener(tcp), "unix": Listener(unix)}

    def close(self) -> set[str]:
        """Stop, and return which of them anybody has connected to."""
        called = {name for name, listener in self._listeners.items() if listener.close()}
        self._listeners = {}
        return called
