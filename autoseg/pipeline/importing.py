"""A look at a data set: what was understood, a spec that says it, and what only the user knows."""

from dataclasses import dataclass
from pathlib import Path

from autoseg.dataset.dataset import Dataset, DatasetSpec, Finding
from autoseg.dataset.fixes import with_fixes
from autoseg.dataset.open import open_dataset
from autoseg.dataset.spec import spec_json
from autoseg.errors import AutosegError, WorkspaceError
from autoseg.pipeline.import_look import (
    Look,
    Looked,
    OnCase,
    choose_cases,
    find_errors,
    leave_out_broken,
    look_at,
)
from autoseg.pipeline.import_open import Repair, open_repaired, repairs_of
from autoseg.workspace import write_text

SPEC_ENDING = ".json"


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """What a user may ask of an import."""

    dataset: Path
    spec: Path | None = None
    """Written here; None: <name>.json in the current directory."""
    picture: Path | None = None
    """Drawn here; None: beside the spec."""
    start: DatasetSpec | None = None
    """What the user declares already."""
    overwrite: bool = False


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A data set as understood, and where that was written."""

    dataset: Dataset
    dataset_path: Path
    """As the user wrote it."""
    spec: DatasetSpec
    looks: tuple[Look, ...]
    spec_path: Path
    picture_path: Path | None
    """None: no case can be read."""
    repairs: tuple[Repair, ...] = ()
    left_out: tuple[str, ...] = ()
    """Cases that the spec leaves out because a plan would refuse them."""
    problems: tuple[Finding, ...] = ()
    """What the spec declares away: files that do not pair, a layout that is not clear."""
    errors: tuple[Finding, ...] = ()
    """What a plan would refuse all the same."""


def import_dataset(options: ImportOptions, on_case: OnCase = lambda *_: None) -> Imported:
    """Look at a folder, write a spec that says what was understood, and draw three cases.

    Raises
    ------
    AutosegError
        No case can be understood, or a file that is to be written exists. Nothing is written then.
    """
    start = options.start or DatasetSpec()
    spec_path = picture_path = None
    if options.spec is not None:  # refused before any work where the name is known
        spec_path, picture_path = _outputs(options, options.spec.stem)
    opened = open_repaired(options.dataset, start)
    dataset = opened.dataset
    if spec_path is None or picture_path is None:
        spec_path, picture_path = _outputs(options, dataset.name)
    looked, more = _look_repaired(dataset, opened.spec, on_case)
    dataset = looked.dataset
    spec = find_spec(dataset, looked.spec)
    cases = choose_cases([look for look in looked.looks if look.class_voxels])
    write_text(spec_path, spec_json(spec))
    if cases:
        from autoseg.report.first_look import draw_cases

        draw_cases(dataset, cases, picture_path)
    return Imported(
        dataset=dataset,
        dataset_path=options.dataset,
        spec=spec,
        looks=looked.looks,
        spec_path=spec_path,
        picture_path=picture_path if cases else None,
        repairs=(*opened.repairs, *more),
        left_out=(*opened.left_out, *looked.left_out),
        problems=opened.problems,
        errors=looked.errors,
    )


def _look_repaired(
    dataset: Dataset, start: DatasetSpec, on_case: OnCase
) -> tuple[Looked, tuple[Repair, ...]]:
    """Return what pixels tell after putting right what can be, without the few broken cases."""
    looks = look_at(dataset, on_case)
    findings = [finding for look in looks for finding in look.findings]
    spec = with_fixes(start, findings)
    if spec != start:
        dataset = open_dataset(dataset.root, spec, None)
        looks = look_at(dataset, on_case)
    errors = find_errors(dataset, looks)
    looked = Looked(spec=spec, dataset=dataset, looks=looks, errors=errors)
    return leave_out_broken(looked, on_case), repairs_of(findings)


def find_spec(dataset: Dataset, start: DatasetSpec) -> DatasetSpec:
    """Return a declaration that reads a folder to the same data set, as complete as possible.

    Formats differ in what a declaration changes, so what was understood is tried and compared: the
    most telling declaration that leads to the same cases, classes and reading is returned.
    """
    least = start.revised(name=dataset.name, layout=dataset.layout)
    reading = dataset.reading
    most = least.revised(
        channels=dataset.channels,
        threshold=reading.threshold,
        label_map={str(found): meant for found, meant in reading.label_map} or None,
        ignore=dataset.labels.ignore,
        labels=start.labels or declared(dataset),
        fixes=reading.fixes,
    )
    unlabelled = most.revised(labels=start.labels, ignore=start.ignore)
    for spec in (most, unlabelled, least.revised(channels=dataset.channels)):
        if _reads_alike(spec, dataset):
            return spec
    return least


def are_alike(first: Dataset, second: Dataset) -> bool:
    """Return whether two data sets have the same cases, channels, classes and reading."""
    return _essence(first) == _essence(second)


def declared(dataset: Dataset) -> dict[str, int | tuple[int, ...] | str] | None:
    """Return the classes of a data set as a spec declares them; None if it cannot."""
    labels, reading = dataset.labels, dataset.reading
    if reading.masks == "colours":
        names = dict(zip(labels.values, labels.names, strict=True))
        if len({colour[3] for colour in reading.colours}) < len(reading.colours):
            return None  # a class with two colours
        return {names[value]: f"#{r:02x}{g:02x}{b:02x}" for r, g, b, value in reading.colours}
    if not labels.regions:
        return dict(zip(labels.names, labels.values, strict=True))
    content: dict[str, int | tuple[int, ...] | str] = {labels.names[0]: labels.values[0]}
    for region in labels.regions:
        values = tuple(labels.values[index] for index in region.classes)
        content[region.name] = values[0] if len(values) == 1 else values
    return content


def _reads_alike(spec: DatasetSpec, dataset: Dataset) -> bool:
    """Return whether a declaration leads to a data set."""
    try:
        return are_alike(open_dataset(dataset.root, spec, None), dataset)
    except AutosegError:
        return False


def _essence(dataset: Dataset) -> Dataset:
    """Return a data set without what changes nothing: who named its labels, and 1 read as 1."""
    pairs = tuple(pair for pair in dataset.reading.label_map if pair[0] != pair[1])
    return dataset.revised(labels_declared=True, reading=dataset.reading.revised(label_map=pairs))


def _outputs(options: ImportOptions, name: str) -> tuple[Path, Path]:
    """Return where spec and picture are written, after making sure that nothing is in the way."""
    spec = options.spec or Path(f"{name}.json")
    picture = options.picture or spec.with_suffix(".png")
    _refuse_one_file(spec, picture)
    root = options.dataset.resolve()
    for path, was_named in ((spec, options.spec), (picture, options.picture or options.spec)):
        if was_named is None and path.resolve().is_relative_to(root):
            raise WorkspaceError(
                found=f"{path.resolve()} would lie in the data set's folder",
                expected="a place outside: nothing is written beside your data unasked",
                fix="name a file with -o, or run the command in another folder",
            )
        if path.exists() and not options.overwrite:
            raise WorkspaceError(
                found=f"{path} exists",
                expected="a file that can be made",
                fix="name another one with -o, or add --overwrite",
            )
    return spec, picture


def _refuse_one_file(spec: Path, picture: Path) -> None:
    """Refuse names that would make a picture of a spec, or lose one of the two."""
    if spec.suffix.lower() != SPEC_ENDING:
        raise WorkspaceError(
            found=f"the spec is to be written to {spec}",
            expected=f"a name that ends in {SPEC_ENDING}",
            fix=f"-o {spec.with_suffix(SPEC_ENDING)} (the picture is named with --picture)",
        )
    if spec.resolve() == picture.resolve():
        raise WorkspaceError(
            found=f"{spec} for both the spec and the picture",
            expected="two files",
            fix=f"--picture {spec.with_suffix('.png')}",
        )
