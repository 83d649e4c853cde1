"""Where real data sets and the bare environment are, for the tests that need them."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parents[1]

# The same examples in every run, and no failure because the machine is busy.
settings.register_profile("autoseg", deadline=None, derandomize=True, database=None)
settings.load_profile("autoseg")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--data",
        type=Path,
        default=ROOT / "../shared" / "data",
        help="Folder of real data sets; tests that need one are skipped where it is absent.",
    )
    parser.addoption(
        "--bare-python",
        type=Path,
        default=None,
        help="Python of an environment that has only what an exported model needs.",
    )


@pytest.fixture(scope="session")
def data(pytestconfig: pytest.Config) -> Path:
    """Folder of real data sets."""
    return _existing(pytestconfig, ".")


@pytest.fixture(scope="session")
def reference(pytestconfig: pytest.Config) -> Path:
    """Folder of published plans with their fingerprints, beside the real data sets."""
    return _existing(pytestconfig, "../reference")


@pytest.fixture(scope="session")
def bare_python(pytestconfig: pytest.Config) -> Path:
    """Python that can import what an exported model needs, and neither torch nor us."""
    python = pytestconfig.getoption("--bare-python")
    if python is None:
        pytest.skip("no --bare-python given; `make test` builds that environment")
    return python.absolute()  # not resolved: the link is what makes it a virtual environment


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout."""
    return ROOT


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the user's cache directory out of the tests."""
    path = tmp_path_factory.mktemp("cache") / "machine.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autoseg.cli.shared.machine_file", lambda: path)
        yield


@pytest.fixture(scope="session")
def largest_file() -> Callable[[int], AbstractContextManager[None]]:
    """Within `largest_file(size)` no file grows beyond so many bytes, as on a full disk."""
    return _largest_file


@contextmanager
def _largest_file(size: int) -> Iterator[None]:
    import resource  # Unix only

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _existing(config: pytest.Config, place: str) -> Path:
    """Return a folder relative to `--data`, or skip the test."""
    folder = Path(str(config.getoption("--data")), place).resolve()
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}; name the real data sets with --data")
    return folder
