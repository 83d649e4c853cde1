"""The command of an artifact: `python predict.py INPUT... OUT`."""

import argparse
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from .cases import Outcome, refuse_missing
from .errors import AutosegError
from .missing import parse_missing
from .model import EFFORTS, Model, open_onnx
from .runner import PredictOptions, predict_files

MIN_AGREEMENT = 0.999
"""Processors round differently; fewer equal labels mean that something is broken."""


UNITS = {"GB": 10**9, "MB": 10**6, "GiB": 2**30, "MiB": 2**20}


def parse_size(text: str) -> int:
    """Return the bytes of a size such as "8GB"; an error tells argparse that it is none."""
    unit = next((unit for unit in UNITS if text.endswith(unit)), "")
    if not unit:
        raise ValueError(text)
    size = int(float(text[: -len(unit)]) * UNITS[unit])
    if size <= 0:
        raise ValueError(text)
    return size


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="predict.py",
        usage="%(prog)s [options] INPUT... OUT",
        description="Segment images with the model in this folder.",
    )
    parser.add_argument(
        "paths",
        nargs="*",
        type=Path,
        help="image files or folders, then the folder for the labels, or the file for one image's",
    )
    parser.add_argument(
        "-o", "--output", type=Path, help="the folder or the file for the labels, named"
    )
    parser.add_argument("--effort", choices=sorted(EFFORTS), default="balanced")
    parser.add_argument("--no-tta", action="store_true", help="do not average mirrored predictions")
    parser.add_argument("--probabilities", action="store_true", help="write probabilities too")
    parser.add_argument(
        "--missing", action="append", default=[], help="a channel that is absent: number or name"
    )
    parser.add_argument("--overwrite", action="store_true", help="predict existing outputs again")
    parser.add_argument(
        "--ram", type=parse_size, metavar="SIZE", help="memory that may be taken, such as 8GB"
    )
    parser.add_argument("--threads", type=int, default=0, help="0: one a processor")
    parser.add_argument("--verify", action="store_true", help="predict the verification case only")
    return parser


def main(folder: Path, arguments: Sequence[str] | None = None) -> int:
    """Run the command with the artifact in `folder`; return 0, or 2 with a message."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    paths: list[Path] = options.paths
    output: Path | None = options.output or (paths.pop() if paths else None)
    if not options.verify and not paths:
        parser.error("name at least one INPUT, and the folder OUT")
    warnings.filterwarnings("ignore", module=r"PIL\b")  # of EXIF data, which viewers pass over too
    try:
        refuse_missing(paths)
        model = Model(folder, partial(open_onnx, num_threads=options.threads))
        if options.verify:
            return _verify(model)
        assert output is not None
        effort = EFFORTS[options.effort]
        effort = replace(effort, mirroring="never") if options.no_tta else effort
        choice = PredictOptions(
            effort=effort,
            probabilities=options.probabilities,
            overwrite=options.overwrite,
            missing=parse_missing(model.manifest, options.missing),
            ram=options.ram,
        )
        return predict_files(model, paths, output, choice, _show).exit_code
    except AutosegError as error:
        sys.stderr.write(f"predict.py: {error}\n")
        return 2


def _verify(model: Model) -> int:
    agreement = model.verify()
    if agreement is None:
        sys.stdout.write("this artifact holds no verification case\n")
        return 0
    sys.stdout.write(f"label agreement with the expected output: {agreement:.6f}\n")
    return 0 if agreement >= MIN_AGREEMENT else 2


def _show(outcome: Outcome, done: int, total: int) -> None:
    stream = sys.stderr if outcome.status == "failed" else sys.stdout
    text = outcome.message or str(outcome.output)
    text += f" ({outcome.measures}, for want of memory)" if outcome.measures else ""
    stream.write(f"[{done}/{total}] {outcome.case_id}: {outcome.status}: {text}\n")
