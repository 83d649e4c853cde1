"""`autoseg predict`."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from autoseg.cli import options
from autoseg.cli.display import print_json
from autoseg.cli.progress import LINE_INTERVAL_S

if TYPE_CHECKING:
    from autoseg.runtime.cases import Outcome
    from autoseg.runtime.manifest import Manifest


def predict(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="Artifact folder, model.zip, or workspace.")
    ],
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Files or folders.")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder for the labels, or a file for one image's."),
    ],
    effort: Annotated[str, typer.Option(help="fast, balanced or accurate.")] = "balanced",
    no_tta: Annotated[
        bool, typer.Option("--no-tta", help="Do not average mirrored predictions.")
    ] = False,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write the classes' probabilities, too.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Predict again what is there already.")
    ] = False,
    missing: Annotated[
        list[str] | None,
        typer.Option("--missing", help="A channel that is absent: its number (from 0) or name."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    backend: Annotated[str, typer.Option(help="auto, onnx or torch.")] = "auto",
    ram: options.RamOption = None,
    json_: options.JsonOption = False,
) -> None:
    """Segment images with a trained model; one bad file never stops the rest."""
    from autoseg.export.backend import find_artifact, open_model, parse_effort
    from autoseg.infer.zarr_stores import ZarrStores
    from autoseg.runtime.cases import refuse_missing
    from autoseg.runtime.manifest import load_manifest
    from autoseg.runtime.missing import parse_missing
    from autoseg.runtime.runner import PredictOptions, predict_files

    start = time.perf_counter()
    refuse_missing(inputs)
    chosen = parse_effort(effort, mirroring=not no_tta)
    with find_artifact(model) as folder, TemporaryDirectory(prefix="autoseg-") as place:
        manifest = load_manifest(folder)
        absent = parse_missing(manifest, missing or [])
        files, failed = _readable(inputs, manifest, absent, Path(place))
        opened, used = open_model(
            folder, backend, device=device, inputs=files, effort=chosen, missing=absent
        )
        choice = PredictOptions(
            effort=chosen,
            probabilities=probabilities,
            overwrite=overwrite,
            missing=absent,
            ram=ram,
            stores=ZarrStores(),
        )
        summary = predict_files(opened, files, output, choice, _Progress(), failed)
    seconds = time.perf_counter() - start
    if json_:
        print_json({**summary.to_dict(), "backend": used, "seconds": round(seconds, 3)})
    else:
        print(
            f"{summary.count('done')} predicted, {summary.count('skipped')} there already, "
            f"{summary.count('failed')} failed in {seconds:.1f} s ({used}): {output}"
        )
        if summary.count("skipped"):
            print("what was there is of the same model; --overwrite predicts it again")
    if summary.exit_code:
        raise typer.Exit(summary.exit_code)


def _readable(
    inputs: list[Path], manifest: "Manifest", missing: Sequence[int], folder: Path
) -> "tuple[Sequence[Path], Sequence[Outcome]]":
    """Return the inputs as the runtime reads them, and what could not be made so."""
    if manifest.dimensions != 1:
        return inputs, ()
    from autoseg.pipeline.recordings import tables_of

    return tables_of(inputs, manifest, missing, folder)


class _Progress:
    """Lines on standard error: every failure, and how far it is."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, outcome: "Outcome", done: int, total: int) -> None:
        """Show one case's outcome."""
        if outcome.status == "failed":
            print(f"{outcome.case_id} failed: {outcome.message}", file=sys.stderr, flush=True)
        if outcome.measures:
            text = f"{outcome.case_id}: predicted {outcome.measures}, for want of memory"
            print(text, file=sys.stderr, flush=True)
        if sys.stderr.isatty():
            end = "\n" if done == total else ""
            print(f"\r{done}/{total} ", end=end, file=sys.stderr, flush=True)
        elif time.monotonic() - self._last > LINE_INTERVAL_S:
            self._last = time.monotonic()
            print(f"{done}/{total}", file=sys.stderr, flush=True)
