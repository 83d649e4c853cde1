"""`autoseg doctor`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autoseg.cli import options

if TYPE_CHECKING:
    from autoseg.machine import Machine, StepSpeed


def doctor(
    measure: Annotated[
        bool,
        typer.Option(
            "--measure", help="Measure how fast it trains, for later plans: up to a minute."
        ),
    ] = False,
    json_: options.JsonOption = False,
) -> None:
    """Say what this machine is and what autoseg will use of it."""
    import shutil
    import tempfile

    from autoseg.cli import display, shared
    from autoseg.machine import measure_machine
    from autoseg.pipeline.known_machines import keep_speed, remembered
    from autoseg.pipeline.run_record import package_versions
    from autoseg.record import autoseg_version

    machine = remembered(measure_machine(), shared.machine_file())
    if measure:
        machine = keep_speed(machine, _measured(machine), shared.machine_file())
    versions = {"autoseg": autoseg_version(), **package_versions()}
    cache = shared.machine_file().parent
    places = (Path.cwd(), Path(tempfile.gettempdir()))
    free = {str(place): shutil.disk_usage(place).free for place in places}
    if json_:
        more = {"versions": versions, "cache": str(cache), "free_bytes": free}
        display.print_json({**machine.model_dump(mode="json"), **more})
        return
    from autoseg.report.text import size

    rows = machine_rows(machine, versions["torch"])
    rows += [(f"free disk at {place}", size(count)) for place, count in free.items()]
    rows.append(("cache", str(cache)))
    display.print_table("This machine", ("", ""), rows)
    display.print_table("Versions", ("package", "version"), list(versions.items()))


def _measured(machine: "Machine") -> "StepSpeed":
    """Return the speed of the device that is trained on, with lines about the progress."""
    import sys

    from autoseg.pipeline.measuring import measure_speed

    def tell(done: int, total: int) -> None:
        print(f"measured {done} of {total} networks", file=sys.stderr, flush=True)

    return measure_speed(machine, machine.device, tell)


def machine_rows(machine: "Machine", torch_version: str) -> list[tuple[str, str]]:
    """Return what a machine is, for people: name and value."""
    from autoseg.report.text import size

    gpus = ", ".join(f"{gpu.name} with {size(gpu.memory_bytes)}" for gpu in machine.gpus) or "none"
    if machine.gpus and torch_version.endswith("+cpu"):
        gpus += "; the installed torch is a build for processors only and cannot use it"
    return [
        ("system", machine.system),
        ("Python", machine.python),
        ("processors", f"{machine.num_cpus} usable"),
        ("their extensions", ", ".join(machine.cpu_features) or "none that matter"),
        ("bfloat16 in hardware", "yes" if machine.has_bf16 else "no"),
        ("speed", f"{machine.flops / 1e9:.0f} billion operations a second (float32, all of them)"),
        *_speed_rows(machine),
        ("memory", size(machine.memory_bytes)),
        ("GPU", gpus),
        ("trains on", machine.device),
    ]


def _speed_rows(machine: "Machine") -> list[tuple[str, str]]:
    """Return what is known about how fast it trains."""
    rows = [
        (
            f"training on {speed.device}, {speed.precision}",
            f"{_rate(speed.operation_s, 1e9)} billion operations a second, "
            f"{_rate(speed.value_s, 1e6)} million feature values a second, "
            f"{1e3 * speed.layer_s:.2g} ms a layer (measured)",
        )
        for speed in machine.speeds
    ]
    rows += [
        (f"a step in {run.run}", f"{run.ratio:.2f} times what was expected")
        for run in machine.trained
    ]
    return rows


def _rate(seconds: float, unit: float) -> str:
    """Return how many units of a million or a billion are done in a second."""
    return f"{1 / (unit * seconds):.0f}" if seconds > 0 else "any number of"
