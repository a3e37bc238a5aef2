"""Pure computation: arrays and frames in, estimators and results out. No Dagster, no connection, no clock."""
