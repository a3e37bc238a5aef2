"""What a burst is made of: which participant, step and error fail more than before, ranked by what they added.

What belongs here: two lists of endings to a ranking. What does not: when a burst begins (``detector``), traces: where
spans exist, ``ml.root_cause`` sees further than a step's own participant.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ml.bursts.told import ENDING, Told


@dataclass(frozen=True, slots=True)
class Suspect:
    """A step of a participant: attempts and bad ones, recently and before, and what that is worth.

    ``added`` is how many bad attempts there were more than before's share would have given; ``surprise`` the
    likelihood ratio's logarithm (base 10) of two shares against one; ``errors`` the recent ones, most frequent first.
    """

    saga_type: str
    participant: str
    step: str
    bad: int
    attempts: int
    bad_before: int
    attempts_before: int
    added: float
    lift: float
    surprise: float
    errors: tuple[tuple[str, int], ...]

    @property
    def share(self) -> float:
        """Return the share of recent attempts that were bad."""
        return self.bad / max(1, self.attempts)

    @property
    def share_before(self) -> float:
        """Return the share before."""
        return self.bad_before / max(1, self.attempts_before)


@dataclass(frozen=True, slots=True)
class Analysis:
    """A burst explained: suspects, the likeliest first; participants by their part of what was added."""

    since_us: int
    until_us: int
    sagas: int
    sagas_aborted: int
    suspects: tuple[Suspect, ...]
    participants: tuple[tuple[str, float], ...]

    @property
    def subject(self) -> str:
        """Return the participant to blame, or that there is none."""
        return self.participants[0][0] if self.participants else "unknown"

    def summary(self) -> str:
        """Return one sentence for people."""
        if not self.suspects:
            return f"{self.sagas} sagas; no step fails more than before"
        first = self.suspects[0]
        error = f", mostly {first.errors[0][0]}" if first.errors and first.errors[0][0] else ""
        return (
            f"{first.saga_type}: {first.step} at {first.participant} goes wrong in {first.share:.0%} "
            f"of {first.attempts} attempts (before: {first.share_before:.0%} of {first.attempts_before}){error}"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it in JSON's types."""
        return {
            "since_us": self.since_us,
            "until_us": self.until_us,
            "sagas": self.sagas,
            "sagas_aborted": self.sagas_aborted,
            "suspects": [asdict(one) for one in self.suspects],
            "participants": [{"participant": name, "share_of_added": share} for name, share in self.participants],
        }


def analyse(recent: Sequence[Told], before: Iterable[Told], *, most: int = 10) -> Analysis:
    """Explain ``recent`` endings beside those before; only what is worse than before is suspected."""
    now, then, errors = _counts(recent), _counts(before), defaultdict[tuple[str, str, str], Counter[str]](Counter)
    for one in recent:
        if one.bad:
            errors[one.saga_type, one.participant, one.step][one.error or one.status] += 1
    found = []
    for key, (bad, attempts) in now.items():
        if key[2] == ENDING:
            continue
        bad_before, attempts_before = then.get(key, (0, 0))
        share = (bad_before + 0.5) / (attempts_before + 1) if attempts_before else _elsewhere(then)
        added, surprise = bad - attempts * share, _surprise(bad, attempts, bad_before, attempts_before)
        # Two, for the likelihood ratio: a step about which nothing can be said is no suspect.
        if added > 0 and surprise > 2.0:
            found.append(
                Suspect(
                    *key,
                    bad=bad,
                    attempts=attempts,
                    bad_before=bad_before,
                    attempts_before=attempts_before,
                    added=round(added, 2),
                    lift=round(bad / attempts / share, 2),
                    surprise=round(surprise, 2),
                    errors=tuple(errors[key].most_common(5)),
                )
            )
    found.sort(key=lambda one: (-one.added, -one.surprise))
    total = sum(suspect.added for suspect in found)
    parts: dict[str, float] = defaultdict(float)
    for suspect in found:
        parts[suspect.participant] += suspect.added / total
    return Analysis(
        since_us=min((one.us for one in recent), default=0),
        until_us=max((one.us for one in recent), default=0),
        sagas=len({one.saga for one in recent}),
        sagas_aborted=sum(one.step == ENDING and one.bad for one in recent),
        suspects=tuple(found[:most]),
        participants=tuple((name, round(share, 3)) for name, share in sorted(parts.items(), key=lambda part: -part[1])),
    )


def _counts(endings: Iterable[Told]) -> dict[tuple[str, str, str], tuple[int, int]]:
    found: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0])
    for one in endings:
        pair = found[one.saga_type, one.participant, one.step]
        pair[0] += one.bad
        pair[1] += 1
    return {key: (bad, attempts) for key, (bad, attempts) in found.items()}


def _elsewhere(counts: dict[tuple[str, str, str], tuple[int, int]]) -> float:
    """Return the share of all steps: what a step that was never seen before is measured by."""
    steps = [pair for key, pair in counts.items() if key[2] != ENDING]
    return (sum(bad for bad, _ in steps) + 0.5) / (sum(attempts for _, attempts in steps) + 1)


def _surprise(bad: int, attempts: int, bad_before: int, attempts_before: int) -> float:
    """Return log10 of the likelihood ratio of two shares against one."""

    def log(hits: int, of: int, share: float) -> float:
        good = of - hits
        return (hits * math.log(share) if hits else 0.0) + (good * math.log(1 - share) if good else 0.0)

    both = (bad + bad_before) / (attempts + attempts_before)
    if not attempts_before:
        return bad * math.log10(2)
    apart = log(bad, attempts, bad / attempts) + log(bad_before, attempts_before, bad_before / attempts_before)
    return (apart - log(bad, attempts, both) - log(bad_before, attempts_before, both)) / math.log(10)
