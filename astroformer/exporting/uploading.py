"""An exported folder to the Hugging Face hub, by the hub's own client."""

import importlib.util

from astroformer.exporting import hub
from astroformer.exporting.writing import Exported
from astroformer.training.initial import quiet_hub


def check() -> None:
    """ValueError in one line unless the hub's client is installed."""
    if importlib.util.find_spec("huggingface_hub") is None:
        raise ValueError(
            "--push needs the package huggingface_hub, which is not installed: "
            "pip install 'astroformer[hub]'"
        )


def push(exported: Exported, repo: str, *, private: bool = False) -> str:
    """Uploads the folder as a commit of a model's repository, which is made if it is not there;
    where it can be seen. The card then says how it is loaded from there.

    repo: OWNER/NAME, or NAME for one's own
    private: of a repository that is made: only its owner sees it

    The client finds token and address as the hub documents it (HF_TOKEN, or `hf auth login`;
    HF_ENDPOINT). OSError in one line where the hub refuses or is not reached; the folder stays.
    """
    check()
    from huggingface_hub import HfApi

    folder = exported.place
    try:
        client = HfApi(library_name="astroformer")
        with quiet_hub():
            made = client.create_repo(repo, private=private, exist_ok=True)
        hub.write_card(exported.subject, folder, f"hf-hub:{made.repo_id}")
        with quiet_hub():
            client.upload_folder(
                repo_id=made.repo_id,
                folder_path=folder,
                commit_message=f"{exported.subject.name}, run {exported.subject.told['run']}",
            )
    except Exception as error:  # of the client, of HTTP, of the network below it
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise OSError(
            f"{repo} could not be uploaded ({said}); the export is in {folder} and stays there; "
            "the same command with --force tries again"
        ) from error
    return str(made)
