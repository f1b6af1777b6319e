"""The numerical weather model in a process of its own, started once, kept alive, and asked for whole states."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from io import BufferedIOBase
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from anygrid.errors import AnygridError, DataError, UsageError
from anygrid.problems.engine_messages import Arrays, receive, send

__all__ = ["Engine", "SpeedyState", "jcm_version", "shared_engine"]

_STEP = 5400  # seconds: three steps of the model, the interval of its short-wave radiation
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, eq=False)
class SpeedyState:
    """Everything the model needs to go on from ``time`` as if it had never stopped.

    Parameters
    ----------
    arrays
        Spectral coefficients of vorticity, divergence, temperature, humidity and the logarithm of the surface pressure, as the model
        holds them (float32), and the long-wave flux by band, which alone of its physics is carried from one step to the next.
    """

    time: np.datetime64
    arrays: Mapping[str, NDArray[Any]]


class Engine:
    """A running `jcm` (T30, 8 levels), in its own process with one thread; it compiles at its first step.

    Parameters
    ----------
    unit
        Seconds that one compiled call advances; a multiple of 5400 that divides a day. Runs are made of such calls, so that the
        same unit gives the same bits, however a run is cut into pieces.

    Raises
    ------
    UsageError
        When `jcm` is not installed, or for another unit.
    """

    def __init__(self, unit: int = 21600, truncation: int = 30) -> None:
        if unit <= 0 or unit % _STEP or 86400 % unit:
            raise UsageError("Engine(unit=...)", f"a multiple of {_STEP} s that divides a day", f"{unit} s", "for example 21600")
        jcm_version()
        if truncation not in (30, 63):
            raise UsageError("Engine(truncation=...)", "30 or 63, of which `jcm` brings the boundary data", str(truncation))
        self.unit, self.truncation = unit, truncation
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        here = str(Path(__file__).parents[2])
        path = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH", "")])])
        settings = {name: "1" for name in _THREADS} | {
            "PYTHONPATH": path,
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "ANYGRID_JAX_CACHE": str(_cache()),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "anygrid.problems.speedy_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=os.environ | settings,
        )
        self._constants: Arrays | None = None

    def constants(self) -> Arrays:
        """``sigma`` of the levels, mountains, the land-sea mask, and the boundary data of each day of a year of 365."""
        if self._constants is None:
            self._constants = self._ask({"ask": "about"}, {})[1]
        return self._constants

    def rest(self, time: np.datetime64, seed: int = 0) -> SpeedyState:
        """Isothermal air at rest with a small random surface pressure; weather needs months to develop from it."""
        return SpeedyState(time.astype("datetime64[s]"), self._ask({"ask": "rest", "seed": seed}, {})[1])

    def fields(self, state: SpeedyState) -> Arrays:
        """``u, v, t, q, z`` as ``(level, lat, lon)`` and ``ps`` as ``(lat, lon)``: m/s, m/s, K, kg/kg, m2/s2, Pa."""
        return self._ask({"ask": "project"}, state.arrays)[1]

    def spread(self, state: SpeedyState) -> Arrays:
        """The whole state on the grid, nothing lost: vorticity ``vo``, divergence ``d``, ``t``, ``q``, ``ps``, and ``flux`` by band.

        In s-1, s-1, K, kg/kg, Pa and W/m2; ``q`` is a little below 0 here and there, as truncated series are.
        """
        return self._ask({"ask": "spread"}, state.arrays)[1]

    def compose(self, time: np.datetime64, fields: Mapping[str, NDArray[Any]]) -> SpeedyState:
        """Inverse of :meth:`spread` to the rounding of one transform."""
        return SpeedyState(time.astype("datetime64[s]"), self._ask({"ask": "compose"}, fields)[1])

    def advance(self, state: SpeedyState, calls: int, keep: Literal["all", "last"] = "all") -> tuple[Arrays, SpeedyState]:
        """Fields after each of ``calls`` units (or the last alone), with time in front, and the state at the end.

        Raises
        ------
        AnygridError
            When the model stops, with what it printed, or its fields are not finite.
        """
        seconds = int(state.time.astype("datetime64[s]").astype(np.int64))
        if seconds % _STEP:
            raise UsageError("Engine.advance", "a time that is a multiple of 90 minutes", str(state.time), "start at 0, 6, 12 or 18 hours")
        words = {"ask": "advance", "time": seconds, "calls": calls, "keep": keep}
        found = self._ask(words, state.arrays)[1]
        own = {name.removeprefix("state."): found.pop(name) for name in list(found) if name.startswith("state.")}
        bad = [name for name, values in found.items() if not np.isfinite(values).all()]
        end = np.datetime64(seconds + calls * self.unit, "s")
        if bad:
            hint = "the state it began with is outside the model's range, or was perturbed too much"
            raise DataError(f"Speedy, {state.time} to {end}", "finite fields", f"nan or infinity in {', '.join(bad)}", hint)
        return found, SpeedyState(end, own)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._said.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def _ask(self, words: dict[str, Any], arrays: Mapping[str, NDArray[Any]]) -> tuple[dict[str, Any], Arrays]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            send(cast(BufferedIOBase, self._process.stdin), {**words, "unit": self.unit, "truncation": self.truncation}, arrays)
            said, results = receive(cast(BufferedIOBase, self._process.stdout))
        except (EOFError, BrokenPipeError, ValueError) as error:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
            got = f"its end (code {self._process.returncode}); it printed: {self._last()}"
            raise AnygridError("Speedy: the process of jcm", "an answer", got, "run the same again; a new process is started") from error
        if "error" in said:
            raise AnygridError("Speedy: jcm", f"an answer to {words['ask']!r}", f"{said['error']}; it printed: {self._last()}")
        return said, results

    def _last(self) -> str:
        if self._said.closed:
            return "nothing more: it was closed"
        self._said.seek(0)
        return self._said.read().decode(errors="replace").strip()[-1500:] or "nothing"


@lru_cache(maxsize=2)
def _running(unit: int, attempt: int) -> Engine:
    engine = Engine(unit)
    atexit.register(engine.close)
    return engine


_attempts: dict[int, int] = {}


def shared_engine(unit: int) -> Engine:
    """The engine of this process for ``unit``; a new one when the last has died."""
    engine = _running(unit, _attempts.get(unit, 0))
    if not engine.alive:
        _attempts[unit] = _attempts.get(unit, 0) + 1
        engine = _running(unit, _attempts[unit])
    return engine


def jcm_version() -> str:
    """Version of `jcm`.

    Raises
    ------
    UsageError
        When it is not installed.
    """
    try:
        return version("jcm")
    except PackageNotFoundError as error:
        hint = "pip install 'anygrid[weather]'"
        raise UsageError("Speedy", "the numerical weather model `jcm`", "an installation without it", hint) from error


def _cache() -> Path:
    """Where compiled programs are kept, so that only the first engine on a machine takes long to start."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "anygrid" / "jax"
