"""The recipes that install the project elsewhere (workflow/Dockerfile, environment.yml, a manifest
for Kubernetes) against what they are made from: pyproject.toml, requirements.lock and the checkout.
"""

import re
import shlex
import subprocess
import tomllib
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

import pytest
import yaml

from astroformer import paths
from astroformer.version import __version__

ROOT = paths.ROOT
WORKFLOW = ROOT / "workflow"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.lock").read_text()
LOCKED = dict(re.findall(r"^([a-z0-9._-]+)==([^ ]+)", LOCK, flags=re.MULTILINE))


def instructions(text: str) -> list[tuple[str, str]]:
    """(RUN, its words) and so on of a Dockerfile, in order, lines that go on joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    found = [line.strip().partition(" ") for line in joined.splitlines() if line.strip()]
    return [(word, " ".join(rest.split())) for word, _, rest in found]


DOCKERFILE = (WORKFLOW / "Dockerfile").read_text()
STEPS = instructions(DOCKERFILE)
KUBERNETES = WORKFLOW / "profiles" / "kubernetes"
MANIFEST = yaml.safe_load((KUBERNETES / "job.yaml").read_text())


def steps(word: str) -> list[str]:
    return [rest for name, rest in STEPS if name == word]


def settings(word: str) -> dict[str, str]:
    """What ENV, LABEL or ARG name, with their values."""
    pairs = [one.partition("=") for rest in steps(word) for one in shlex.split(rest)]
    return {name: value for name, _, value in pairs}


# What of the checkout comes in, as Docker reads .dockerignore: the last line that matches decides.


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path of the checkout, or a folder that it lies in, out."""
    out = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        kept, pattern = pattern.startswith("!"), pattern.lstrip("!").strip("/")
        if any(matches(above, pattern) for above in above_and(path)):
            out = not kept
    return out


def above_and(path: str) -> list[str]:
    return [path, *(f"{one}" for one in PurePosixPath(path).parents if f"{one}" != ".")]


def matches(path: str, pattern: str) -> bool:
    """Docker's patterns, part by part: `*` within a name, `**` for any folders."""
    return _parts_match(path.split("/"), pattern.split("/"))


