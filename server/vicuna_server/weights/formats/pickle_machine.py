"""Reading the description inside a torch checkpoint (`data.pkl`) without running it.

A pickle is a program; this is an interpreter for the few instructions that torch.save uses (protocol 2) and for the
few names it calls, none of which is ever imported or called: a tensor becomes a `StoredTensor`, a table a dict,
everything else a refusal. No torch is needed, and what a file can make this use is bounded.
"""

import pickletools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from math import prod
from typing import Any

__all__ = ["ForeignTensorError", "Storage", "StoredTensor", "UnsafeError", "describe"]

_MOST_STEPS = 2_000_000  # a 70B model needs fifty thousand
_MOST_DIMENSIONS = 64

# element types under safetensors' names, by torch's names for storages and for types
_STORAGES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}  # fmt: skip
_DTYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2", "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8", "uint64": "U64",
    "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip


class UnsafeError(ValueError):
    """The pickle wants something that could run code."""


class ForeignTensorError(ValueError):
    """The pickle holds a tensor that is not simply rows of numbers."""


@dataclass(frozen=True)
class Storage:
    """A record of the archive that holds numbers; no element type where the file leaves that to the tensors."""

    key: str
    dtype: str | None


@dataclass(frozen=True)
class StoredTensor:
    """A tensor over a storage; offset and strides count elements."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Number of elements."""
        return prod(self.shape)


@dataclass(frozen=True)
class _ElementType:
    dtype: str | None


class _Call(Enum):
    """What a pickle may name to be called."""

    TABLE = "collections OrderedDict"
    TENSOR = "torch._utils _rebuild_tensor_v2"
    TYPED_TENSOR = "torch._utils _rebuild_tensor_v3"
    PARAMETER = "torch._utils _rebuild_parameter"


def describe(data: bytes) -> Any:
    """Return what the pickle holds: dicts, lists, numbers, texts and `StoredTensor`s.

    Raises:
        UnsafeError: it names what could run code.
        ForeignTensorError: it holds a sparse, quantised or wrapped tensor.
        ValueError: it is broken or endless.
    """
    machine = _Machine()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # genops warns of odd escapes in the texts of instructions refused here
            for steps, (operation, argument, _) in enumerate(pickletools.genops(data)):
                if operation.name == "STOP":
                    return machine.pop()
                if steps > _MOST_STEPS:
                    raise ValueError("it has too many instructions")
                machine.step(operation.name, argument)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError("it is not a valid pickle") from error
    raise ValueError("it ends too early")


