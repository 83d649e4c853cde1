"""`autoseg doctor`."""

from pathlib import Path
from typing import TYPE_CHECKING

from autoseg.cli import options

if TYPE_CHECKING:
    from autoseg.machine import Machine


def doctor(json_: options.JsonOption = False) -> None:
    """Say what this machine is and what autoseg will use of it."""
    import shutil
    import tempfile

    from autoseg.cli import display, shared
    from autoseg.machine import measure_machine
    from autoseg.pipeline.run_record import package_versions
    from autoseg.record import autoseg_version

    machine = measure_machine()
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
        ("memory", size(machine.memory_bytes)),
        ("GPU", gpus),
        ("trains on", machine.device),
    ]
