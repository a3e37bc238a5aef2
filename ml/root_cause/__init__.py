"""Which service is to blame: a ranking over traces, logs and metrics, with the evidence in words."""

from ml.root_cause.ranking import Reference, learn, rank
from ml.root_cause.types import Blame, Evidence, NothingToRank, Observed, Ranking

__all__ = ["Blame", "Evidence", "NothingToRank", "Observed", "Ranking", "Reference", "learn", "rank"]
