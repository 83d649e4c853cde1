"""Prepared cases on disk: read in patches while training, whole while validating.

A case is four files: image and labels as compressed arrays in patch-shaped chunks, the voxels of
each class as flat indices, and a JSON that is written last: a case is there when its JSON is.

Letters in shapes: C channels, K classes, S' spatial axes of the prepared array, N voxels.
"""

import hashlib
import io
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, cast
from urllib.parse import quote
from uuid import uuid4

import blosc2
import numpy as np
from numpy.typing import NDArray

from autoseg.errors import AutosegError, WorkspaceError
from autoseg.record import Record

MAX_STEM = 150
"""Longest file stem, so that suffixes and temporary names stay under a file system's 255 bytes."""
MAX_HALF = 6e4
"""Largest value kept in half precision (which ends at 65504)."""
MAX_HALF_ERROR = 1e-3
"""Largest rounding error of half precision (RMS), in standard deviations of the channel."""
CHUNK_BYTES = 1 << 21
"""Size to which chunks grow: each costs half a millisecond to write."""
FLAT_RATIO = 3
"""A patch is flat if its first axis is this many times shorter than the longest."""
BLOCK_BYTES = 128 * 1024
"""Largest unit of decompression: stays in a core's cache."""
STALE_S = 3600.0
"""A temporary file that nobody has written to for this long belongs to nobody."""
ARRAY_SUFFIXES = (".b2nd", ".labels.b2nd", ".locations.npy")


class PreparedCase(Record):
    """What is known about a prepared case besides its arrays."""

    schema_version: Literal[1] = 1
    autoseg_version: str
    case_id: str
    dtype: Literal["float16", "float32"]
    shape: tuple[int, ...]
    """(C, *S')."""
    spacing: tuple[float, ...]
    """Of the prepared array's axes."""
    mean: tuple[float, ...]
    """Subtracted from each channel; 0 where the image was normalised before resampling."""
    std: tuple[float, ...]
    placement: dict[str, list[int] | list[list[int]] | int | None]
    """`Placement.to_dict()`: the way back to the image's own grid."""
    class_voxels: tuple[int, ...]
    """Voxels of each class on the prepared grid, background first."""
    num_annotated: int
    """Voxels that are not ignored."""
    location_offsets: tuple[int, ...]
    """Stored locations of class k are those from offset k to offset k + 1 (K + 1 numbers)."""
    source_hash: str
    """Changes with the names, sizes or times of the case's files."""
    recipe_digest: str
    """Changes with everything that the arrays depend on besides the source."""
    file_sizes: tuple[int, ...] = ()
    """Bytes of the array files, in the order of `ARRAY_SUFFIXES`; filled in when written."""


