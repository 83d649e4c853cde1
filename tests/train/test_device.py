import pytest

from autoseg.errors import TrainingError
from autoseg.train import device
from autoseg.train.cluster import train_folds
from autoseg.train.device import check_device, most_at_once


@pytest.fixture
def gpus(monkeypatch):
    """Return a function that sets how many GPUs torch sees."""
    return lambda count: monkeypatch.setattr(device.torch.cuda, "device_count", lambda: count)


def test_a_device_that_torch_lacks_is_refused(gpus):
    check_device("cpu")
    gpus(1)
    check_device("cuda")
    for count, name in ((0, "cuda"), (1, "cuda:1")):
        gpus(count)
        with pytest.raises(TrainingError, match=f"no device {name} here"):
            check_device(name)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_plan_for_another_device_fails_before_the_first_step(make_job, gpus, num_workers):
    gpus(0)
    job = make_job(device="cuda")
    with pytest.raises(TrainingError, match="--device cpu"):
        train_folds(
            [job],
            num_workers=num_workers,
            address=None,
            on_progress=lambda _: None,
            should_stop=lambda: False,
        )
    assert not job.folder.settings.exists()


def test_a_gpu_trains_one_fold_at_a_time(gpus):
    gpus(1)
    assert most_at_once("cuda", 2) == 1
    gpus(4)
    assert most_at_once("cuda", 2) == 2
    assert most_at_once("cuda", 8) == 4
    assert most_at_once("cuda:1", 8) == 1
    assert most_at_once("cpu", 8) == 8
