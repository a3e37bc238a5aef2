"""Sagas: features of every prefix, failure models, probabilities for what runs, drift of models, time-outs of steps."""

from assets.sagas.assets import saga_features, saga_model, saga_predictions
from assets.sagas.drift import saga_drift
from assets.sagas.timeouts import step_timeouts

__all__ = ["saga_drift", "saga_features", "saga_model", "saga_predictions", "step_timeouts"]
