"""`autoseg run`."""

from autoseg.cli import options


def run(
    dataset: options.DatasetArgument,
    workspace: options.NewWorkspaceOption = None,
    spec: options.SpecOption = None,
    skip_broken: options.SkipBrokenOption = False,
    planner: options.PlannerOption = "auto",
    budget: options.PlanBudgetOption = None,
    memory: options.MemoryOption = None,
    ram: options.RamOption = None,
    device: options.DeviceOption = "auto",
    folds: options.FoldsOption = None,
    splits: options.SplitsOption = None,
    split_by: options.SplitByOption = "folds",
    group_by: options.GroupOption = None,
    set_: options.SetOption = None,
    seed: options.SeedOption = 0,
    replan: options.ReplanOption = False,
    workers: options.WorkersOption = 1,
    track: options.TrackOption = None,
    images: options.ImagesOption = None,
    json_: options.JsonOption = False,
) -> None:
    """Plan, train and everything after, in one go."""
    from autoseg.cli import display
    from autoseg.cli.planning import run_planning
    from autoseg.cli.shared import machine_file, typed
    from autoseg.cli.training import run_training
    from autoseg.pipeline.planning import PlanOptions
    from autoseg.pipeline.training import TrainOptions

    wanted = PlanOptions(
        dataset=dataset,
        workspace=workspace,
        spec=spec,
        skip_broken=skip_broken,
        planner=planner,
        budget_s=budget,
        memory_bytes=memory,
        ram_bytes=ram,
        device=device,
        num_folds=folds,
        splits=splits,
        split_by=split_by,
        overrides=tuple(set_ or ()),
        seed=seed,
        replan=replan,
        group_by=group_by,
        command=typed(),
        machine_file=machine_file(),
    )
    outcome = run_planning(wanted)
    if not json_:
        display.print_outcome(outcome)
    training = TrainOptions(
        workspace=outcome.workspace,
        num_workers=workers,
        images=images,
        command=typed(),
    )
    run_training(training, as_json=json_, track=track or ())
