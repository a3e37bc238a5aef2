"""Failure of running sagas: features defined once, labels, estimators, scores, promotion."""