class StoredArray(Protocol):
    """An array on disk, opened: indexing it reads the parts that are needed."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    @property
    def chunks(self) -> tuple[int, ...]: ...

    @property
    def blocks(self) -> tuple[int, ...]: ...

    def __getitem__(self, key: slice | tuple[slice | int, ...]) -> NDArray: ...


class WritableArray(StoredArray, Protocol):
    """An array on disk that is being filled."""

    def __setitem__(self, key: tuple[slice, ...], value: NDArray) -> None: ...


@dataclass(frozen=True)
class Draft:
    """An array that is filled block by block before it becomes part of a case."""

    path: Path
    array: WritableArray


@dataclass(frozen=True)
class CaseArrays:
    """The arrays of one prepared case."""

    image: NDArray[np.float16] | NDArray[np.float32]
    """(C, *S'), normalised."""
    labels: NDArray[np.signedinteger]
    """(*S') class indices."""
    locations: NDArray[np.integer]
    """(N,) flat indices into S', by class, rising within a class."""


@dataclass(frozen=True)
class CaseStore:
    """The prepared cases of one configuration. Threads may share it."""

    folder: Path
    _infos: dict[str, PreparedCase] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def info(self, case_id: str) -> PreparedCase:
        """Return what is known about a case."""
        if case_id not in self._infos:
            self._infos[case_id] = PreparedCase.load(self._path(case_id, ".json"))
        return self._infos[case_id]

    def image(self, case_id: str) -> StoredArray:
        """Return the image (C, *S'). Not for several threads at once: each opens its own."""
        return open_array(self._path(case_id, ".b2nd"))

    def labels(self, case_id: str) -> StoredArray:
        """Return the class indices (*S'). Not for several threads at once: each opens its own."""
        return open_array(self._path(case_id, ".labels.b2nd"))

    def flat_locations(self, case_id: str, class_index: int) -> NDArray[np.integer]:
        """Return (N,) flat indices of voxels of a class; a view of the file.

        Index 0 stands for the voxels with annotation, and is filled only where labels may be
        ignored.
        """
        first, last = self.info(case_id).location_offsets[class_index : class_index + 2]
        # Not kept open: each mapping holds a file descriptor, and there may be thousands of cases.
        return np.load(self._path(case_id, ".locations.npy"), mmap_mode="r")[first:last]

    def find(self, case_id: str, *, source_hash: str, recipe_digest: str) -> PreparedCase | None:
        """Return a case if it is there and was made of just this; else None."""
        path = self._path(case_id, ".json")
        if not path.exists():
            return None
        try:
            info = PreparedCase.load(path)
        except AutosegError:
            return None
        made_of = (info.case_id, info.source_hash, info.recipe_digest)
        if made_of != (case_id, source_hash, recipe_digest):
            return None
        paths = [self._path(case_id, suffix) for suffix in ARRAY_SUFFIXES]
        sizes = tuple(path.stat().st_size if path.exists() else None for path in paths)
        return info if sizes == info.file_sizes else None

    def write(
        self, info: PreparedCase, arrays: CaseArrays, patch_size: Sequence[int]
    ) -> PreparedCase:
        """Write a case at once or not at all; return what is known about it then.

        Raises
        ------
        WorkspaceError
            The disk is full or the folder cannot be written; nothing of the case is left.
        """
        contents = (
            compressed(arrays.image, patch_size),
            compressed(arrays.labels, patch_size),
            _npy(arrays.locations),
        )
        info = info.revised(file_sizes=tuple(len(content) for content in contents))
        with self._all_or_nothing(info.case_id):
            for suffix, content in zip(ARRAY_SUFFIXES, contents, strict=True):
                _write_new(self._path(info.case_id, suffix), content)
            _write_new(self._path(info.case_id, ".json"), info.to_json().encode())
        return info

    @contextmanager
    def draft(
        self,
        case_id: str,
        suffix: str,
        shape: tuple[int, ...],
        dtype: np.dtype,
        patch: Sequence[int],
    ) -> "Iterator[Draft]":
        """Give an array on disk to be filled block by block; it is gone after the body.

        Raises
        ------
        WorkspaceError
            The disk is full or the folder cannot be written.
        """
        path = self._path(case_id, suffix)
        temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield Draft(temporary, _new_array(temporary, shape, dtype, patch))
        except (OSError, RuntimeError) as error:  # blosc2 raises the latter
            raise _unwritable(self.folder, error) from error
        finally:
            temporary.unlink(missing_ok=True)

    def write_drafts(
        self, info: PreparedCase, image: "Draft", labels: "Draft", locations: NDArray[np.integer]
    ) -> PreparedCase:
        """Take over filled drafts as a case, at once or not at all; see `write`."""
        content = _npy(locations)
        sizes = *(draft.path.stat().st_size for draft in (image, labels)), len(content)
        info = info.revised(file_sizes=sizes)
        with self._all_or_nothing(info.case_id):
            for draft, suffix in zip((image, labels), ARRAY_SUFFIXES, strict=False):
                draft.path.replace(self._path(info.case_id, suffix))
            _write_new(self._path(info.case_id, ARRAY_SUFFIXES[2]), content)
            _write_new(self._path(info.case_id, ".json"), info.to_json().encode())
        return info

    def share(self, info: PreparedCase, other: "CaseStore") -> None:
        """Take over the arrays of another configuration's case, without a copy where possible.

        Raises
        ------
        WorkspaceError
            The disk is full or the folder cannot be written; nothing of the case is left.
        """
        with self._all_or_nothing(info.case_id):
            for suffix in ARRAY_SUFFIXES:
                _link(other._path(info.case_id, suffix), self._path(info.case_id, suffix))
            _write_new(self._path(info.case_id, ".json"), info.to_json().encode())

    @contextmanager
    def _all_or_nothing(self, case_id: str) -> Iterator[None]:
        """Take away the old JSON first, and on failure all files, so that no mixture is taken."""
        self._infos.pop(case_id, None)
        try:
            self._path(case_id, ".json").unlink(missing_ok=True)
            yield
        except OSError as error:
            with suppress(OSError):
                self.remove(case_id)
            raise _unwritable(self.folder, error) from error

    def remove_stale(self) -> None:
        """Remove what writers left that were killed more than `STALE_S` ago."""
        remove_stale(self.folder)

    def remove(self, case_id: str) -> None:
        """Remove what there is of a case."""
        for suffix in (".json", *ARRAY_SUFFIXES):
            self._path(case_id, suffix).unlink(missing_ok=True)

    def _path(self, case_id: str, suffix: str) -> Path:
        return self.folder / (file_stem(case_id) + suffix)


def remove_stale(folder: Path) -> None:
    """Remove what writers left in a folder that were killed more than `STALE_S` ago."""
    for path in folder.glob(".*.tmp"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > STALE_S:
                path.unlink()


def file_stem(case_id: str) -> str:
    """Return a file name without suffix for any case id: one for each id, safe on every system."""
    # "." would let the id "a.labels" meet the labels of "a"; "~" marks shortened names.
    stem = quote(case_id, safe="").replace(".", "%2E").replace("~", "%7E")
    if len(stem) <= MAX_STEM:
        return stem
    return f"{stem[: MAX_STEM - 17]}~{hashlib.sha256(case_id.encode()).hexdigest()[:16]}"


def smallest_float(image: NDArray[np.float32]) -> NDArray[np.float16] | NDArray[np.float32]:
    """Return (C, *S') in half precision where range and rounding of every channel allow it."""
    half = np.empty(image.shape, dtype=np.float16)
    for channel, target in zip(image, half, strict=True):
        if max(-channel.min(), channel.max()) >= MAX_HALF:
            return image
        squares = 0.0
        parts = (channel, target) if channel.ndim > 1 else (channel[None], target[None])
        for values, rounded in zip(*parts, strict=True):  # that stay in the cache
            rounded[...] = values
            error = rounded.astype(np.float32)
            error -= values
            squares += float(np.square(error, out=error).sum())
        error_rms = math.sqrt(squares / channel.size)
        if error_rms > 0 and error_rms >= MAX_HALF_ERROR * float(channel.std()):
            return image
    return half


def _unwritable(folder: Path, error: OSError | RuntimeError) -> WorkspaceError:
    reason = (error.strerror if isinstance(error, OSError) else None) or error
    return WorkspaceError(
        found=f"{folder} cannot be written: {reason}",
        expected="a writable folder with enough free space",
        fix="free space or choose another folder with -w; then run the same command again",
    )


def compressed(array: NDArray, patch_size: Sequence[int]) -> bytes:
    """Return the file content of an array (*S') or (C, *S'), in chunks of the patch's shape."""
    stored: Any = blosc2.asarray(
        cast("Any", np.ascontiguousarray(array)),
        contiguous=True,
        **_storage(array.shape, array.itemsize, patch_size),
    )
    return stored.to_cframe()


def _new_array(
    path: Path, shape: tuple[int, ...], dtype: np.dtype, patch_size: Sequence[int]
) -> "WritableArray":
    """Return an array on disk, of no values yet, in chunks of the patch's shape."""
    options = _storage(shape, dtype.itemsize, patch_size)
    array = blosc2.empty(shape, dtype, urlpath=str(path), mode="w", contiguous=True, **options)
    return cast("WritableArray", array)


def _storage(shape: tuple[int, ...], itemsize: int, patch_size: Sequence[int]) -> dict[str, Any]:
    """Return how an array (*S') or (C, *S') is chunked and compressed."""
    leading = len(shape) - len(patch_size)
    want = (*(1,) * leading, *patch_size)
    patch = tuple(min(pair) for pair in zip(shape, want, strict=True))
    return {
        "chunks": _chunk_shape(patch, shape, itemsize),
        "blocks": _block_shape(patch, itemsize),
        "cparams": blosc2.CParams(
            codec=blosc2.Codec.LZ4, clevel=5, filters=[blosc2.Filter.SHUFFLE], nthreads=1
        ),
    }


def _chunk_shape(patch: tuple[int, ...], shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Return the patch grown to `CHUNK_BYTES`, first axes first; its blocks stay small."""
    chunks = list(patch)
    for axis in range(len(shape)):
        room = CHUNK_BYTES // (math.prod(chunks) * itemsize)
        if room > 1:
            chunks[axis] = min(shape[axis], chunks[axis] * room)
    return tuple(chunks)


def _block_shape(patch: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Return the patch halved until it is a block of `BLOCK_BYTES`: a cube, or a slab of slices.

    Of flat patches the first axis is halved first, so that single slices are quick to read.
    """
    blocks = list(patch)
    while math.prod(blocks) * itemsize > BLOCK_BYTES:
        longest = blocks.index(max(blocks))
        thin = next((axis for axis, size in enumerate(blocks) if size > 1), longest)
        axis = thin if FLAT_RATIO * blocks[thin] < blocks[longest] else longest
        blocks[axis] = (blocks[axis] + 1) // 2
    return tuple(blocks)


def _npy(array: NDArray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def open_array(path: Path) -> StoredArray:
    """Return an array on disk. Not for several threads at once."""
    options: dict[str, Any] = {"mmap_mode": "r", "dparams": blosc2.DParams(nthreads=1)}
    return cast("StoredArray", blosc2.open(str(path), mode="r", **options))


def _write_new(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, then rename it.

    Not forced to the disk, which would cost more than preparing a small case: after a power cut, a
    file that is missing or cut short shows in its size (see `CaseStore.find`) and is made again.
    """
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _link(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`, or a copy where the file system has no links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        _write_new(target, source.read_bytes())
