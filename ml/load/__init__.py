"""Forecasts of load: many series at once, with intervals that keep their share.

What belongs here: series side by side (``panel``), what a forecast is made from (``design``), the candidates
(``boosting``, ``linear``), which of them serves where (``choice``), intervals (``intervals``), and the order in which
they learn (``forecaster``). What does not: reading loads, a clock, storage, and what is planned with a forecast.
"""
