"""The trained model of wrong cells that comes with the code.

What belongs here: reading its arrays. What does not: what they mean (``ml.cells``), fitting (``benchmarks/cells``).
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ml.cells.detector import Model


@cache
def shipped() -> Model:
    """Return the model that comes with the code."""
    import numpy as np

    from ml.cells.detector import Model

    path = files("assets.quality").joinpath("cell_model.npz")
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return Model.from_arrays(dict(arrays))
