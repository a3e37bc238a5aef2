"""When a saga's next attempt is made, and how long it waits: from what is seen of each participant, as it is seen."""
