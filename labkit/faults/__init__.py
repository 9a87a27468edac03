"""Faults: the named ways for a connection to end or misbehave. Each family of faults has its own file.

To add a fault, write one class in its family's file and name it in that file's ``__all__``. Everything else follows
from the class. To add a family, write a new file and name it here.
"""

from __future__ import annotations

from typing import Final

from labkit.faults import closing, handshake, middlebox, process, protocol, server, silence, transport
from labkit.faults.closing import *
from labkit.faults.fault import Fault, registry
from labkit.faults.handshake import *
from labkit.faults.middlebox import *
from labkit.faults.process import *
from labkit.faults.protocol import *
from labkit.faults.server import *
from labkit.faults.silence import *
from labkit.faults.transport import *

__all__ = ["ENDING", "FAULTS", "Fault"]
__all__ += closing.__all__
__all__ += transport.__all__
__all__ += silence.__all__
__all__ += process.__all__
__all__ += protocol.__all__
__all__ += middlebox.__all__
__all__ += server.__all__
__all__ += handshake.__all__

#: The families, in the order in which they are displayed.
FAMILIES: Final = ("closing", "transport", "silence", "process", "protocol", "middlebox", "server", "handshake")

#: Every fault with its default knobs, by name.
FAULTS: Final[dict[str, Fault]] = {
    name: fault() for family in FAMILIES for name, fault in registry.items() if fault.family == family
}

#: The names of the faults that must end a handler, whatever the stack and its settings: they end its connection or the
#: handler itself. For tests, as in ``@pytest.mark.parametrize("fault", labkit.ENDING)``. Those that this platform
#: cannot stage are left out.
ENDING: Final[tuple[str, ...]] = tuple(
    name
    for name, fault in FAULTS.items()
    if fault.ends in {"connection", "handler"}
    and fault.demands in {"end", "end or raise"}
    and fault.impossible("labkit") is None
)
