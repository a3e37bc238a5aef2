"""Sagas: features of every prefix, failure models, probabilities for what is running."""

from assets.sagas.assets import saga_features, saga_model, saga_predictions

__all__ = ["saga_features", "saga_model", "saga_predictions"]
