"""What all faults share: names, knobs, and what they refuse."""

from __future__ import annotations

import dataclasses
from types import new_class
from typing import Any

import pytest

import labkit
from labkit.errors import BadValue, UnknownName
from labkit.faults.fault import Scene, find_fault, registry


def test_a_fault_is_found_under_its_name() -> None:
    """And so is its class, which says all that the lab knows of it."""
    for name, fault in labkit.FAULTS.items():
        assert fault.name == name
        assert type(fault) is registry[name]


async def strike(_: labkit.Fault, __: Scene) -> None:
    """Nothing happens."""


def knowing(**known: str) -> type[labkit.Fault]:
    """A fault of which this much is known."""
    body = {"strike": strike, **known}
    return new_class("Odd", (labkit.Fault,), {"name": "odd", "family": "closing"}, lambda space: space.update(body))


KNOWN = {"happened": "something odd happened", "ends": "nothing", "demands": "stay"}


@pytest.mark.parametrize(
    ("known", "sentence"),
    [
        (KNOWN | {"happened": None}, "'odd' has to say what happened, as in: happened = 'the client vanished'"),
        (KNOWN | {"happened": 3}, "'odd' has to say what happened"),
        (KNOWN | {"ends": None}, "'odd' has to say ends = 'connection' or 'handler' or 'handshake' or 'server' or"),
        (KNOWN | {"ends": "it"}, "'odd' has to say ends = 'connection' or"),
        (
            KNOWN | {"demands": None},
            "'odd' has to say demands = 'end' or 'end or raise' or 'end or stay' or 'answer' or",
        ),
        (KNOWN | {"needs": "luck"}, "'odd' has to say needs = 'wire' or 'client' or 'own client' or 'own process' or"),
        (KNOWN | {"moment": "noon"}, "'odd' has to say moment = 'handshake' or 'talk'"),
    ],
)
def test_a_fault_that_does_not_say_what_the_lab_needs_is_refused(known: dict[str, Any], sentence: str) -> None:
    """When its class is made, so that nobody forgets it in one of the places that ask."""
    with pytest.raises(TypeError, match=sentence):
        knowing(**{key: value for key, value in known.items() if value is not None})
    assert "odd" not in registry


def test_a_fault_of_ones_own_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that says what the lab needs is as good as the lab's own."""
    monkeypatch.setattr("labkit.faults.fault.registry", dict(registry))
    assert isinstance(find_fault("odd") if knowing(**KNOWN) else None, labkit.Fault)


@pytest.mark.parametrize("fault", labkit.FAULTS.values(), ids=str)
def test_a_fault_explains_itself(fault: labkit.Fault) -> None:
    """Its docstring says what travels on the wire, what causes it in life, and what to look for."""
    text = type(fault).__doc__ or ""
    assert all(part in text for part in ("On the wire:", "In life:", "Look for:"))
    assert type(fault).__dataclass_params__.frozen  # type: ignore[attr-defined]


def test_a_fault_is_known_by_its_name_and_its_knobs() -> None:
    """The text of a fault is its name, and the knobs that are turned."""
    assert str(labkit.Close()) == "close"
    assert str(labkit.Close(code=4000, reason="bye")) == "close(code=4000, reason='bye')"
    assert labkit.TruncatedFrame().knobs() == {"announced": 100, "sent": 10, "then": "fin"}


def test_a_fault_is_found_by_name_by_class_or_as_itself() -> None:
    """All three mean the same fault."""
    fault = labkit.Close(code=4000)
    assert find_fault(fault) is fault
    assert find_fault("reset") == find_fault(labkit.Reset) == labkit.Reset()  # type: ignore[arg-type]


def test_an_unknown_fault_lists_the_known_ones() -> None:
    """The nearest name and all the names are in the sentence."""
    with pytest.raises(
        UnknownName, match=r"no fault 'rest'\. Did you mean 'reset'\? The faults are: .*close, "
    ) as caught:
        find_fault("rest")
    assert all(name in str(caught.value) for name in labkit.FAULTS)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (1005, "never on the wire: .* no code was in the Close frame"),
        (1006, "never on the wire: .* there was no Close frame"),
        (1015, "never on the wire: .* TLS failed"),
        (999, "may not be sent; the codes are 1000-1003, 1007-1014 and 3000-4999"),
        (1004, "may not be sent"),
        (2999, "may not be sent"),
        (5000, "may not be sent"),
        ("1000", "may not be sent"),
        ([], r"code=\[\] may not be sent"),
        ({}, "may not be sent"),
        (None, "may not be sent"),
        (True, "code=True may not be sent"),
        (1000.0, "may not be sent"),
        (1006.0, "code=1006.0 may not be sent"),
    ],
)
def test_a_close_code_that_may_not_be_sent_is_refused(code: Any, why: str) -> None:
    """Codes are checked when the fault is made, with the reason (RFC 6455 §7.4)."""
    with pytest.raises(BadValue, match=why):
        labkit.Close(code=code)


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1014, 3000, 4999])
def test_a_close_code_that_may_be_sent_is_taken(code: int) -> None:
    """The edges of what RFC 6455 and its registry allow."""
    assert labkit.Close(code=code).code == code


def test_a_long_reason_is_refused() -> None:
    """A control frame holds 125 bytes, of which the code takes two (RFC 6455 §5.5); bytes count, not characters."""
    assert labkit.Close(reason="x" * 123)
    with pytest.raises(BadValue, match="124 bytes; a Close frame holds 123"):
        labkit.Close(reason="ä" * 62)


