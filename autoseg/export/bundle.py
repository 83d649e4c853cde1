"""The files of an artifact that are copied, its zip, and how both get into place."""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import resources
from pathlib import Path
from uuid import uuid4
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from autoseg.errors import ExportError
from autoseg.runtime.manifest import (
    MANIFEST,
    Manifest,
    StoredFile,
    describe_file,
    parse_manifest,
)
from autoseg.workspace import Workspace

REQUIREMENTS = ("numpy", "scipy", "SimpleITK", "onnxruntime", "pillow")
PREDICT = '''"""Segment images with the model in this folder: python predict.py INPUT... OUT"""

import sys
from pathlib import Path

from runtime.command import main

if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parent))
'''
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every file in a zip, so that the same files give the same zip."""
LARGE_BYTES = 1 << 30
COMPRESSIBLE = (".json", ".md", ".py", ".txt")


def copy_runtime(folder: Path) -> None:
    """Write `runtime/`, a byte copy of `autoseg.runtime`, `predict.py` and its requirements."""
    target = folder / "runtime"
    target.mkdir()
    for source in resources.files("autoseg.runtime").iterdir():
        if source.name.endswith(".py"):
            (target / source.name).write_bytes(source.read_bytes())
    (folder / "predict.py").write_text(PREDICT, encoding="utf-8")
    (folder / "requirements.txt").write_text("\n".join(REQUIREMENTS) + "\n", encoding="utf-8")


def list_files(folder: Path) -> tuple[StoredFile, ...]:
    """Return every file of an artifact but its manifest, with sizes and hashes."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return tuple(describe_file(folder, name) for name in sorted(names) if name != MANIFEST)


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Write the manifest with all files that are there, and return it as it reads back."""
    manifest = replace(manifest, files=list_files(folder))
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return parse_manifest((folder / MANIFEST).read_bytes())


def write_zip(folder: Path, target: Path) -> str:
    """Write a folder as a zip and return its SHA-256; the same files give the same bytes."""
    with ZipFile(target, "w") as archive:
        for path in sorted(item for item in folder.rglob("*") if item.is_file()):
            info = ZipInfo(path.relative_to(folder).as_posix(), EPOCH)
            info.compress_type = ZIP_DEFLATED if path.suffix in COMPRESSIBLE else ZIP_STORED
            info.external_attr = 0o100644 << 16
            large = path.stat().st_size > LARGE_BYTES
            with path.open("rb") as source, archive.open(info, "w", force_zip64=large) as stream:
                shutil.copyfileobj(source, stream)
    with target.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def fresh_folder(workspace: Workspace) -> Iterator[Path]:
    """Yield an empty folder beside the model, removed in the end unless it was put in place.

    Raises
    ------
    ExportError
        The disk is full or the workspace cannot be written; the model there is as it was.
    """
    recover(workspace)
    folder = workspace.root / f".model.{uuid4().hex[:8]}.tmp"
    try:
        folder.mkdir()
        yield folder
    except OSError as error:
        raise ExportError(
            found=f"{workspace.model} cannot be written: {error.strerror or error}",
            expected="a writable workspace with enough free space",
            fix="free space, then run `autoseg export` again; the model there is as it was",
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _zip_beside(folder).unlink(missing_ok=True)


def recover(workspace: Workspace) -> None:
    """Undo what an export left that was killed."""
    old = _old(workspace)
    if old.exists() and not workspace.model.exists():
        old.rename(workspace.model)
    for path in workspace.root.glob(".model.*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def put_in_place(folder: Path, workspace: Workspace) -> str:
    """Zip a finished artifact, replace model/ and model.zip, and return the zip's SHA-256."""
    archive = _zip_beside(folder)
    digest = write_zip(folder, archive)
    old = _old(workspace)
    if workspace.model.exists():
        workspace.model.rename(old)
    folder.rename(workspace.model)
    archive.replace(workspace.model_zip)
    shutil.rmtree(old, ignore_errors=True)
    return digest


def _zip_beside(folder: Path) -> Path:
    return folder.with_name(folder.name + ".zip")


def _old(workspace: Workspace) -> Path:
    """Return where the former model lies while the new one is put in its place."""
    return workspace.root / ".model.old"
