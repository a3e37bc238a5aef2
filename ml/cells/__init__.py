"""Wrong cells of a table: found without labels, and better with a few labelled rows. Text in, probabilities out."""