class _Machine:
    """The stack and the memo of one run."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []  # the stacks under each open mark
        self._memo: dict[int, Any] = {}
        self._steps: dict[str, Callable[[Any], None]] = {
            "PROTO": self._nothing, "MARK": self._mark, "BUILD": self._build,
            "GLOBAL": self._global, "REDUCE": self._reduce, "BINPERSID": self._storage,
            "BINPUT": self._put, "LONG_BINPUT": self._put, "BINGET": self._get, "LONG_BINGET": self._get,
            "SETITEM": self._set_item, "SETITEMS": self._set_items, "APPEND": self._append, "APPENDS": self._extend,
            "EMPTY_DICT": lambda _: self._push({}), "EMPTY_LIST": lambda _: self._push([]),
            "EMPTY_TUPLE": lambda _: self._push(()), "NONE": self._push,
            "NEWTRUE": lambda _: self._push(True), "NEWFALSE": lambda _: self._push(False),
            "TUPLE": lambda _: self._push(tuple(self._since_mark())),
            "TUPLE1": lambda _: self._tuple(1), "TUPLE2": lambda _: self._tuple(2), "TUPLE3": lambda _: self._tuple(3),
            "BINUNICODE": self._push, "BINFLOAT": self._push,
            "BININT": self._push, "BININT1": self._push, "BININT2": self._push, "LONG1": self._push,
        }  # fmt: skip

    def step(self, operation: str, argument: Any) -> None:
        step = self._steps.get(operation)
        if step is None:
            raise UnsafeError(f"the instruction {operation}")
        step(argument)

    def pop(self) -> Any:
        return self._stack.pop()

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _nothing(self, _: Any) -> None:
        """Pass over what says nothing about content."""

    def _mark(self, _: Any) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _since_mark(self) -> list[Any]:
        """Return what lies above the last mark, and take up the stack below it."""
        items, self._stack = self._stack, self._below.pop()
        return items

    def _tuple(self, count: int) -> None:
        if len(self._stack) < count:
            raise IndexError(count)
        self._stack[-count:] = [tuple(self._stack[-count:])]

    def _put(self, place: int) -> None:
        self._memo[place] = self._stack[-1]

    def _get(self, place: int) -> None:
        self._push(self._memo[place])

    def _set_item(self, _: Any) -> None:
        self._fill([self._stack.pop(-2), self._stack.pop()])

    def _set_items(self, _: Any) -> None:
        self._fill(self._since_mark())

    def _fill(self, items: list[Any]) -> None:
        table = self._stack[-1]
        if type(table) is not dict or len(items) % 2:
            raise TypeError("no table")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (str, int):  # hashing a hostile tuple may recurse without end
                raise TypeError("a strange key")
            table[key] = value

    def _append(self, _: Any) -> None:
        self._lengthen([self._stack.pop()])

    def _extend(self, _: Any) -> None:
        self._lengthen(self._since_mark())

    def _lengthen(self, items: list[Any]) -> None:
        if type(self._stack[-1]) is not list:
            raise TypeError("no list")
        self._stack[-1].extend(items)

    def _build(self, _: Any) -> None:
        """Drop the attributes of a table, such as a state dict's `_metadata`."""
        self._stack.pop()
        if type(self._stack[-1]) is not dict:
            raise UnsafeError("an object's state")

    def _global(self, name: str) -> None:
        self._push(_named(name))

    def _reduce(self, _: Any) -> None:
        arguments = self._stack.pop()
        call = self._stack.pop()
        if type(arguments) is not tuple:
            raise TypeError("no arguments")
        self._push(_call(call, arguments))

    def _storage(self, _: Any) -> None:
        kind, element_type, key, _location, _count = self._stack.pop()
        if kind != "storage" or type(element_type) is not _ElementType or type(key) is not str:
            raise TypeError("no storage")
        self._push(Storage(key, element_type.dtype))


def _named(name: str) -> Any:
    """Return what stands for a name: a call, or an element type."""
    module, _, member = name.partition(" ")
    if module == "torch" and member in _STORAGES:
        return _ElementType(_STORAGES[member])
    if module == "torch" and member in _DTYPES:
        return _ElementType(_DTYPES[member])
    if name == "torch.storage UntypedStorage":
        return _ElementType(None)
    if any(name == call.value for call in _Call):
        return _Call(name)
    if _makes_foreign_tensor(name):
        raise ForeignTensorError(member)
    raise UnsafeError(name.replace(" ", "."))


def _makes_foreign_tensor(name: str) -> bool:
    """Tell whether torch would make a tensor of it that no merge can read, such as a complex or a sparse one."""
    if name.startswith(("torch._utils _rebuild_", "torch._tensor _rebuild_")):
        return True
    return name.startswith("torch ") and name.endswith(("Storage", "complex64", "complex128"))


def _call(call: Any, arguments: tuple[Any, ...]) -> Any:
    if call is _Call.TABLE and not arguments:
        return {}
    if call is _Call.PARAMETER and type(arguments[0]) is StoredTensor:
        return arguments[0]
    if call is _Call.TENSOR or call is _Call.TYPED_TENSOR:
        return _tensor(call, arguments)
    raise TypeError("no call")


def _tensor(call: _Call, arguments: tuple[Any, ...]) -> StoredTensor:
    typed = call is _Call.TYPED_TENSOR
    storage, offset, shape, strides = arguments[:4]
    if type(storage) is not Storage:
        raise TypeError("no storage")
    dtype = storage.dtype if not typed else arguments[6].dtype
    if dtype is None:
        raise TypeError("no element type")
    if any(arguments[7 if typed else 6 :]):
        raise ForeignTensorError("a negated or conjugated view")
    if not (_are_counts([offset]) and _are_counts(shape) and _are_counts(strides) and len(shape) == len(strides)):
        raise TypeError("no shape")
    return StoredTensor(storage, dtype, offset, tuple(shape), tuple(strides))


def _are_counts(value: Any) -> bool:
    """Whether it is a row of at most 64 integers of 0 .. 2**63 - 1."""
    return (
        type(value) in (tuple, list)
        and len(value) <= _MOST_DIMENSIONS
        and all(type(item) is int and 0 <= item < 2**63 for item in value)
    )
