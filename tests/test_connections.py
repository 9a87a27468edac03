"""Which connection an event belongs to: told by the ports of TCP, and never by the order."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.connections import Connections, main_of, parts_of, strangers_of
from labkit.events import ClientStranger, Event, make
from labkit.timeline import Timeline

WIRE, SERVER = 8000, 9000


def client(number: int, kind: str = "connect", **data: Any) -> Event:
    return make("client", kind, "", data, numbers={"connection": number})


def served(number: int, kind: str = "end", **data: Any) -> Event:
    ending = {"ending": "returned", "exception": None, "close_code": None, "call": number}
    return make("handler", kind, "", data or ending, numbers={"served": number})


def start(number: int) -> Event:
    return served(number, "start", handler="h", stack="s", library="l 1", given="G", call=number)


def dials(number: int, port: int) -> Event:
    """A client of the lab is connected, from this port."""
    return client(number, "tcp", ports=[port, WIRE])


def link(number: int, port: int) -> Event:
    """The wire accepts a client, from this port."""
    return make("wire", "link", "", {"link": number, "ports": [port, WIRE]})


def onward(number: int, port: int) -> Event:
    """The wire connects to the server, from this port."""
    return make("wire", "tcp", "", {"link": number, "ports": [port, SERVER]})


def accepted(number: int, port: int) -> Event:
    """The server accepts a connection, from this port."""
    return make("library", "tcp", "", {"ports": [port, SERVER]}, numbers={"served": number})


def closed(number: int) -> Event:
    return make("wire", "closed", "link closed", {"link": number})


def numbered(*events: Event) -> Timeline:
    """A timeline of these events, each named."""
    timeline = Timeline()
    for event in events:
        timeline.append(event)
    Connections(timeline).finish()
    return timeline


def numbers(timeline: Timeline) -> list[int | None]:
    return [event.connection for event in timeline.recorded() if not isinstance(event, ClientStranger)]


PATH = (client(1), dials(1, 50), link(0, 50), onward(0, 60), accepted(1, 60), start(1), served(1), closed(0))


@pytest.mark.parametrize(
    "order",
    [
        (0, 1, 2, 3, 4, 5, 6, 7),
        (0, 2, 1, 3, 4, 5, 6, 7),  # the wire is quicker than the client
        (0, 2, 1, 4, 3, 5, 6, 7),  # and the server quicker than the wire
        (0, 4, 3, 2, 1, 5, 6, 7),
    ],
)
def test_the_ports_relate_a_client_a_link_and_a_handler(order: tuple[int, ...]) -> None:
    """In whatever order the ends of the connection are told."""
    events = [
        make(e.lane, e.kind, e.text, e.data, numbers={"connection": e.connection, "served": e.served}) for e in PATH
    ]
    assert numbers(numbered(*(events[index] for index in order))) == [1] * 8


def test_a_client_in_a_process_of_its_own_is_told_late() -> None:
    """Its events come with the time at which they happened, perhaps when the wire has already closed the link."""
    timeline = Timeline()
    for event in (client(1), *PATH[2:]):
        timeline.append(event)
    timeline.append_at(timeline.began + PATH[2].at, dials(1, 50))
    Connections(timeline).finish()
    assert numbers(timeline) == [1] * 8


def test_who_comes_first_is_not_the_first() -> None:
    """A stranger on the wire and one on the server, before the client: they get the numbers behind its own."""
    timeline = numbered(
        link(0, 49), onward(0, 59), accepted(1, 59), start(1), accepted(2, 58),
        client(1), dials(1, 50), link(1, 50), onward(1, 60), accepted(3, 60), start(3),
    )  # fmt: skip
    assert numbers(timeline) == [2, 2, 2, 2, 3, 1, 1, 1, 1, 1, 1]
    told = [(event.connection, event.to_wire, event.called) for event in timeline.all(ClientStranger)]
    assert sorted(told) == [(2, True, True), (3, False, False)]
    assert strangers_of(timeline) == {2, 3}
    assert main_of(timeline) == 1


def test_a_port_that_is_used_again_is_another_connection() -> None:
    """The system gives a port again when its connection is over."""
    timeline = numbered(
        client(1), dials(1, 50), link(0, 50), onward(0, 60), accepted(1, 60), closed(0),
        link(1, 50), onward(1, 60), accepted(2, 60), start(2), closed(1),
        client(2), dials(2, 50), link(2, 50), closed(2),
    )  # fmt: skip
    assert numbers(timeline) == [1] * 6 + [3] * 5 + [2] * 4


def test_the_same_port_towards_another_server_is_another_connection() -> None:
    """A port belongs to a pair: here the wire dials the server from the port from which a client dials the wire."""
    timeline = numbered(
        client(1), dials(1, 50), link(0, 50), onward(0, 51), client(2), dials(2, 51), link(1, 51), onward(1, 50),
        accepted(1, 50), accepted(2, 51),
    )  # fmt: skip
    assert numbers(timeline) == [1, 1, 1, 1, 2, 2, 2, 2, 2, 1]


def test_a_client_that_connects_again_stays_the_same_client() -> None:
    """As one that follows a redirect: two links, one connection of the experiment."""
    timeline = numbered(
        client(1), dials(1, 50), link(0, 50), onward(0, 60), accepted(1, 60), start(1), served(1),
        dials(1, 51), link(1, 51), onward(1, 61), accepted(2, 61), start(2),
    )  # fmt: skip
    assert set(numbers(timeline)) == {1}
    connections = Connections(timeline)
    assert (connections.links(1), connections.served(1)) == ({0, 1}, {1, 2})


def test_without_clients_of_the_lab_the_connections_are_counted_as_they_come() -> None:
    """As behind `host`, where nobody is a stranger."""
    timeline = numbered(accepted(1, 60), link(0, 50), start(1), onward(0, 61), accepted(2, 61), start(2))
    assert numbers(timeline) == [1, 2, 1, 2, 2, 2]
    assert strangers_of(timeline) == set()
    assert main_of(timeline) == 1


def test_a_client_whose_ports_are_not_those_that_the_wire_saw_may_own_what_nobody_claims() -> None:
    """As behind a proxy: nothing is called a stranger's, and nothing is named that is not known."""
    timeline = Timeline()
    for event in (
        client(1), client(1, "tcp", ports=[50, 3128]), link(0, 44), onward(0, 60), accepted(1, 60), start(1),
        client(1, "open", status=101),
    ):  # fmt: skip
        timeline.append(event)
    connections = Connections(timeline)
    assert all(connections.owns(1, event) for event in timeline)
    assert connections.links(1) == {0}
    connections.finish()
    assert numbers(timeline) == [1, 1, None, None, None, None, 1]
    assert strangers_of(timeline) == set()


