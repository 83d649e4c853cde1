"""Networks compiled by torch, where a compiler is installed."""

from typing import Any

import pytest
import torch
from torch._dynamo.exc import BackendCompilerFailed

pytestmark = [
    pytest.mark.slow,
    # Of the compiler's own code, not of ours.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(autouse=True)
def compiler():
    """Skip where nothing can be compiled: torch needs a C++ compiler for processors."""
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.zeros(4))
    except (BackendCompilerFailed, RuntimeError, ImportError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        pytest.skip(f"torch.compile finds no working compiler here: {lines[0]}")


def test_a_compiled_network_gives_the_same_logits_and_gradients(make_network):
    x = torch.sin(torch.arange(2.0 * 2 * 16 * 16)).reshape(2, 2, 16, 16)
    found = []
    for compiled in (False, True):
        model = make_network()
        run: Any = torch.compile(model) if compiled else model
        outputs = run(x)
        torch.stack([output.square().mean() for output in outputs]).sum().backward()
        gradients = [parameter.grad for parameter in model.parameters()]
        found.append([*outputs, run.eval()(x), *gradients])
    for plain, compiled in zip(*found, strict=True):
        torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-5)
