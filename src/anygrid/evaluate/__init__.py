"""Any maps against the truth, the solver and the trivial baselines."""

from anygrid.evaluate.baselines import Examples, MeanField, NearestSample, Persistence, TensorExamples
from anygrid.evaluate.cost import Costs
from anygrid.evaluate.result import Comparison, LeadCurve, Report, Score, Timing
from anygrid.evaluate.run import TEST_SEED, evaluate

__all__ = [
    "TEST_SEED",
    "Comparison",
    "Costs",
    "Examples",
    "LeadCurve",
    "MeanField",
    "NearestSample",
    "Persistence",
    "Report",
    "Score",
    "TensorExamples",
    "Timing",
    "evaluate",
]
