"""Time-series monitors of tables: measures by the hour, seasonal baselines, and one rate of false alarms over all."""
