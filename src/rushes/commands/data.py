"""Versioning of what people own: the demo's videos in the checkout's DVC repository."""

from pathlib import Path

from rushes.console import console


def track(folder: Path) -> None:
    """Puts a folder under DVC and pushes it to the default remote; outside a DVC repository it says so and leaves it.

    Adding what is tracked already changes nothing; videos that came out otherwise than committed change the pointer
    beside the folder, for `git diff` to show.
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