def _parts_match(path: list[str], pattern: list[str]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(_parts_match(path[start:], pattern[1:]) for start in range(len(path) + 1))
    return bool(path) and fnmatchcase(path[0], pattern[0]) and _parts_match(path[1:], pattern[1:])


@pytest.mark.parametrize(
    "path, pattern, holds",
    [
        ("a", "*", True),
        ("a/b", "*", False),
        ("a/b/__pycache__", "**/__pycache__", True),
        ("__pycache__", "**/__pycache__", True),
        ("book/ledger/local", "book/ledger/local", True),
        ("other/book/ledger/local", "book/ledger/local", False),
    ],
)
def test_patterns_are_dockers(path, pattern, holds):
    assert matches(path, pattern) is holds


def tracked() -> list[str]:
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listing.returncode:
        pytest.skip("not a git checkout: there is no list of tracked files")
    return [name for name in listing.stdout.split("\0") if name]


def test_the_image_holds_what_runs_the_book_and_nothing_that_git_passes_over():
    inside = {name for name in tracked() if not ignored(name)}
    for place in ("astroformer", "book", "workflow"):
        assert {name for name in tracked() if name.startswith(f"{place}/")} <= inside
    read = PROJECT["readme"], "pyproject.toml", "setup.py", "MANIFEST.in", "LICENSE"
    assert {*read, "_toc.yml", "_config.yml"} <= inside
    # what git passes over, each as a path that it would have here and below a folder that comes in
    for line in (ROOT / ".gitignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        name = line.strip("/").replace("*", "x")
        assert ignored(name), name
        if "/" not in line.rstrip("/"):
            assert ignored(f"astroformer/deep/{name}"), name
    assert all(ignored(name) for name in (".git/config", "notes.txt", ".env", "book/.env"))


def test_every_source_of_a_copy_is_there_and_comes_in():
    sources = [word for rest in steps("COPY") for word in rest.split()[:-1]]
    assert "requirements.lock" in sources and "." in sources
    for source in sources:
        assert (ROOT / source).exists() and (source == "." or not ignored(source))


# What is installed


def test_the_base_can_be_chosen_and_no_host_is_named():
    assert STEPS[0][0] == "ARG" and STEPS[0][1].startswith("BASE=debian:")
    assert steps("FROM") == ["${BASE}"]
    assert "/" not in settings("ARG")["BASE"]  # a host would stand before a slash
    assert "://" not in "".join(rest for _, rest in STEPS)
    [container] = MANIFEST["spec"]["template"]["spec"]["containers"]
    assert container["image"].partition("/")[0] == "registry.example"


def installs() -> list[tuple[int, list[str]]]:
    """Each call of pip install, with the number of the step that it stands in."""
    found = []
    for number, (word, rest) in enumerate(STEPS):
        if word == "RUN":
            for call in re.findall(r"\bpip install ([^;&|]*)", rest):
                found.append((number, call.split()))
    return found


def test_every_package_comes_from_the_lock_with_its_hash_before_the_sources_do():
    [(packages, of_lock), (project, own)] = installs()
    assert {"--require-hashes", "--no-deps", "--no-build-isolation"} <= set(of_lock)
    assert "/opt/requirements.lock" in STEPS[packages][1]
    # the project itself, with nothing that was not installed before
    assert {"--no-index", "--no-deps", "--no-build-isolation", "."} <= set(own)
    copies = [(number, rest.split()) for number, (word, rest) in enumerate(STEPS) if word == "COPY"]
    [lock_in] = [number for number, words in copies if words[0] == "requirements.lock"]
    [sources_in] = [number for number, words in copies if words[0] == "."]
    assert lock_in < packages < sources_in < project


def test_what_builds_packages_from_sources_is_of_the_lock_with_its_hashes(tmp_path):
    [expression] = re.findall(r"sed -nE '([^']+)'", DOCKERFILE)
    build = subprocess.run(
        ["sed", "-nE", expression, ROOT / "requirements.lock"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    lines = build.splitlines()
    names = [line.split("==")[0] for line in lines if "==" in line]
    assert names == ["setuptools", "wheel"]
    assert sum("--hash=sha256:" in line for line in lines) == len(lines) - len(names) >= 2


def test_python_is_as_old_as_pyproject_allows():
    [oldest] = re.findall(r">=(\d+)\.(\d+)", PROJECT["requires-python"])
    [asked] = re.findall(r"sys\.version_info < \((\d+), (\d+)\)", DOCKERFILE)
    assert asked == oldest
    [locked_for] = re.findall(r"--python-version (\d+)\.(\d+)", LOCK)
    assert locked_for == oldest


# Who runs it, and where


def test_the_user_is_a_number_that_is_not_root():
    user, group = map(int, steps("USER")[-1].split(":"))
    assert user > 0 and group > 0
    assert [word for word, _ in STEPS[-2:]] == ["USER", "CMD"]


def test_caches_lie_in_folders_that_anyone_may_write():
    environment = settings("ENV")
    place = PurePosixPath(steps("WORKDIR")[-1])
    [made] = re.findall(r"install -d -m 1777 ([^&]*)", " ".join(steps("RUN")))
    open_to_all = {place / name for name in made.split()}
    assert place / "runs" in open_to_all and place / "book" / "ledger" / "local" in open_to_all
    for name in ("XDG_CACHE_HOME", "MPLCONFIGDIR"):
        folder = PurePosixPath(environment[name])
        assert folder in open_to_all or folder.parent in open_to_all
    assert environment["HOME"] == "/tmp" and environment["USER"]
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert environment["PATH"].startswith("/opt/venv/bin:")


def test_the_driver_that_is_asked_for_is_that_of_the_locked_cuda():
    major = LOCKED["cuda-toolkit"].partition(".")[0]
    assert settings("ENV")["NVIDIA_REQUIRE_CUDA"] == f"cuda>={major}.0"
    least = {"12": "525", "13": "580"}[major]  # NVIDIA's table of minor version compatibility
    assert f"CUDA {major}: the driver is to be {least} or later" in DOCKERFILE


def test_labels_say_licence_and_version():
    labels = settings("LABEL")
    assert labels["org.opencontainers.image.licenses"] == PROJECT["license"]["text"]
    assert labels["org.opencontainers.image.version"] == __version__


# Beside it: a conda prefix, the manifest, the profiles


def test_the_conda_prefix_installs_every_extra_and_lists_nothing_itself():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, by_pip = environment["dependencies"]
    assert python == f"python{PROJECT['requires-python']}" and pip == "pip"
    [words] = by_pip["pip"]
    editable, target = words.split()
    extras = re.fullmatch(r"\.\[(.*)\]", target)
    assert editable == "-e" and extras
    assert sorted(extras[1].split(",")) == sorted(PROJECT["optional-dependencies"])


def test_the_lock_has_every_dependency_that_pyproject_names():
    extras = PROJECT["optional-dependencies"].values()
    for requirement in [*PROJECT["dependencies"], *(one for extra in extras for one in extra)]:
        name = re.match(r"[A-Za-z0-9._-]+", requirement)[0].lower().replace("_", "-")
        assert name in LOCKED, f"{name} is not locked: compile requirements.lock again"
    assert "://" not in LOCK


def test_the_pods_run_the_image_as_its_user_from_its_folder():
    job, pod = MANIFEST["spec"], MANIFEST["spec"]["template"]["spec"]
    [container] = pod["containers"]
    security = pod["securityContext"]
    user = f"{security['runAsUser']}:{security['runAsGroup']}"
    assert security["runAsNonRoot"] and user == steps("USER")[-1]
    mounts = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
    assert steps("WORKDIR")[-1] in mounts and settings("ENV")["HOME"] in mounts
    assert set(mounts.values()) == {volume["name"] for volume in pod["volumes"]}
    # as many pods as studies, each of which has a design
    [shell, _, script] = container["command"]
    [named] = re.findall(r"^set -- (.+)$", script, flags=re.MULTILINE)
    assert shell == "sh" and job["completions"] == len(named.split())
    for name in named.split():
        assert (paths.BOOK / "studies" / f"{name}.yml").is_file()
    # GPUs of a pod are those that the profile hands out, and so are its processors
    profile = yaml.safe_load((KUBERNETES / "config.yaml").read_text())
    assert profile["resources"] == [f"gpu={container['resources']['limits']['nvidia.com/gpu']}"]
    assert profile["cores"] == container["resources"]["requests"]["cpu"]


def test_both_ways_to_install_elsewhere_are_named_where_they_are_needed():
    slurm = (WORKFLOW / "profiles" / "slurm" / "config.yaml").read_text()
    assert "environment.yml" in slurm and "workflow/Dockerfile" in slurm
    assert "workflow/Dockerfile" in (KUBERNETES / "job.yaml").read_text()
