"""Arrays and tensors: what shares memory shares it again.

An array that shares its memory with no other is held by its numbers, in the order in which they lie. Those that look at
one memory are held as that memory and a view each.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch as th

from kernel.training import codec
from kernel.training.codec import Reference
from kernel.training.state_graph.kind import CannotTake, Kind, Putting, Taking, layout_of
from kernel.training.state_graph.nodes import ABSENT, Node, NotRestorable

WASTE = 4
"""A view of a memory that is so many times larger, and that no other looks at, is held by its numbers."""
ARRAY, VIEW, MEMORY, OBJECTS = "array", "view", "memory", "objects"
TENSOR, STORAGE = "tensor", "storage"


class SharedMemory:
    """The arrays and tensors that a walk met, until it is known which of them look at one memory."""

    def __init__(self) -> None:
        self._arrays: dict[int, list[tuple[int, np.ndarray, np.ndarray]]] = {}
        self._tensors: dict[int, list[tuple[int, th.Tensor]]] = {}

    def add(self, index: int, value: Any) -> None:
        """`value` is the object of node `index`."""
        if isinstance(value, th.Tensor):
            self._tensors.setdefault(value.untyped_storage().data_ptr(), []).append((index, value))
        else:
            root = _root_of(value)
            self._arrays.setdefault(id(root), []).append((index, value, root))

    def finish(self, nodes: list[Node]) -> None:
        """Put the numbers into the nodes that `add` named; memories come at the end of the table."""
        for views in self._arrays.values():
            if len(views) == 1 and not _needs_its_memory(views[0][1], views[0][2]):
                index, array, _ = views[0]
                nodes[index] = nodes[index]._replace(kind=ARRAY, value=_numbers(array))
                continue
            root = views[0][2]
            memory = Reference(len(nodes))
            nodes.append(Node(MEMORY, "", _bytes_of(root).copy(), None, None))
            for index, array, _ in views:
                nodes[index] = nodes[index]._replace(kind=VIEW, value=_geometry(array, root), items=[memory])
        for tensors in self._tensors.values():
            storage = Reference(len(nodes))
            held = tensors[0][1].untyped_storage()
            data = th.empty(0, dtype=th.uint8, device=held.device).set_(held)
            nodes.append(Node(STORAGE, "", data.cpu().numpy().copy(), None, None))
            for index, _ in tensors:
                plain, items = nodes[index].value, nodes[index].items or []
                nodes[index] = nodes[index]._replace(value=[*plain, len(tensors) > 1], items=[storage, *items])


def _root_of(array: np.ndarray) -> np.ndarray:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _dense_order(array: np.ndarray) -> tuple[int, ...] | None:
    """The axes from the slowest to the fastest if the numbers lie without gaps, else None."""
    order = tuple(sorted(range(array.ndim), key=lambda axis: -array.strides[axis]))
    return order if array.transpose(order).flags.c_contiguous else None


def _needs_its_memory(array: np.ndarray, root: np.ndarray) -> bool:
    """Whether its numbers alone would lose how they lie."""
    if array.size == 0 or array is root or _dense_order(array) is not None:
        return False
    return root.nbytes <= WASTE * array.nbytes and _dense_order(root) is not None


def _numbers(array: np.ndarray) -> list[Any]:
    order = None if array.flags.c_contiguous else _dense_order(array)
    lying = np.array(array if order is None else array.transpose(order), order="C", copy=True, subok=False)
    return [lying, None if order is None else list(order), bool(array.flags.writeable)]


def _bytes_of(root: np.ndarray) -> np.ndarray:
    order = _dense_order(root)
    if order is None:
        raise CannotTake("is an array over a memory with gaps")
    return root.transpose(order).reshape(-1).view(np.ndarray).view(np.uint8)


def _address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def _geometry(array: np.ndarray, root: np.ndarray) -> list[Any]:
    offset = _address(array) - _address(root)
    return [np.empty(0, array.dtype), list(array.shape), list(array.strides), offset, bool(array.flags.writeable)]


def _take_array(value: np.ndarray, walk: Taking) -> Node:
    if isinstance(value, np.memmap):
        raise CannotTake("is an array that lies in a file")
    if value.dtype == object:
        items = [walk.refer(item, position) for position, item in enumerate(value.reshape(-1).tolist())]
        return Node(OBJECTS, "", list(value.shape), items, None)
    if not codec.holds(value.dtype):
        raise CannotTake(f"is an array of {value.dtype}")
    return walk.later(value)


def _is_like(live: Any, dtype: np.dtype, shape: tuple[int, ...]) -> bool:
    return bool(live.dtype == dtype and live.shape == shape)


def _array_fits(live: np.ndarray, node: Node) -> bool:
    lying, order, writeable = node.value
    numbers = lying if order is None else lying.transpose(np.argsort(order))
    return _is_like(live, numbers.dtype, numbers.shape) and live.flags.writeable == writeable and writeable


def _make_array(node: Node, put: Putting) -> np.ndarray:
    lying, order, writeable = node.value
    made = lying.copy()
    made = made if order is None else made.transpose(np.argsort(order))
    if node.of:
        made = made.view(put.lookup.class_of(node.of))
    made.flags.writeable = bool(writeable)
    return made


def _fill_array(live: np.ndarray, node: Node, put: Putting) -> None:
    lying, order, writeable = node.value
    if writeable:
        live[...] = lying if order is None else lying.transpose(np.argsort(order))
    _fill_names(live, node, put)


def _fill_names(live: Any, node: Node, put: Putting) -> None:
    layout = layout_of(type(live), np.ndarray)
    if node.attributes and layout is not None:
        layout.fill(live, {name: put.get(held) for name, held in node.attributes.items()})


def _make_view(node: Node, put: Putting) -> np.ndarray:
    sample, shape, strides, offset, writeable = node.value
    memory = put.get((node.items or [None])[0])
    made = np.ndarray(tuple(shape), sample.dtype, memory, offset, tuple(strides))
    if node.of:
        made = made.view(put.lookup.class_of(node.of))
    made.flags.writeable = bool(writeable)
    return made


def _fill_memory(memory: np.ndarray, node: Node, _: Putting) -> None:
    memory[...] = node.value


def _make_objects(node: Node, _: Putting) -> np.ndarray:
    return np.empty(tuple(node.value), object)


def _fill_objects(live: np.ndarray, node: Node, put: Putting) -> None:
    flat = np.empty(live.size, object)
    for position, held in enumerate(node.items or ()):
        flat[position] = put.get(held)
    live[...] = flat.reshape(live.shape)


def _take_tensor(value: th.Tensor, walk: Taking) -> Node:
    if value.grad_fn is not None:
        raise CannotTake("is a tensor inside a gradient that is being computed")
    if value.layout != th.strided or value.is_quantized:
        raise CannotTake(f"is a tensor of layout {value.layout}")
    plain = [str(value.dtype).partition(".")[2], list(value.shape), list(value.stride()), value.storage_offset()]
    node = walk.later(value)
    grad = walk.refer(value.grad, "grad")
    return node._replace(value=[*plain, bool(value.requires_grad), str(value.device)], items=[grad])


def _tensor_fits(live: th.Tensor, node: Node) -> bool:
    dtype, shape, stride, *_, is_shared = node.value
    return not is_shared and [str(live.dtype).partition(".")[2], list(live.shape), list(live.stride())] == [
        dtype,
        shape,
        stride,
    ]


def _tensor_over(node: Node, put: Putting, device: Any) -> th.Tensor:
    dtype, shape, stride, offset, *_ = node.value
    kind = getattr(th, dtype)
    if not isinstance(kind, th.dtype):
        raise NotRestorable(f"{dtype!r} is no type of a tensor.")
    storage = put.get((node.items or [None])[0])
    whole = storage.view(kind) if storage.numel() else th.empty(0, dtype=kind)
    return whole.as_strided(shape, stride, offset).to(device)


def _make_tensor(node: Node, put: Putting) -> th.Tensor:
    made = _tensor_over(node, put, node.value[5])
    if node.of:
        cls = put.lookup.class_of(node.of)
        made = th.Tensor._make_subclass(cls, made, bool(node.value[4]))
    return made.requires_grad_(bool(node.value[4]))


def _fill_tensor(live: th.Tensor, node: Node, put: Putting) -> None:
    saved = _tensor_over(node, put, live.device)
    if saved.data_ptr() != live.data_ptr():
        with th.no_grad():
            live.copy_(saved)
    live.requires_grad_(bool(node.value[4]))
    live.grad = put.get((node.items or [None, None])[1])


def _flat(live: np.ndarray, _: Node) -> list[Any]:
    return live.reshape(-1).tolist()


KINDS = (
    Kind(ARRAY, _take_array, _make_array, _fill_array, _array_fits, types=(np.ndarray,), base=np.ndarray),
    Kind(VIEW, _take_array, _make_view, _fill_names, is_whole_at_once=True),
    Kind(MEMORY, _take_array, lambda node, put: np.empty(node.value.shape, np.uint8), _fill_memory),
    Kind(OBJECTS, _take_array, _make_objects, _fill_objects, lambda live, node: live.shape == tuple(node.value), _flat),
    Kind(
        TENSOR,
        _take_tensor,
        _make_tensor,
        _fill_tensor,
        _tensor_fits,
        lambda live, node: (ABSENT, live.grad),
        is_whole_at_once=True,
        types=(th.Tensor,),
        base=th.Tensor,
    ),
    Kind(STORAGE, _take_tensor, lambda node, put: th.from_numpy(node.value.copy())),
)
