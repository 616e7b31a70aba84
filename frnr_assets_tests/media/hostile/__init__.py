"""Uploads that attack whoever opens them, made from bytes and from small clips."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Bait:
    """What an attack points at.

    Attributes:
        file: name of a video in the same folder.
        url: address of a listening server.
        unix: path of a listening socket.
    """

    file: str
    url: str
    unix: str
