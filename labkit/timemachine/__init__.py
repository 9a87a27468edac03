"""Plays a handler on another version of its library."""

from labkit.timemachine.machine import time_machine as time_machine

__all__ = ["time_machine"]
