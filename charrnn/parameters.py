"""Parameters as one flat vector with named views: what is learned, in one block of memory.

Gradients, moments and averages share the layout, so an optimiser is a few passes over flat
vectors, a checkpoint writes whole vectors, and several processes can sum one array.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charrnn import lines

Array = NDArray[Any]


class Parameters(Mapping[str, Array]):
    """A read-only mapping from names to arrays that are views into `flat`.

    The mapping can't be changed; the arrays can (unless they are frozen), and every change
    shows in `flat`.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], flat: Array) -> None:
        """Lay `shapes` over `flat`, in their order; the sizes must add up to `flat.size`."""
        self.shapes = dict(shapes)
        self.flat = flat
        self.slices: dict[str, slice] = {}
        self._views: dict[str, Array] = {}
        start = 0
        for name, shape in self.shapes.items():
            size = int(np.prod(shape, dtype=np.int64))
            self.slices[name] = slice(start, start + size)
            self._views[name] = flat[self.slices[name]].reshape(shape)
            start += size
        assert flat.shape == (start,), f"{start} parameters laid over an array of {flat.shape}"

    @classmethod
    def zeros(cls, shapes: Mapping[str, tuple[int, ...]], dtype: Any = np.float32) -> "Parameters":
        """New parameters of `shapes`, all zero."""
        size = sum(int(np.prod(shape, dtype=np.int64)) for shape in shapes.values())
        return cls(shapes, lines.zeros(size, dtype))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> "Parameters":
        """A copy of `arrays`, in their order, as one vector of the dtype of the first."""
        dtype = next(iter(arrays.values())).dtype
        parameters = cls.zeros({name: array.shape for name, array in arrays.items()}, dtype)
        for name, array in arrays.items():
            parameters[name][...] = array
        return parameters

    def like(self, flat: Array | None = None) -> "Parameters":
        """The same layout over `flat`, or over a new vector of zeros."""
        return Parameters(self.shapes, lines.zeros_like(self.flat) if flat is None else flat)

    def astype(self, dtype: Any) -> "Parameters":
        """A copy in another dtype."""
        flat = lines.empty(self.flat.shape, dtype)
        flat[...] = self.flat
        return self.like(flat)

    def freeze(self) -> "Parameters":
        """Make every array read-only, for ever, and the memory below. Returns self."""
        memory: Any = self.flat
        while isinstance(memory, np.ndarray):
            memory.flags.writeable = False
            memory = memory.base
        for view in self._views.values():
            view.flags.writeable = False
        return self

    def layer(self, prefix: str) -> dict[str, Array]:
        """The views whose names begin with `prefix`, under the rest of their names."""
        cut = len(prefix)
        return {n[cut:]: view for n, view in self._views.items() if n.startswith(prefix)}

    def __getitem__(self, name: str) -> Array:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)
