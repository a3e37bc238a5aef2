"""What the model of wrong cells is trained and tried on: clean tables, faults that are put into them, the training."""
