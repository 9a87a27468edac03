"""Every client asks for the path, with the headers and subprotocols, that the user gives."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

import labkit
from labkit.errors import BadOption, BadValue

CLIENTS = tuple(labkit.CLIENTS)

PATH = "/chat/r%C3%A4ume?room=1&as=a%2Fb"
HEADERS = {"Authorization": "Bearer abc", "Origin": "https://example.org", "X-Trace": ""}


async def asked_aiohttp(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(protocols=("two",))
    await ws.prepare(request)
    labkit.note("asked", path=request.raw_path, protocol=ws.ws_protocol, **_of(request.headers))
    async for _ in ws:
        pass
    return ws


async def asked_websockets(websocket: Any) -> None:
    request = websocket.request
    labkit.note("asked", path=request.path, protocol=websocket.subprotocol, **_of(request.headers))
    async for _ in websocket:
        pass


def _of(headers: Any) -> dict[str, Any]:
    return (
        {name: headers.get(name) for name in HEADERS} | {"hosts": len(headers.getall("Host"))}
        if hasattr(headers, "getall")
        else {name: headers.get(name) for name in HEADERS} | {"hosts": len(headers.get_all("Host"))}
    )


@pytest.mark.parametrize("client", CLIENTS)
async def test_cookies_are_sent(client: str) -> None:
    """Each client of the lab has the cookies that the user gives, beside other headers."""
    seen = []

    async def handler(request: web.Request) -> web.WebSocketResponse:
        seen.append(dict(request.cookies))
        return await asked_aiohttp(request)

    cookies = {"session": "a=b", "theme": '"dark"'}
    run = await labkit.play(handler, fault="close", client=client, cookies=cookies, headers=HEADERS)
    assert run.verdict.ending == "returned"
    assert seen == [{"session": "a=b", "theme": "dark"}]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"cookies": "a=b"}, "it takes a mapping"),
        ({"cookies": {"a b": "c"}}, "'a b' is not the name of a cookie"),
        ({"cookies": {"a": "b; c=d"}}, "the cookie a is 'b; c=d'; it takes ASCII text without"),
        ({"cookies": {"a": "b"}, "headers": {"COOKIE": "c=d"}}, "there is a header Cookie and cookies="),
    ],
)
async def test_a_cookie_that_cannot_be_sent_is_a_sentence(options: dict[str, Any], sentence: str) -> None:
    """Before anybody connects; a matrix says so before it plays."""
    with pytest.raises(BadValue, match=sentence):
        await labkit.play(asked_aiohttp, **options)
    with pytest.raises(BadValue, match=sentence):
        await labkit.matrix([asked_aiohttp], on="aiohttp", faults="close", **options)


@pytest.mark.parametrize("fault", ["reset", "sigkill"])
@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("on", ["aiohttp", "websockets"])
async def test_the_server_sees_what_each_client_asks_for(on: str, client: str, fault: str) -> None:
    """Letter by letter, in a process of its own too; and both agree on a subprotocol."""
    handler: Any = asked_aiohttp if on == "aiohttp" else asked_websockets
    subprotocols = ("one", "two") if on == "aiohttp" else ("two",)
    run = await labkit.play(handler, on, fault, client=client, path=PATH, headers=HEADERS, subprotocols=subprotocols)
    [note] = run.timeline.select("handler", "note")
    assert note.data == {"path": PATH, "protocol": "two", "hosts": 1, **HEADERS}
    assert f"GET {PATH} → 101" in [event.text for event in run.timeline]


async def test_each_of_several_clients_asks_for_the_same() -> None:
    """As the matrix does in each cell."""
    run = await labkit.play(asked_websockets, "websockets", path="/here", clients=2)
    assert [note.data["path"] for note in run.timeline.select("handler", "note")] == ["/here", "/here"]
    table = await labkit.matrix([asked_websockets], on="websockets", faults=["reset", "close"], path="/there")
    for cell in table.cells:
        [note] = table[cell.handler, cell.stack, cell.fault].timeline.select("handler", "note")
        assert note.data["path"] == "/there"


async def test_a_library_is_not_told_twice() -> None:
    """An option of the library's that says the same is refused, and works where it stands alone."""
    options = {"additional_headers": {"X-Trace": "1"}}
    with pytest.raises(BadOption, match="'additional_headers' is given twice: as an option of the client, and as head"):
        await labkit.play(
            asked_websockets, "websockets", client="websockets", client_options=options, headers={"X-Other": "2"}
        )
    run = await labkit.play(asked_websockets, "websockets", client="websockets", client_options=options, path="/x")
    assert run.timeline.select("handler", "note")[0].data["X-Trace"] == "1"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"path": "chat"}, "path='chat'; it takes a path such as '/chat?room=1'"),
        ({"path": "/a b"}, "holds neither spaces nor '#'"),
        ({"path": "/räume"}, "write them as %C3%BC"),
        ({"path": "/a#b"}, "nor '#'"),
        ({"path": None}, "path=None"),
        ({"headers": "Authorization: x"}, "it takes a mapping, such as {'Authorization': 'Bearer …'}"),
        ({"headers": {"X Y": "1"}}, "'X Y' is not the name of a header"),
        ({"headers": {"X-Y": "1\r\nHost: evil"}}, "it takes text of one line in ASCII"),
        ({"headers": {"X-Y": 1}}, "the header X-Y is 1; it takes text"),
        ({"headers": {"host": "example.org"}}, "host is a header of the handshake itself, which the client sets"),
        ({"headers": {"Sec-WebSocket-Protocol": "x"}}, "give the names as subprotocols="),
        ({"subprotocols": "graphql-ws"}, "it takes a sequence of names, such as ('graphql-ws',)"),
        ({"subprotocols": ["a b"]}, "the subprotocol 'a b' is not a name without spaces"),
        ({"subprotocols": ["a", "a"]}, "the subprotocol 'a' is offered twice"),
    ],
)
async def test_what_cannot_be_sent_is_refused_in_one_sentence(options: dict[str, Any], says: str) -> None:
    """Before any socket opens, in a play and in a matrix."""
    with pytest.raises(BadValue) as refused:
        await labkit.play(asked_websockets, "websockets", **options)
    assert says in str(refused.value)
    with pytest.raises(BadValue) as refused:
        await labkit.matrix([asked_websockets], on="websockets", **options)
    assert says in str(refused.value)
