"""Reverse-mode automatic differentiation: write a forward, and get its gradients.

Owns the recorded graph (`Node`), what an operation is, the arithmetic ones, and the way back
through the graph (`backward`). The functions of a network are in `operations`; the fast backwards
are written by hand (`cells/`), and held to this one by `checking` and the tests.

    for t in range(T):  # U, W, b, V, c are parameters, h is the initial state, loss is 0.0
        h = tanh(gather(U, ids[:, t]) + h @ W + b)  # (B, H)
        loss = loss + softmax_cross_entropy(h @ V + c, targets[:, t])
    backward(loss)  # U.grad, W.grad and the others are now arrays

Values are float64 or float32, one dtype in a graph: nothing is converted silently, except that a
bare number takes the dtype of the nodes it meets. Arrays are not copied in: change one in place
only after `backward` and before the next forward.

Reverse mode goes from the loss to the leaves: where y = f(x), dx = dy * df/dx, summed over all uses
of x (Baydin et al. 2018, "Automatic differentiation in machine learning: a survey", JMLR 18(153),
section 3.2). For a W used at every time step that sum is backpropagation through time. Below, dx
stands for the gradient of the loss for x, of the shape and dtype of x.
"""

from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass
from numbers import Real
from types import EllipsisType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]
_BASIC_INDEX = int | np.integer | slice | EllipsisType | None


@dataclass(eq=False, slots=True, repr=False)  # compared by identity: nodes are keys in `backward`
class Node:
    """An array in the graph, with the operation and the parents it came from (a leaf has none).

    `grad` is None until a `backward` reaches the node; a constant's stays None.
    """

    value: Array
    requires_grad: bool
    operation: "Operation | None" = None
    parents: "tuple[Node, ...]" = ()
    cache: Any = None  # what the operation's forward left for its backward
    grad: Array | None = None

    # numpy's operators then step aside, so that `np.float64(2) * node` reaches `__rmul__`.
    __array_ufunc__: ClassVar[None] = None

    def __repr__(self) -> str:
        kind = type(self.operation).__name__ if self.operation else "leaf"
        return f"Node({kind}, {self.value.shape}, {self.value.dtype})"

    def __add__(self, other: "Node | float") -> "Node":
        return Add()(self, other)

    def __sub__(self, other: "Node | float") -> "Node":
        return Add()(self, -other)

    def __mul__(self, other: "Node | float") -> "Node":
        return ElementwiseProduct()(self, other)

    __radd__, __rmul__ = __add__, __mul__

    def __rsub__(self, other: float) -> "Node":
        return Add()(other, -self)

    def __neg__(self) -> "Node":
        return ElementwiseProduct()(self, -1.0)

    def __matmul__(self, other: "Node") -> "Node":
        return MatrixProduct()(self, other)

    def __getitem__(self, index: Any) -> "Node":
        return Slice()(self, index=index)

    def sum(self, axis: int | None = None) -> "Node":
        """The sum over one axis, which disappears, or over all of them."""
        return Sum()(self, axis=axis)


def parameter(array: ArrayLike) -> Node:
    """A leaf whose gradient is wanted. Raises TypeError unless it is float32 or float64."""
    return Node(_as_float(array), requires_grad=True)


def constant(array: ArrayLike) -> Node:
    """A leaf whose gradient is not wanted. Raises TypeError unless it is float32 or float64."""
    return Node(_as_float(array), requires_grad=False)


def backward(root: Node, seed: ArrayLike | None = None) -> None:
    """Add the gradient of `root` to the `grad` of every node it depends on, constants excepted.

    Gradients accumulate: after `backward(a)` and `backward(b)` each `grad` is that of a + b, also
    where the two share nodes. Set `grad = None` on the parameters before the next training step.

    `seed` is the gradient for `root`, in its shape and dtype; a scalar needs none, it is 1.
    Raises ValueError if a seed is missing or unlike `root`, or if `root` depends on no parameter.
    """
    if not root.requires_grad:
        raise ValueError("backward needs a node that depends on a parameter")
    if seed is None and root.value.shape != ():
        raise ValueError(f"backward needs a scalar or a seed, got a node {root.value.shape}")
    uses: Counter[Node] = Counter()
    found = [root]
    for node in found:  # the list grows as it is read; a recursion would be as deep as time is long
        found += [parent for parent in dict.fromkeys(node.parents) if parent not in uses]
        uses.update(node.parents)

    seed = np.ones_like(root.value) if seed is None else np.asarray(seed)
    gradients = {root: _checked(seed, root, "the seed")}
    ready = [root]  # the nodes whose gradient is whole: all their uses have handed it back
    for node in ready:
        dy = gradients.pop(node)
        # np.array copies: an operation may give one array to two parents.
        node.grad = np.array(dy if node.grad is None else node.grad + dy)
        if node.operation is None:
            continue
        dinputs = node.operation.backward(dy, node.cache)
        for parent, dx in zip(node.parents, dinputs, strict=True):
            uses[parent] -= 1
            if parent.requires_grad:
                dx = _checked(dx, parent, f"a gradient from {type(node.operation).__name__}")
                gradients[parent] = gradients[parent] + dx if parent in gradients else dx
                if uses[parent] == 0:
                    ready.append(parent)


