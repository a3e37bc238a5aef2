"""Drift of features, predictions and calibration, found by tests that keep their false-alarm rate."""
