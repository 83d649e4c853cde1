import pytest

from autoseg.errors import AutosegError
from autoseg.machine import Gpu, measure_machine, memory_kills, parse_gpus, usable_memory
from autoseg.testing.fingerprints import machine_of

GPU = Gpu(name="NVIDIA A100", memory_bytes=40 * 2**30)


def test_this_machine_can_be_measured():
    machine = measure_machine()
    assert machine.num_cpus >= 1
    assert machine.memory_bytes > 2**28
    assert 1e8 < machine.flops < 1e15


class SharedProcessor:
    """Clocks of a process that computes a tenth of the time; a product takes it a second."""

    def __init__(self):
        self.now = 0.0

    def multiply(self, *_, out):
        self.now += 1.0

    def perf_counter(self):
        self.now += 0.01
        return self.now

    def thread_time(self):
        return self.now / 10

    def process_time(self):
        return self.now / 10


def test_time_in_which_other_programs_have_the_processor_is_not_the_machines(monkeypatch):
    shared = SharedProcessor()
    monkeypatch.setattr("autoseg.machine.time", shared)
    monkeypatch.setattr("autoseg.machine.np.matmul", shared.multiply)
    monkeypatch.setattr("autoseg.machine.usable_cpus", lambda: 2)
    assert measure_machine().flops == float(f"{2 * 1024**3 / 0.1:.1e}")


def test_the_memory_of_a_container_limits_that_of_the_machine(tmp_path):
    physical = usable_memory(tmp_path)
    (tmp_path / "memory.max").write_text("1000000000\n")
    assert usable_memory(tmp_path) == 1_000_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert usable_memory(tmp_path) == physical


def test_processes_that_memory_has_ended_are_counted_where_the_system_says_so(tmp_path):
    counters = tmp_path / "vmstat"
    assert memory_kills(counters) is None
    counters.write_text("pgfault 12\noom_kill 3\n")
    assert memory_kills(counters) == 3


def test_the_listing_of_gpus_is_read_and_other_lines_are_not():
    found = parse_gpus("NVIDIA A100, 40960\nNo devices were found\nH100 MIG, [N/A]\n")
    assert found == (GPU,)


@pytest.mark.parametrize(
    ("machine", "word", "device"),
    [
        (machine_of(), "auto", ("cpu", None)),
        (machine_of(GPU), "auto", ("cuda", None)),
        (machine_of(GPU, GPU), "cuda:1", ("cuda", 1)),
        (machine_of(GPU), "cpu", ("cpu", None)),
    ],
)
def test_a_word_names_a_device(machine, word, device):
    assert machine.resolve_device(word) == device


@pytest.mark.parametrize(
    ("machine", "word"),
    [
        (machine_of(), "cuda"),
        (machine_of(), "gpu"),
        (machine_of(), "mps"),
        (machine_of(), "cpu:foo"),
        (machine_of(GPU), "cuda:1"),
        (machine_of(GPU), "cuda:"),
    ],
)
def test_a_device_that_is_not_there_is_refused(machine, word):
    with pytest.raises(AutosegError, match="CPU"):
        machine.resolve_device(word)


def test_apple_silicon_trains_on_its_own_device():
    machine = machine_of().revised(system="Darwin-arm64-24")
    assert machine.resolve_device("mps") == (machine.device, None) == ("mps", None)


def test_a_speed_that_is_known_is_not_measured_again(monkeypatch):
    monkeypatch.setattr("autoseg.machine._matrix_flops", lambda: 1 / 0)
    assert measure_machine(2e11).flops == 2e11
