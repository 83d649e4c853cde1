from PIL import Image

from autoseg.dataset.open import open_dataset
from autoseg.pipeline.preview import NUM_CASES, preview_augmentation
from autoseg.testing.plans import STILL, small_configuration, small_network, small_plan
from autoseg.testing.synthetic import write_spheres
from autoseg.workspace import Workspace


def test_a_sheet_is_drawn_of_the_first_cases_by_the_code_that_trains(tmp_path):
    data = write_spheres(tmp_path / "spheres", num_cases=6, seed=0, shape=(12, 16, 14))
    dataset = open_dataset(data, None, None)
    item = small_configuration((8, 8, 8), network=small_network(3, num_classes=2))
    lively = STILL.revised(rotation_probability=1.0, elastic_probability=1.0)
    item = item.revised(training=item.training.revised(augmentation=lively))
    plan = small_plan(dataset.labels, (item,), ram_bytes=10**9)
    workspace = Workspace(tmp_path / "spheres.autoseg")

    (first,) = preview_augmentation(dataset, plan, workspace)
    content = first.read_bytes()
    (second,) = preview_augmentation(dataset, plan, workspace)

    assert first == second == workspace.augmentation_sheet("3d_fullres")
    assert second.read_bytes() == content
    with Image.open(first) as sheet:
        assert sheet.format == "PNG"
    prepared = list(workspace.preprocessed("3d_fullres").glob("*.json"))
    assert len(prepared) == NUM_CASES
