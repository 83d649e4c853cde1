"""The model card: what somebody must know who gets the model without its history."""

from collections.abc import Sequence

from autoseg.ensemble.choose import Ensemble
from autoseg.ensemble.postprocessing import PostprocessingChoice
from autoseg.fingerprint.fingerprint import Fingerprint
from autoseg.plan.plan import Plan
from autoseg.runtime.manifest import Configuration, Manifest

LIMITS = """\
- It has learnt from the images described above; expect less on other scanners, stains, patients
  or cameras. Check it on labelled images of your own before you rely on it.
- It is no medical device, and no decision about a patient may rest on it alone.
"""


def model_card(
    manifest: Manifest,
    plan: Plan,
    *,
    num_cases: int,
    fingerprint: Fingerprint,
    ensemble: Ensemble,
    postprocessing: PostprocessingChoice,
) -> str:
    """Return the model card as Markdown."""
    labels = zip(manifest.labels.names, manifest.labels.values, strict=True)
    channels = manifest.configurations[0].recipe.channels
    sections = [
        f"# {plain(manifest.name)}\n",
        f"Segmentation of {manifest.dimensions}D images, trained by autoseg "
        f"{manifest.autoseg_version} with planner `{manifest.planner}`.\n",
        "## What it takes and gives\n",
        table(
            ("channel", "name", "normalisation"),
            [(index, item.name, item.scheme) for index, item in enumerate(channels)],
        ),
        files_text(manifest),
        table(("class", "value in the label files"), list(labels)),
        "## What it learnt from\n",
        f"- {num_cases} cases, median spacing {_median_spacing(fingerprint)} {manifest.unit}.",
        *(_configuration_line(item, plan) for item in manifest.configurations),
        "\n## What it was verified on\n",
        _scores_text(ensemble),
        _postprocessing_text(postprocessing),
        *(parity_table(item) for item in manifest.configurations),
        _verification_text(manifest),
        "## Limits\n",
        LIMITS,
        "## Use\n",
        "```sh\npip install -r requirements.txt\npython predict.py INPUT... OUT\n```\n",
    ]
    return "\n".join(sections)


def plain(text: str) -> str:
    """Return a name without what Markdown or HTML would interpret."""
    return "".join(f"\\{char}" if char in "\\`*_[]<>|#" else char for char in text)


def table(columns: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """Return a table as Markdown."""
    cells = [[plain(str(cell)) for cell in row] for row in (columns, *rows)]
    cells.insert(1, ["---"] * len(columns))
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)


def files_text(manifest: Manifest) -> str:
    """Return how files are named."""
    if manifest.channel_files == "suffix":
        return f"One file a channel: `<case>_0000{manifest.file_ending}` and so on.\n"
    return f"One file a case: `<case>{manifest.file_ending}`.\n"


def _median_spacing(fingerprint: Fingerprint) -> str:
    axes = zip(*(case.spacing for case in fingerprint.cases), strict=True)
    return " x ".join(f"{sorted(axis)[len(axis) // 2]:.3g}" for axis in axes)


def _configuration_line(item: Configuration, plan: Plan) -> str:
    cost = plan.configuration(item.name).cost
    line = (
        f"- `{item.name}`: folds {', '.join(item.folds)} averaged, weight {item.weight:.3g}, "
        f"patch {' x '.join(map(str, item.patch_size))}, {cost.parameters / 1e6:.2f} M parameters "
        "a fold."
    )
    if item.previous is not None:
        line += f" It sees the labels of `{item.previous}`"
        if item.region_margin is not None:
            line += f" and is asked only within {item.region_margin:g} {plan.unit} of them"
        line += "."
    return line


def _scores_text(ensemble: Ensemble) -> str:
    rows = [
        (item.configuration, item.num_cases, "none" if item.dice is None else f"{item.dice:.4f}")
        for item in ensemble.candidates
    ]
    head = "Cases predicted by folds that had not seen them, before post-processing:\n\n"
    text = head + table(("configuration", "cases", "mean Dice"), rows)
    for item in ensemble.tried:
        if item.used:
            text += f"\n{item.name.capitalize()}: {plain(item.best)}. {plain(item.reason)}\n"
    return text


def _postprocessing_text(choice: PostprocessingChoice) -> str:
    text = f"Post-processing: {plain(choice.reason)}"
    if choice.steps and choice.dice_cross_fitted is not None:
        text += (
            f" Mean Dice of `{choice.configuration}` with it {choice.dice_cross_fitted:.4f} "
            "(cross-fitted: each case after the rules that other cases chose), "
            f"without it {choice.dice:.4f}."
        )
    for item in choice.tried:
        if item.used:
            text += f" {item.name.capitalize()}: {plain(item.best)}. {item.reason}"
    return f"{text}\n"


def parity_table(item: Configuration) -> str:
    """Return how well the exported networks of a configuration agree with the trained ones."""
    rows = [
        (
            parity.backend,
            parity.num_cases,
            f"{parity.label_agreement:.4%}",
            f"{parity.max_probability_difference:.1e}",
        )
        for parity in item.parity
    ]
    kind = item.parity[0].cases if item.parity else "validation"
    what = "one synthetic image" if kind == "synthetic" else f"real {kind} cases"
    head = f"Agreement of `{item.name}` with the training framework on {what}:\n\n"
    return head + table(
        ("backend", "cases", "same labels", "largest difference of probabilities"), rows
    )


def _verification_text(manifest: Manifest) -> str:
    case = manifest.verification
    if case is None:
        return "It holds no verification case and no image.\n"
    inside = "a real image of the data set" if case.kind == "real" else "no real image"
    return (
        f"`python predict.py --verify` predicts the {case.kind} case inside and compares; "
        f"label agreement here: {case.label_agreement:.4%}. It holds {inside}.\n"
    )
