"""Asking name servers, and being one, inside network namespaces."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

from helpers.hosts import inside

TYPES = {"A": 1, "PTR": 12, "AAAA": 28}


def resolve(
    netns: str, server: str, name: str, kind: str = "A", *, source: str = "", timeout: float = 2
) -> list[str] | None:
    """The addresses (or names) a server gives; empty when it knows none, None without an answer."""
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    labels = b"".join(bytes((len(part),)) + part.encode() for part in name.split("."))
    question = struct.pack(">6H", 7, 0x100, 1, 0, 0, 0) + labels + b"\0"
    question += struct.pack(">HH", TYPES[kind], 1)
    try:
        with inside(netns, lambda: socket.socket(family, socket.SOCK_DGRAM)) as asker:
            asker.settimeout(timeout)
            if source:
                asker.bind((source, 0))
            asker.connect((server, 53))
            asker.send(question)
            return _read_answers(asker.recv(4096), len(question))
    except OSError:
        return None


def _read_answers(data: bytes, at: int) -> list[str]:
    count = struct.unpack(">H", data[6:8])[0]
    found = []
    for _ in range(count):
        at = _skip_name(data, at)
        kind, _, _, size = struct.unpack(">HHIH", data[at : at + 10])
        body = data[at + 10 : at + 10 + size]
        if kind == TYPES["A"]:
            found.append(socket.inet_ntop(socket.AF_INET, body))
        elif kind == TYPES["AAAA"]:
            found.append(socket.inet_ntop(socket.AF_INET6, body))
        else:
            found.append(_read_name(data, at + 10))
        at += 10 + size
    return sorted(found)


def _skip_name(data: bytes, at: int) -> int:
    while data[at]:
        if data[at] >= 0xC0:
            return at + 2
        at += data[at] + 1
    return at + 1


def _read_name(data: bytes, at: int) -> str:
    parts = []
    while data[at]:
        if data[at] >= 0xC0:
            at = struct.unpack(">H", data[at : at + 2])[0] & 0x3FFF
            continue
        parts.append(data[at + 1 : at + 1 + data[at]].decode())
        at += data[at] + 1
    return ".".join(parts)


class NameServer:
    """A name server of the outer world: every name has one address, or none with ``""``."""

    def __init__(self, netns: str, address: str, answer: str) -> None:
        self._answer = socket.inet_aton(answer) if answer else b""
        self.asked: list[str] = []
        self._socket = inside(netns, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        inside(netns, lambda: self._socket.bind((address, 53)))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                data, peer = self._socket.recvfrom(4096)
                if not peer:
                    return
                self.asked.append(_read_name(data, 12))
                end = _skip_name(data, 12) + 4
                if not self._answer:
                    self._socket.sendto(data[:2] + b"\x81\x83\0\1" + b"\0" * 6 + data[12:end], peer)
                    continue
                head = data[:2] + b"\x81\x80\0\1\0\1\0\0\0\0"
                record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + self._answer
                self._socket.sendto(head + data[12:end] + record, peer)

    def close(self) -> None:
        """Stop answering."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(2)

    def __enter__(self) -> NameServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
