"""What starts work: Kafka sensors and the conditions of schedules. Looks only; a run does the work."""
