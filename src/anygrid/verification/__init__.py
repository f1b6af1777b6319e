"""Verification: forecasts matched with the truth by time, name, units and place, and scored as meteorologists do it."""

from anygrid.verification.event import Event
from anygrid.verification.result import Verification
from anygrid.verification.verify import verify

__all__ = ["Event", "Verification", "verify"]