class Operation(ABC):
    """A function on arrays and its derivative. It keeps no state: the cache is handed back to it.

    A new operation is one subclass; `Relu()(node)` then records it like those below.
    """

    @abstractmethod
    def forward(self, *inputs: Any, **settings: Any) -> tuple[Array, Any]:
        """Return the result, and a cache: whatever `backward` needs."""

    @abstractmethod
    def backward(self, dy: Array, cache: Any) -> tuple[Array, ...]:
        """Return the gradient for each input, in order, given the one for the result."""

    def __call__(self, *inputs: Node | float, **settings: Any) -> Node:
        """Run the forward and record it, unless no gradient is wanted from it.

        Raises TypeError for an input that is neither node nor number, and for a second dtype;
        ValueError, which names the operation and the shapes, for shapes that do not fit.
        """
        name = type(self).__name__
        for x in inputs:
            if not isinstance(x, Node | Real):
                kind = type(x).__name__
                raise TypeError(f"{name} takes nodes, got {kind}: see parameter() and constant()")
        dtypes = list(dict.fromkeys(x.value.dtype for x in inputs if isinstance(x, Node)))
        if len(dtypes) != 1:
            names = " and ".join(map(str, dtypes)) or "no node"
            raise TypeError(f"{name} takes nodes of one dtype, got {names}")
        nodes = [x if isinstance(x, Node) else constant(np.asarray(x, dtypes[0])) for x in inputs]
        try:
            value, cache = self.forward(*(node.value for node in nodes), **settings)
        except ValueError as error:
            shapes = " and ".join(str(node.value.shape) for node in nodes)
            raise ValueError(f"{name} does not fit {shapes}: {error}") from error
        if not any(node.requires_grad for node in nodes):
            return constant(value)
        return Node(_as_float(value), True, self, tuple(nodes), cache)


class MatrixProduct(Operation):
    """Y = A B; dA = dY B^T, dB = A^T dY. A (N, K), B (K, M), Y (N, M).

    Giles 2008, "Collected matrix derivative results for forward and reverse mode algorithmic
    differentiation", section 2.2.
    """

    def forward(self, a: Array, b: Array) -> tuple[Array, Any]:
        if a.ndim != 2 or b.ndim != 2:
            raise ValueError("a matrix product needs (N, K) and (K, M)")
        return a @ b, (a, b)

    def backward(self, dy: Array, cache: Any) -> tuple[Array, ...]:
        a, b = cache
        return dy @ b.T, a.T @ dy


class Add(Operation):
    """y = a + b; da = dy, db = dy. Shapes broadcast, gradients are summed back."""

    def forward(self, a: Array, b: Array) -> tuple[Array, Any]:
        return a + b, (a.shape, b.shape)

    def backward(self, dy: Array, cache: Any) -> tuple[Array, ...]:
        return tuple(_sum_to(shape, dy) for shape in cache)


class ElementwiseProduct(Operation):
    """y = a * b; da = dy * b, db = dy * a. Shapes broadcast, gradients are summed back."""

    def forward(self, a: Array, b: Array) -> tuple[Array, Any]:
        return a * b, (a, b)

    def backward(self, dy: Array, cache: Any) -> tuple[Array, ...]:
        a, b = cache
        return _sum_to(a.shape, dy * b), _sum_to(b.shape, dy * a)


class Slice(Operation):
    """y = x[index], of integers, slices, ... and None; dx[index] = dy, and 0 elsewhere."""

    def forward(self, x: Array, *, index: Any) -> tuple[Array, Any]:
        for part in index if isinstance(index, tuple) else (index,):
            # An array could name an element twice; the assignment below would lose one gradient.
            if isinstance(part, bool) or not isinstance(part, _BASIC_INDEX):
                raise TypeError(f"Slice takes integers and slices, got {part!r}: see gather()")
        return x[index], (x, index)

    def backward(self, dy: Array, cache: Any) -> tuple[Array, ...]:
        x, index = cache
        dx = np.zeros_like(x)
        dx[index] = dy
        return (dx,)


class Sum(Operation):
    """y = the sum of x over one axis, or over all (axis None); dx = dy repeated along it."""

    def forward(self, x: Array, *, axis: int | None) -> tuple[Array, Any]:
        return x.sum(axis), (x.shape, axis)

    def backward(self, dy: Array, cache: Any) -> tuple[Array, ...]:
        shape, axis = cache
        return (np.broadcast_to(dy if axis is None else np.expand_dims(dy, axis), shape),)


def _as_float(array: ArrayLike) -> Array:
    array = np.asarray(array)
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(f"a node must be float32 or float64, got {array.dtype}")
    return array


def _checked(gradient: ArrayLike, node: Node, name: str) -> Array:
    gradient, value = np.asarray(gradient), node.value
    if (gradient.shape, gradient.dtype) != (value.shape, value.dtype):
        expected = f"{value.shape} {value.dtype}"
        raise ValueError(f"{name} must be {expected}, got {gradient.shape} {gradient.dtype}")
    return gradient


def _sum_to(shape: tuple[int, ...], dy: Array) -> Array:
    """Sum dy over the axes along which an input of `shape` was broadcast to the shape of dy."""
    new = dy.ndim - len(shape)  # axes put in front
    stretched = [new + axis for axis, size in enumerate(shape) if size != dy.shape[new + axis]]
    return np.asarray(dy.sum((*range(new), *stretched), keepdims=True).reshape(shape))
