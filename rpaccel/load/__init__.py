"""Load and tail latency: arrivals, queueing of FIFO pipelines, percentiles, theory, LoadGen."""

from rpaccel.load.arrivals import (
    exponential_arrivals,
    gap_statistics,
    millisecond_arrivals,
    read_trace,
)
from rpaccel.load.events import Change, EventRun, Outcome, simulate_events
from rpaccel.load.fifo import Run, Stage, simulate
from rpaccel.load.tails import Estimate, Summary, summarise

__all__ = [
    "Change",
    "Estimate",
    "EventRun",
    "Outcome",
    "Run",
    "Stage",
    "Summary",
    "exponential_arrivals",
    "gap_statistics",
    "millisecond_arrivals",
    "read_trace",
    "simulate",
    "simulate_events",
    "summarise",
]
