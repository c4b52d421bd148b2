import numpy as np
from numpy.typing import NDArray

def windows(text: bytes, out: NDArray[np.uint64], count: int, sampled: bool, multiplier: int, below: int) -> int: ...
