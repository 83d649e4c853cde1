"""`autoseg doctor`."""

from autoseg.cli import options


def doctor(json_: options.JsonOption = False) -> None:
    """Say what this machine is and what autoseg will use of it."""
    from autoseg.cli import display
    from autoseg.machine import measure_machine

    machine = measure_machine()
    if json_:
        display.print_json(machine.model_dump(mode="json"))
        return
    rows = [(name, str(value)) for name, value in machine.model_dump(mode="json").items()]
    display.print_table("This machine", ("", ""), rows)