def test_what_is_somebody_else_s_is_not_owned() -> None:
    """While the experiment runs: of a stranger's nothing, and of what belongs to nobody all."""
    timeline = Timeline()
    events = (client(1), dials(1, 50), link(0, 50), link(1, 51), make("loop", "stop"), client(2), start(7))
    for event in events:
        timeline.append(event)
    connections = Connections(timeline)
    assert [connections.owns(1, event) for event in events] == [True, True, True, False, True, False, True]


def test_events_without_ports_name_no_connection() -> None:
    """As those of recordings of a time when there were none: all are told together, as then."""
    timeline = numbered(make("wire", "link", "", {"link": 0}), start(1), served(1))
    assert numbers(timeline) == [None, None, None]
    assert parts_of(timeline) == {}
    assert main_of(timeline) is None


def test_a_timeline_is_taken_apart() -> None:
    """Each part has its own events and those that belong to nobody, in order."""
    timeline = numbered(make("loop", "shutdown"), *PATH, link(1, 51), make("loop", "stop"))
    parts = parts_of(timeline)
    assert {number: [event.kind for event in part] for number, part in parts.items()} == {
        1: ["shutdown", "connect", "tcp", "link", "tcp", "tcp", "start", "end", "closed", "stop"],
        2: ["shutdown", "link", "stranger", "stop"],
    }
    assert list(parts_of(timeline, without={1})) == [2]


def test_naming_twice_changes_nothing() -> None:
    """Events that are added later are named too."""
    timeline = numbered(*PATH)
    timeline.append(served(1))
    Connections(timeline).finish()
    assert numbers(timeline) == [1] * 9
