"""Versions the demo's videos in the DVC repository of the checkout."""

from pathlib import Path

from rushes.console import console


def track(folder: Path) -> None:
    """Adds a folder to DVC and pushes it to the default remote; outside a DVC repository it prints so and does nothing.

    Adding a tracked folder changes nothing; videos that differ from the committed ones change the `.dvc` file beside
    the folder, which `git diff` shows.
    """
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo

    try:
        repository = Repo(str(folder.parent))
    except NotDvcRepoError:
        console.print(f"{folder} is not in a DVC repository: used as it is, not versioned", markup=False)
        return
    with repository:
        try:
            repository.add(str(folder))
            pushed = repository.push(str(folder))
        except DvcException as error:
            console.print(f"DVC: {folder} is not versioned ({error})", markup=False, style="yellow")
            return
    console.print(f"DVC: {folder.name} tracked, {pushed} objects pushed to the remote", markup=False)
