"""Sagas: features of every prefix, failure models, probabilities for what is running, drift of the models."""

from assets.sagas.assets import saga_features, saga_model, saga_predictions
from assets.sagas.drift import saga_drift

__all__ = ["saga_drift", "saga_features", "saga_model", "saga_predictions"]
