"""Connections go to the front with the fewest."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from being.api.placement import REPORT, Placement
from being.api.readiness import bound_socket


class Taker:
    """A front's end that takes connections by hand."""

    def __init__(self, placement: Placement):
        self.door = placement.new_door()
        self.door.settimeout(5)
        self.held: list[socket.socket] = []
        self.taken = 0

    def report(self) -> None:
        self.door.sendall(REPORT.pack(self.taken, len(self.held)))

    def take_all(self) -> None:
        """Take what has come."""
        self.door.setblocking(False)
        while True:
            try:
                content, descriptors, _, _ = socket.recv_fds(self.door, 1, 1)
            except BlockingIOError:
                return
            assert content and len(descriptors) == 1
            self.held.append(socket.socket(fileno=descriptors[0]))
            self.taken += 1


@pytest.fixture
def port() -> Iterator[tuple[Placement, int]]:
    with bound_socket("127.0.0.1", 0) as listener:
        listener.listen(64)
        placement = Placement(listener)
        yield placement, listener.getsockname()[1]
        placement.close()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def connect(port: int, takers: list[Taker], count: int) -> list[socket.socket]:
    """Open connections, until all of them have been passed to a front."""
    before = sum(taker.taken for taker in takers)
    clients = [socket.create_connection(("127.0.0.1", port), 5) for _ in range(count)]

    def passed() -> bool:
        for taker in takers:
            taker.take_all()
        return sum(taker.taken for taker in takers) == before + count

    until(passed)
    return clients


def test_forty_connections_spread_evenly_also_after_some_have_left(
    port: tuple[Placement, int],
) -> None:
    placement, number = port
    takers = [Taker(placement) for _ in range(4)]
    for taker in takers:
        taker.report()
    time.sleep(0.1)
    # No front reports while they come: those that are under way count.
    connect(number, takers, 40)
    assert [len(taker.held) for taker in takers] == [10] * 4

    # All but one of the first front's leave, and three of the second's.
    for taker, kept in zip(takers, (1, 7, 10, 10), strict=True):
        for held in taker.held[kept:]:
            held.close()
        del taker.held[kept:]
        taker.report()
    connect(number, takers, 12)
    assert sorted(len(taker.held) for taker in takers) == [10] * 4
    connect(number, takers, 6)
    assert Counter(len(taker.held) for taker in takers) == {11: 2, 12: 2}


def test_connections_wait_until_a_front_serves_and_none_goes_to_one_that_has_ended(
    port: tuple[Placement, int],
) -> None:
    placement, number = port
    first, second = Taker(placement), Taker(placement)
    client = socket.create_connection(("127.0.0.1", number), 5)
    time.sleep(0.1)
    first.take_all()
    assert not first.held  # no front has said that it serves
    first.report()
    second.report()
    until(lambda: bool((first.take_all(), second.take_all(), first.held or second.held)[-1]))
    first.door.close()
    connect(number, [second], 9)
    second.door.close()

    # Both have ended: connections wait for the next front.
    time.sleep(0.1)
    later = socket.create_connection(("127.0.0.1", number), 5)
    third = Taker(placement)
    third.report()
    until(lambda: bool((third.take_all(), third.held)[-1]))
    third.held[0].sendall(b"hello")
    assert later.recv(5) == b"hello"
    client.close()
