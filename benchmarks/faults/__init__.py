"""The parts of ``quality_faults.py``: the shop's tables as a stream, the injector, the arms."""
