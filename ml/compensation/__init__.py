"""Compensation: in which order and by which way a saga's steps are undone; declared rules first, then learned costs."""
