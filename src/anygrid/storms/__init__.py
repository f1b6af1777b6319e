"""Storms: their centres, tracks over time and members, strike probabilities, and errors against best tracks."""

from anygrid.storms.criteria import Criteria
from anygrid.storms.tracks import Sources, Tracks, track

__all__ = ["Criteria", "Sources", "Tracks", "track"]
