"""Time-outs per saga step that keep a promised share of false ones.

What belongs here: what a step's participant looked like lately (``recent``), the conditional quantiles of a step's
duration (``model``), their online correction (``conformal``), and the three together behind bounds (``advisor``).
What does not: reading steps, a clock, and the static time-outs of a policy (``ml.policy``).

A false time-out is one that cuts a step which would have ended. Durations are milliseconds, times are seconds on any
one clock, logarithms are natural.
"""
