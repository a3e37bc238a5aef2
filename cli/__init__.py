"""The ``isthmus`` command, thin: it parses, calls the other rooms, and prints."""
