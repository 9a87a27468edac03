"""The wire: a TCP relay between a client and a server, which sees every frame and can break the connection."""

from __future__ import annotations

from labkit.wire.breaking import Breaker, SomeLinks
from labkit.wire.hold import Hold, Holds
from labkit.wire.link import Link
from labkit.wire.relay import Relay

__all__ = ["Breaker", "Hold", "Holds", "Link", "Relay", "SomeLinks"]
