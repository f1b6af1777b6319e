"""HURDAT2 as NOAA writes it and as dplyr tabulates it; seasons against published counts."""

from pathlib import Path

import numpy as np
import pytest

from anygrid.errors import FileError, UsageError
from anygrid.storms import SeasonCount, read_best_tracks, season_count
from anygrid.storms.best_tracks import KNOT

STORMS = Path(__file__).resolve().parents[3] / "shared" / "data" / "weather" / "storms.csv"

# Written by hand after the description of the format: a header for each storm, then as many fixes as it says.
NATIVE = """\
AL092021,                IDA,      3,
20210829, 1200,  , HU, 28.5N,  89.6W, 130,  929,  130,  110,   80,  110,   70,   60,   40,   60,   45,   35,   20,   30,   10,
20210829, 1655, L, HU, 29.1N,  90.2W, 130,  931,  130,  110,   80,  110,   70,   60,   40,   60,   45,   35,   20,   30,   10,
20210830, 0000,  , HU, 29.9N,  90.6W, 105,  944,  140,  120,   80,  100,   60,   40,   30,   50,   25,   20,   15,   25,   10,
AL012022,            UNNAMED,      2,
20220101, 0000,  , LO,  5.0S, 179.5E,  -99, -999, -999, -999, -999, -999, -999, -999, -999, -999, -999, -999, -999, -999, -999,
20220101, 0600,  , TD,  5.1S, 180.5E,  25, 1006,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0, -999,
"""


def test_native_text(tmp_path):
    path = tmp_path / "hurdat2.txt"
    path.write_text(NATIVE)
    best = read_best_tracks(path)
    assert list(best["storm"]) == ["AL092021"] * 3 + ["AL012022"] * 2
    assert best["name"][0] == "Ida"
    assert best["time"][1] == np.datetime64("2021-08-29T16:55")
    assert (best["lat"][1], best["lon"][1]) == (29.1, pytest.approx(-90.2))
    assert best["wind"][1] == pytest.approx(130 * 0.514444, rel=1e-5)
    assert best["pressure"][1] == 93100
    assert best["status"][0] == "hurricane"
    assert (best["lat"][3], best["lon"][3], best["lon"][4]) == (-5.0, 179.5, pytest.approx(-179.5))
    assert np.isnan([best["wind"][3], best["pressure"][3]]).all()
    assert season_count(best, 2021) == SeasonCount(1, 1, 1)
    with pytest.raises(UsageError, match="a year from 2021 to 2022, got 1900"):
        season_count(best, 1900)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (NATIVE[:300], "line 4"),
        ("\n".join(NATIVE.splitlines()[:3]), "1 more fixes of AL092021, got the end of the file"),
        (NATIVE.replace("28.5N", "28.5X"), "line 2"),
        (NATIVE.replace("20210829, 1200", "20211329, 1200"), "line 2"),
        ("AL092021, IDA, many,\n", "the number of its fixes"),
        (NATIVE.replace("AL092021,                IDA,      3", "AL092021,                IDA,      4"), "1 more fixes"),
        ("", "an empty file"),
        ("lon;lat\n1;2\n", "HURDAT2 text"),
        ("name,year\nAmy,1975\n", "none called month"),
        ("name,year,month,day,hour,lat,long,status,wind,pressure\nAmy,1975,6,31,0,27.5,-79,hurricane,25,1013\n", "line 2"),
    ],
)
def test_damaged_files_name_the_line(tmp_path, text, told):
    path = tmp_path / "best.txt"
    path.write_text(text)
    with pytest.raises(FileError, match=told):
        read_best_tracks(path)


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileError, match="No such file"):
        read_best_tracks(tmp_path / "none.txt")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00\x81" * 9)
    with pytest.raises(FileError, match="other bytes"):
        read_best_tracks(tmp_path / "bytes")


@pytest.mark.skipif(not STORMS.exists(), reason="needs ../shared/data/weather/storms.csv")
def test_seasons_agree_with_what_noaa_published():
    best = read_best_tracks(STORMS)
    assert len(best) == 20778
    # NOAA's season summaries; the table lacks storms that were subtropical only, so that 2005 has 27 of its 28 (Beven et al. 2008,
    # Mon. Wea. Rev. 136, 1109-1173), 2004 lacks Nicole (14 of 15) and 2020 lacks Alpha (29 of 30).
    published = {1985: (11, 7, 3), 1995: (19, 11, 5), 2010: (19, 12, 5), 2017: (17, 10, 6)}
    published |= {2004: (15, 9, 6), 2005: (28, 15, 7), 2020: (30, 14, 7)}
    subtropical = {2004: 1, 2005: 1, 2020: 1}
    for year, (storms, hurricanes, major) in published.items():
        assert season_count(best, year) == SeasonCount(storms - subtropical.get(year, 0), hurricanes, major), year
    zeta = best[best["storm"] == "Zeta 2005"]  # lived on into 2006
    assert zeta["time"].max().year == 2006
    katrina = best[best["storm"] == "Katrina 2005"]
    assert katrina["pressure"].min() == 90200
    assert katrina["wind"].max() == pytest.approx(150 * KNOT)
