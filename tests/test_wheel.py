"""What `pip install` brings into another environment: the library, what ships, and no more."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BORROWED = "click filelock numpy numpy.libs pydantic_core safetensors threadpoolctl.py tomli_w tqdm"
TRY = """
import importlib.util, sys
import charrnn
assert importlib.util.find_spec("flask") is None, "flask came along"
assert sys.prefix in charrnn.__file__, charrnn.__file__
for name in ("dinosaurs", "rex"):
    print(name, charrnn.load(name).version)
print(len(charrnn.load("dinosaurs").generate("Tyr", count=3)))
print(charrnn.load("rex").chat(random_seed=1).say("hello!"))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy of the tree, in which a training has left its traces; offline."""
    place = tmp_path_factory.mktemp("wheel")
    tree = place / "tree"
    for name in ("charrnn", "weights"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    left = tree / "weights" / "dinosaurs" / "run" / "reports"
    left.mkdir(parents=True, exist_ok=True)
    (left.parent / "checkpoint.safetensors").write_bytes(b"a run")
    command = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps"]
    options = ["--no-index", "--disable-pip-version-check", "-q", "-w", str(place), str(tree)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = place.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """An environment with the wheel, and of other packages only those that it asks for."""
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, with_pip=False)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": place, "platbase": place}))
    own = Path(sysconfig.get_path("purelib"))
    for name in (*BORROWED.split(), "typing_extensions.py"):
        if (own / name).exists():
            (site / name).symlink_to(own / name)
    for binary in own.glob("*pydantic_core*.so"):
        (site / binary.name).symlink_to(binary)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return place / "bin" / "python"


def run(python, *arguments, cwd, **environ):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CHARRNN_", "PYTHON"))}
    return subprocess.run(
        [python, *arguments],
        cwd=cwd,
        env=kept | environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_wheel_has_the_library_and_the_shipped_weights_and_no_traces(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    shipped = [name for name in names if name.startswith("charrnn/shipped/")]
    for model in ("dinosaurs", "rex"):
        version = (ROOT / "weights" / model / "SHIPPED").read_text().split()[-1]
        assert f"charrnn/shipped/{model}/{version}.safetensors" in shipped
        assert f"charrnn/shipped/{model}/CURRENT.json" in shipped
    assert not [name for name in names if "/run/" in name or name.startswith(("api", "tests"))]
    assert {name.split("/")[0].split("-")[0] for name in names} == {"charrnn"}
    assert sum(info.file_size for info in zipfile.ZipFile(wheel).infolist()) < 11_000_000


def test_what_it_asks_for_is_little_and_flask_is_an_extra(wheel):
    archive = zipfile.ZipFile(wheel)
    (metadata,) = [name for name in archive.namelist() if name.endswith("METADATA")]
    lines = archive.read(metadata).decode().split("\n")
    needed = [line for line in lines if line.startswith("Requires-Dist") and "extra ==" not in line]
    assert len(needed) <= 10
    assert not any("flask" in line.lower() for line in needed)
    assert any("flask" in line.lower() and "extra == " in line for line in lines)
    assert "Requires-Python: <3.14,>=3.11" in lines


def test_the_shipped_models_load_from_any_folder(environment, tmp_path):
    done = run(environment, "-c", TRY, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[2] == "3"
    assert list(tmp_path.iterdir()) == []  # nothing is left where it ran
    (tmp_path / "weights").mkdir()  # one's own models, of which none has that name
    assert run(environment, "-c", TRY, cwd=tmp_path).stdout.split()[:4] == done.stdout.split()[:4]


def test_the_installed_command_line_talks_and_trains(environment, tmp_path):
    names = tmp_path / "my-list.txt"
    names.write_text("".join(f"{a}{b}o\n" for a in "bcdfg" for b in ("ala", "eli", "oru")))
    listed = run(environment, "-m", "charrnn", "models", cwd=tmp_path)
    assert "dinosaurs" in listed.stdout
    assert "rex" in listed.stdout
    options = ("--steps", "3", "--hidden-size", "4", "--quiet")
    trained = run(environment, "-m", "charrnn", "train", "my-list.txt", *options, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert (tmp_path / "weights" / "my-list" / "CURRENT.json").is_file()
    every = run(environment, "-m", "charrnn", "models", cwd=tmp_path).stdout
    assert all(name in every for name in ("dinosaurs", "my-list", "rex"))


def test_a_folder_that_is_named_is_the_only_one_that_counts(environment, tmp_path):
    missing = run(environment, "-c", TRY, cwd=tmp_path, CHARRNN_WEIGHTS=str(tmp_path))
    assert "no model 'dinosaurs'" in missing.stderr
    assert "WeightsMissingError" in missing.stderr