@pytest.mark.parametrize(
    ("reason", "why"),
    [(5, "the reason is 5; it takes text"), ("\ud800", r"the reason holds '\\ud800', a lone surrogate")],
)
def test_a_reason_that_is_no_text_is_refused(reason: Any, why: str) -> None:
    """A Close frame's reason is UTF-8 (RFC 6455 §5.5.1)."""
    with pytest.raises(BadValue, match=why):
        labkit.Close(reason=reason)


@pytest.mark.parametrize("fault", [["reset"], {}, None, 3, labkit.Fault])
def test_what_is_no_fault_is_refused(fault: Any) -> None:
    """Whatever it is, the sentence lists the faults; the class of all faults is none itself."""
    with pytest.raises(UnknownName, match=r"there is no fault .*The faults are: .*close, "):
        find_fault(fault)


@pytest.mark.parametrize(
    "knobs",
    [
        {"sent": 100},
        {"sent": -1},
        {"sent": 1.5},
        {"sent": True},
        {"sent": "x"},
        {"announced": 70_000},
        {"announced": 100.0},
        {"announced": "x"},
        {"announced": None},
        {"then": "stop"},
        {"then": ["fin"]},
    ],
)
def test_a_truncated_frame_must_be_one(knobs: dict[str, object]) -> None:
    """Fewer bytes are sent than announced, whole ones, and then the connection ends."""
    with pytest.raises(BadValue, match="; it takes "):
        dataclasses.replace(labkit.TruncatedFrame(), **knobs)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: labkit.Blackhole(direction="up"), "direction='up'; it takes 'both' or 'to-server' or 'to-client'"),
        (lambda: labkit.Blackhole(direction=[]), r"direction=\[\]; it takes 'both'"),
        (lambda: labkit.IdleTimeout(seconds=-1), "seconds=-1; it takes a number of seconds above 0"),
        (lambda: labkit.IdleTimeout(seconds=0), "seconds=0; it takes a number of seconds above 0"),
        (lambda: labkit.IdleTimeout(then="cut"), "then='cut'; it takes 'reset' or 'fin'"),
        (lambda: labkit.SlowLink(delay="1"), "delay='1'; it takes a number of seconds of 0 or more"),
        (lambda: labkit.SlowLink(rate=0), "rate=0; it takes bytes a second, above 0"),
        (lambda: labkit.SlowLink(rate=float("inf")), "rate=inf; it takes bytes a second"),
        (lambda: labkit.SlowLink(rate=True), "rate=True; it takes bytes a second"),
        (lambda: labkit.BadOpcode(opcode=1), "opcode=1 is not reserved; it takes 3 to 7, or 11 to 15"),
        (lambda: labkit.BadOpcode(opcode=2), "opcode=2 is not reserved"),
        (lambda: labkit.BadOpcode(opcode=8), "opcode=8 is not reserved"),
        (lambda: labkit.BadOpcode(opcode=10), "opcode=10 is not reserved"),
        (lambda: labkit.BadOpcode(opcode=16), "opcode=16 is not reserved"),
        (lambda: labkit.TooBig(size=100), "size=100; it takes a number of bytes from 65536"),
        (lambda: labkit.TooBig(size=65_535), "size=65535; it takes a number of bytes from 65536"),
        (lambda: labkit.TooBig(size=1 << 63), "size=9223372036854775808; it takes"),
        (lambda: labkit.HandshakeCut(then=None), "then=None; it takes 'fin' or 'reset'"),
        (lambda: labkit.HandshakeRefused(status=200), "status=200; it takes the status of an HTTP error, such as 503"),
        (lambda: labkit.HandshakeRefused(status=304), "status=304; it takes the status of an HTTP error"),
        (lambda: labkit.HandshakeRefused(status=503.0), "status=503.0; it takes the status"),
        (lambda: labkit.HandshakeRefused(status=599), "status=599; it takes the status"),
    ],
)
def test_a_knob_takes_what_can_be_staged(make: Any, sentence: str) -> None:
    """Anything else is refused in one sentence, before a connection is there."""
    with pytest.raises(BadValue, match=sentence):
        make()


@pytest.mark.parametrize(
    ("kind", "knobs"),
    [
        (labkit.BadOpcode, {"opcode": 3}),
        (labkit.BadOpcode, {"opcode": 7}),
        (labkit.BadOpcode, {"opcode": 11}),
        (labkit.BadOpcode, {"opcode": 15}),
        (labkit.TooBig, {"size": 65_536}),
        (labkit.TooBig, {"size": (1 << 63) - 1}),
        (labkit.TruncatedFrame, {"announced": 1, "sent": 0}),
        (labkit.TruncatedFrame, {"announced": 65_535, "sent": 65_534}),
        (labkit.HandshakeRefused, {"status": 400}),
        (labkit.HandshakeRefused, {"status": 511}),
        (labkit.SlowLink, {"delay": 0, "rate": 0.5}),
        (labkit.SecondCancel, {"times": 1}),
    ],
)
def test_a_knob_takes_the_edges_of_its_range(kind: type[labkit.Fault], knobs: dict[str, Any]) -> None:
    """The first and the last value that can be staged."""
    taken = kind(**knobs).knobs()
    assert {name: taken[name] for name in knobs} == knobs


def test_a_fault_in_a_cell_is_answered_with_what_it_is() -> None:
    """IPython's own formatter shows the docstring, and the knobs that were turned; `repr` stays short."""
    from IPython.core.formatters import DisplayFormatter

    shown, _ = DisplayFormatter().format(labkit.FAULTS["reset"])
    assert shown["text/plain"].startswith("reset, of the family transport\n\nThe TCP connection is reset.")
    assert "On the wire: RST." in shown["text/plain"]
    assert labkit.Close(code=4000).text().startswith("close(code=4000), of the family closing")
    assert repr(labkit.FAULTS["reset"]) == "Reset()"
