"""What a client asks for in its opening handshake."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from labkit.errors import BadValue

__all__ = ["PLAIN", "Request", "make_request"]

#: A token (RFC 9110, section 5.6.2): the name of a header, or of a subprotocol (RFC 6455, section 4.1).
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

#: A target as it stands in a request: a path, and perhaps a query (RFC 9112, section 3.2.1).
_TARGET: Final = re.compile(r"/[!-\"$-~]*")

#: The value of a header (RFC 9110, section 5.5), without bytes whose meaning is unknown.
_VALUE: Final = re.compile(r"[\t -~]*")

#: The value of a cookie (RFC 6265, section 4.1.1), perhaps in double quotes.
_COOKIE: Final = re.compile(r'[!#-+\--:<-\[\]-~]*|"[!#-+\--:<-\[\]-~]*"')

#: The headers of the handshake itself (RFC 6455, section 4.1).
_ITS_OWN: Final = frozenset({"host", "upgrade", "connection"})


@dataclass(frozen=True)
class Request:
    """What a client asks for in its opening handshake, checked.

    Attributes:
        path: the path, and perhaps a query.
        headers: headers of the user's own.
        subprotocols: the subprotocols that it offers, the one that it likes best first.
    """

    path: str = "/"
    headers: Mapping[str, str] = field(default_factory=dict)
    subprotocols: Sequence[str] = ()

    def url(self, server: str) -> str:
        """Return the URL of the path on a server.

        Args:
            server: the server's URL, such as ``"ws://127.0.0.1:4711/"``.
        """
        return server.removesuffix("/") + self.path

    def under(self, path: str) -> Request:
        """Return the same request for the path of a server's URL.

        Args:
            path: that path, and perhaps a query.

        Raises:
            BadValue: it asks for another path itself.
        """
        if path in {"/", self.path}:
            return self
        if self.path != "/":
            raise BadValue(f"path={self.path!r} and a URL with the path {path!r}: give one of them")
        return replace(self, path=path)


#: What a client asks for if nothing else is said.
PLAIN: Final = Request()


def make_request(path: object, headers: object, subprotocols: object, cookies: object = None) -> Request:
    """Check what a client shall ask for.

    Args:
        path: the path, and perhaps a query, such as ``"/chat?room=1"``.
        headers: headers by name; None for none.
        subprotocols: a sequence of subprotocols.
        cookies: cookies by name; None for none.

    Returns:
        The request.

    Raises:
        BadValue: one of them could not be sent.
    """
    if not isinstance(path, str) or not _TARGET.fullmatch(path):
        why = "it begins with '/', and holds neither spaces nor '#' nor letters beyond ASCII (write them as %C3%BC)"
        raise BadValue(f"path={path!r}; it takes a path such as '/chat?room=1': {why}")
    if headers is not None and not isinstance(headers, Mapping):
        raise BadValue(f"headers={headers!r}; it takes a mapping, such as {{'Authorization': 'Bearer …'}}")
    given: Mapping[Any, Any] = {} if headers is None else headers
    for name, value in given.items():
        _check_header(name, value)
    if cookies:
        given = {**given, "Cookie": _cookie(given, cookies)}
    if isinstance(subprotocols, str | bytes) or not isinstance(subprotocols, Sequence):
        raise BadValue(f"subprotocols={subprotocols!r}; it takes a sequence of names, such as ('graphql-ws',)")
    for number, each in enumerate(subprotocols):
        if not isinstance(each, str) or not _TOKEN.fullmatch(each):
            raise BadValue(f"the subprotocol {each!r} is not a name without spaces, such as 'graphql-ws'")
        if each in subprotocols[:number]:
            raise BadValue(f"the subprotocol {each!r} is offered twice")
    return Request(path, dict(given), tuple(subprotocols))


def _cookie(headers: Mapping[str, str], cookies: object) -> str:
    """Put cookies into the header that carries them (RFC 6265, section 4.2.1)."""
    if not isinstance(cookies, Mapping):
        raise BadValue(f"cookies={cookies!r}; it takes a mapping, such as {{'session': 'abc'}}")
    if any(name.lower() == "cookie" for name in headers):
        raise BadValue("there is a header Cookie and cookies=; give one of them")
    for name, value in cookies.items():
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            raise BadValue(f"{name!r} is not the name of a cookie, such as 'session'")
        if not isinstance(value, str) or not _COOKIE.fullmatch(value):
            raise BadValue(f"the cookie {name} is {value!r}; it takes ASCII text without spaces, quotes, ',' and ';'")
    return "; ".join(f"{name}={value}" for name, value in cookies.items())


def _check_header(name: object, value: object) -> None:
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise BadValue(f"{name!r} is not the name of a header, such as 'Authorization'")
    if name.lower() == "sec-websocket-protocol":
        raise BadValue(f"{name} is a header of the handshake itself; give the names as subprotocols=")
    if name.lower() in _ITS_OWN or name.lower().startswith("sec-websocket-"):
        raise BadValue(f"{name} is a header of the handshake itself, which the client sets")
    if not isinstance(value, str) or not _VALUE.fullmatch(value):
        raise BadValue(f"the header {name} is {value!r}; it takes text of one line in ASCII")
