"""Arrays and tensors: what shares memory shares it again.

An array that shares its memory with no other is held by its numbers, in the order in which they lie. Those that look at
one memory are held as that memory and a view each.
"""

from __future__ import annotations

import bisect
import ctypes
import mmap
from array import ArrayType
from typing import Any

import numpy as np
import torch as th

from kernel.training import codec
from kernel.training.codec import Reference
from kernel.training.state_graph.kind import CannotTake, Kind, Putting, Taking, layout_of
from kernel.training.state_graph.nodes import ABSENT, Node, NotRestorable

WASTE = 4
"""A view of a memory that is so many times larger, and that no other looks at, is held by its numbers."""
ARRAY, VIEW, MEMORY, OBJECTS, PART, ROW = "array", "view", "memory", "objects", "part", "row"
TENSOR, STORAGE = "tensor", "storage"

_FOREIGN = (ArrayType, bytearray, mmap.mmap, ctypes.Array, ctypes.Structure, ctypes._SimpleCData)


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
        storages = {address: tensors[0][1].untyped_storage() for address, tensors in self._tensors.items()}
        addresses = sorted(at for at, held in storages.items() if held.device.type == "cpu" and held.nbytes())
        of_arrays: dict[int, tuple[int, Reference]] = {}
        """Of each storage that arrays look at, too: the address of their memory, and its node."""
        for views in self._arrays.values():
            root = views[0][2]
            shared = _under(root, storages, addresses)
            if len(views) == 1 and not shared and not _needs_its_memory(views[0][1], root):
                index, array, _ = views[0]
                nodes[index] = nodes[index]._replace(kind=ARRAY, value=_numbers(array))
                continue
            at, memory = next((of_arrays[address] for address in shared if address in of_arrays), (0, None))
            if memory is None:
                wider = next((one for one in shared if storages[one].nbytes() > root.nbytes), None)
                at, memory = _address(root) if wider is None else wider, Reference(len(nodes))
                numbers = _bytes_of(root).copy() if wider is None else _bytes_in(storages[wider])
                nodes.append(Node(MEMORY, "", numbers, None, None))
            of_arrays |= dict.fromkeys(shared, (at, memory))
            for index, array, _ in views:
                nodes[index] = nodes[index]._replace(kind=VIEW, value=_geometry(array, at), items=[memory])
        for address, tensors in self._tensors.items():
            at, memory = of_arrays.get(address, (0, None))
            storage = Reference(len(nodes))
            if memory is None:
                nodes.append(Node(STORAGE, "", _bytes_in(storages[address]), None, None))
            else:
                nodes.append(Node(STORAGE, "", [address - at, storages[address].nbytes()], [memory], None))
            for index, _ in tensors:
                plain, items = nodes[index].value, nodes[index].items or []
                is_shared = len(tensors) > 1 or memory is not None
                nodes[index] = nodes[index]._replace(value=[*plain, is_shared], items=[storage, *items])


def _under(root: np.ndarray, storages: dict[int, Any], addresses: list[int]) -> list[int]:
    """The storages, by their sorted `addresses`, that lie in the memory of an array or have it in theirs."""
    at = _address(root)
    first = max(0, bisect.bisect_right(addresses, at) - 1)
    within = addresses[first : bisect.bisect_left(addresses, at + root.nbytes)]
    return [address for address in within if address + storages[address].nbytes() > at]


def _bytes_in(storage: Any) -> np.ndarray:
    data = th.empty(0, dtype=th.uint8, device=storage.device).set_(storage)
    return data.cpu().numpy().copy()


def _owner_of(array: Any) -> Any:
    """What an array looks at; None where the memory is its own."""
    owner = array.base
    while isinstance(owner, memoryview) or type(owner).__name__ == "DummyArray":
        owner = owner.obj if isinstance(owner, memoryview) else owner.base
    return owner


def _root_of(array: Any) -> Any:
    while isinstance(owner := _owner_of(array), np.ndarray):
        array = owner
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


def _geometry(array: np.ndarray, at: int) -> list[Any]:
    """How it looks at the memory that begins at the address `at`."""
    offset = _address(array) - at
    return [np.empty(0, array.dtype), list(array.shape), list(array.strides), offset, bool(array.flags.writeable)]


def _take_array(value: np.ndarray, walk: Taking) -> Node:
    if isinstance(value, np.memmap):
        raise CannotTake("is an array that lies in a file")
    if value.dtype == object:
        root = _root_of(value)
        if root is not value and root.dtype == object and _dense_order(root) is not None:
            return Node(PART, "", _geometry(value, _address(root))[1:4], [walk.refer(root, "base")], None)
        items = [walk.refer(item, position) for position, item in enumerate(value.reshape(-1).tolist())]
        return Node(OBJECTS, "", list(value.shape), items, None)
    if not codec.holds(value.dtype):
        raise CannotTake(f"is an array of {value.dtype}")
    if isinstance(owner := _owner_of(_root_of(value)), _FOREIGN):
        raise CannotTake(f"is an array over the memory of a {type(owner).__qualname__}")
    return walk.later(value)


def _make_part(node: Node, put: Putting) -> np.ndarray:
    shape, strides, offset = node.value
    root = put.get((node.items or [None])[0])
    flat = root.transpose(_dense_order(root)).reshape(-1)
    return np.lib.stride_tricks.as_strided(flat[offset // root.itemsize :], tuple(shape), tuple(strides))


def _take_row(value: np.void, walk: Taking) -> Node:
    if type(value) is not np.void or not codec.holds(value.dtype):
        raise CannotTake(f"is a row of {value.dtype}")
    row: np.ndarray = np.ndarray((), value.dtype, value)
    if isinstance(value.base, np.ndarray):
        root = _root_of(value)
        if _dense_order(root) is None:
            raise CannotTake("is a row over a memory with gaps")
        return Node(
            ROW, "", [np.empty(0, value.dtype), _address(row) - _address(root)], [walk.refer(root, "base")], None
        )
    return Node(ROW, "", [row.copy(), 0], [], None)


def _make_row(node: Node, put: Putting) -> Any:
    sample, offset = node.value
    if not node.items:
        return sample.copy()[()]
    root = put.get(node.items[0])
    return np.ndarray((), sample.dtype, root.transpose(_dense_order(root)), offset)[()]


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


def _make_storage(node: Node, put: Putting) -> th.Tensor:
    if not node.items:
        return th.from_numpy(node.value.copy())
    offset, size = node.value
    return th.from_numpy(put.get(node.items[0])[offset : offset + size])


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
    Kind(PART, _take_array, _make_part, is_whole_at_once=True),
    Kind(
        ROW,
        _take_row,
        _make_row,
        is_whole_at_once=True,
        fits=lambda live, node: bool(node.items),
        parts=lambda live, node: [_root_of(live)],
        types=(np.void,),
    ),
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
    Kind(STORAGE, _take_tensor, _make_storage, is_whole_at_once=True),
)
