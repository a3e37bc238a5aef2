"""Time-outs per saga step that keep a promised share of false ones.

What belongs here: what a step's participant looked like lately (``recent``), the tail of a step's duration given that
(``model``, ``trees``), where in the tail its time-out lies (``price``), the price's online correction (``conformal``),
what the past teaches (``learning``), and all of it behind bounds (``advisor``).
What does not: reading steps, a clock, and the static time-outs of a policy (``ml.policy``).

A false time-out is one that cuts a step which would have ended. Durations are milliseconds, times are seconds on any
one clock, logarithms are natural.
"""
