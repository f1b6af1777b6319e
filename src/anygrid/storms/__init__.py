"""Storms: their centres, tracks over time and members, strike probabilities, and errors against best tracks."""

from anygrid.storms.best_tracks import SeasonCount, read_best_tracks, season_count
from anygrid.storms.criteria import Criteria
from anygrid.storms.matching import Match, Matching, match_tracks
from anygrid.storms.strike import strike_map, strike_probability
from anygrid.storms.tracks import Sources, Tracks, track
from anygrid.storms.verify import errors_by_lead, mean_track, reliability, track_errors

__all__ = [
    "Criteria",
    "Match",
    "Matching",
    "SeasonCount",
    "Sources",
    "Tracks",
    "errors_by_lead",
    "match_tracks",
    "mean_track",
    "read_best_tracks",
    "reliability",
    "season_count",
    "strike_map",
    "strike_probability",
    "track",
    "track_errors",
]
