"""The rules that no single module can keep: who may import whom, and what may lie where."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import charrnn

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LIBRARY = sorted((ROOT / "charrnn").rglob("*.py"))
SERVICE = [*sorted((ROOT / "api").rglob("*.py")), ROOT / "gunicorn.conf.py", ROOT / "wsgi.py"]

# A module imports only from floors below its own. `errors` lies under the ground floor, since
# everything raises; `__main__` is the doorstep of `cli`.
FLOORS = (
    {"errors", "lines", "look"},
    {"graph", "settings", "threads"},
    {
        "blocklist",
        "columns",
        "config",
        "console",
        "files",
        "gradients",
        "hooks",
        "memory",
        "namelist",
        "operations",
        "ops",
        "parameters",
        "tokens",
    },
    {
        "cells",
        "dropping",
        "kinds",
        "panels",
        "reading",
        "runs",
        "seeding",
        "sharing",
        "splits",
        "textcache",
        "vocabulary",
        "wording",
    },
    {"encoding", "packed", "products", "streams", "wordlist"},
    {"corpus", "model", "optimizers", "shapes", "trial"},
    {
        "batches",
        "compiled",
        "conditions",
        "constraints",
        "lookahead",
        "ranks",
        "recipe",
        "reference",
        "sampling",
        "weights",
        "worker",
    },
    {
        "beam",
        "checkpoint",
        "evaluation",
        "exactness",
        "parallel",
        "particles",
        "scoring",
        "sequences",
        "spelling",
        "store",
    },
    {"course", "decoding", "inspection", "joint", "texts", "versions", "warm"},
    {"asking", "coldest", "drafting", "queues", "selection"},
    {"chat", "writing"},
    {"generator", "report", "tables"},
    {"checking", "export", "gate", "training"},
    {"budget", "cli_options", "outcomes", "comparison", "export_json", "export_onnx", "progress"},
    {"retraining"},
    {"cli_chat", "cli_export", "cli_names", "cli_versions"},
    {"cli"},
    {"__main__"},
)
FLOOR = {unit: floor for floor, units in enumerate(FLOORS) for unit in units}

SERVING = {"api", "flask", "gunicorn", "jinja2", "werkzeug", "wsgi"}
SERVING |= {"asyncio", "http", "queue", "socketserver"}
UNPICKLERS = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
# What a program that only generates must not wait for at its start.
NOT_TO_GENERATE = {"asyncio", "click", "filelock", "flask", "gunicorn", "pydantic.main"}
NOT_TO_GENERATE |= {"tomli_w", "tomllib", "tqdm"}
SELDOM = {"beam", "coldest", "drafting", "inspection", "particles"}  # asked for by few
TRAINERS = {
    "batches",
    "checkpoint",
    "cli",
    "columns",
    "corpus",
    "encoding",
    "evaluation",
    "kinds",
    "reading",
    "textcache",
    "export",
    "graph",
    "optimizers",
}
TRAINERS |= {"checking", "gradients", "operations", "reference"}
TRAINERS |= {
    "joint",
    "memory",
    "parallel",
    "progress",
    "ranks",
    "recipe",
    "retraining",
    "sharing",
    "tables",
}
TRAINERS |= {
    "course",
    "training",
    "worker",
    "cli_versions",
    "console",
    "gate",
    "hooks",
    "outcomes",
    "report",
}
TRAINERS |= {"cli_export", "export_json", "export_onnx"}
TRAINERS |= {"budget", "cli_names", "cli_options", "comparison", "versions", "warm"}
RANDOM_WITHOUT_A_GLOBAL = {"BitGenerator", "Generator", "PCG64", "SeedSequence", "default_rng"}

FOLDERS = {"api", "benchmarks", "charrnn", "data", "deploy", "docs", "examples", "tests", "weights"}
FILES = {"LICENSE", "Makefile", "README.md", "gunicorn.conf.py", "pyproject.toml"}
FILES |= {"requirements.txt", "wsgi.py", ".dockerignore", ".gitattributes", ".gitignore"}
TOP_LEVEL = FOLDERS | FILES | {".ci"}
MACHINE_PATH = re.compile(r"(?<![\w.-])/(?:work/|root/|home/\w)")
REGISTRY = re.compile(r"(?:pypi|pythonhosted|npmjs|anaconda|dockerhub)\.(?:org|com)|docker\.io")


def here(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), here(path))


def imports_of(path: Path) -> Iterator[tuple[str, str]]:
    """Every import at any depth as (module, name); the name is empty for a plain `import`."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((module, alias.name) for alias in node.names)


def dotted(node: ast.expr) -> str:
    """`a.b.c` as written, or nothing if it is another kind of expression."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (value := dotted(node.value)):
        return f"{value}.{node.attr}"
    return ""


def files_of_the_repository() -> list[Path]:
    """What is tracked, or would be by `git add`; skips the test where git can't tell."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others"]
    try:
        listed = subprocess.run(
            [*command, "--exclude-standard"], cwd=ROOT, capture_output=True, check=True, text=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in sorted(set(listed.stdout.split("\0"))) if name]
    return [path for path in paths if path.is_file()]


def locked(path: Path) -> dict[str, tuple[str, str]]:
    """name -> (version and marker, hashes). Fails on a line that is not pinned and hashed."""
    text = re.sub(r"\s*(^|\s)#.*", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    pinned = re.compile(r"([a-z0-9-]+)==([^\s;]+(?: ; .+?)?)((?: +--hash=sha256:[0-9a-f]{64})+)")
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    matches = [(line, pinned.fullmatch(line.strip())) for line in lines]
    assert [line for line, match in matches if match is None] == []
    return {match[1]: (match[2], match[3]) for _, match in matches if match}


# --- Imports --------------------------------------------------------------------------------------


def unit_of(module: str) -> str:
    """`charrnn.cells.lstm` stands on the floor of `cells`."""
    return module.split(".")[1] if "." in module else ""


def test_a_module_imports_only_from_floors_below_its_own():
    problems = []
    for path in LIBRARY:
        unit = unit_of(here(path).removesuffix(".py").replace("/", "."))
        if unit == "__init__":
            continue
        if unit not in FLOOR:
            problems.append(f"{here(path)}: give it its place in FLOORS, in this file")
            continue
        for module, name in imports_of(path):
            if module.split(".")[0] != "charrnn" or name == "__version__":
                continue
            imported = unit_of(module) or name
            if imported != unit and FLOOR.get(imported, len(FLOORS)) >= FLOOR[unit]:
                problems.append(f"{here(path)}: {imported or module} is not on a floor below")
    assert not problems, "\n".join(problems)


def test_the_library_knows_nothing_of_the_service():
    problems = [
        f"{here(path)}: {module}"
        for path in LIBRARY
        for module, _ in imports_of(path)
        if module.split(".")[0] in SERVING
    ]
    assert not problems, "\n".join(problems)


def test_the_service_uses_public_names_of_the_library_only():
    public = {*charrnn.__all__, "config", "errors", "look", "settings"}
    problems = []
    for path in SERVICE:
        for module, name in imports_of(path):
            if module.split(".")[0] != "charrnn":
                continue
            if module == "charrnn":
                allowed = name == "" or name in public
            else:
                allowed = unit_of(module) in {
                    "config",
                    "errors",
                    "look",
                    "settings",
                } and not name.startswith("_")
            if not allowed:
                problems.append(f"{here(path)}: {module} {name}")
        for node in ast.walk(tree_of(path)):
            name = dotted(node) if isinstance(node, ast.Attribute) else ""
            if name.startswith("charrnn.") and name.split(".")[1] not in {*public, "__version__"}:
                problems.append(f"{here(path)}: {name}")
    assert not problems, "\n".join(problems)


def test_what_is_imported_is_declared():
    extras = PROJECT["project"]["optional-dependencies"]
    optional = [*extras["mpi"], *extras["onnx"]]  # imported where it is asked for, which says so
    lines = [*PROJECT["project"]["dependencies"], *optional]
    declared = {Requirement(line).name for line in lines}
    serving = locked(ROOT / "requirements.txt").keys() | {"api"}
    problems = []
    for paths, allowed in [(LIBRARY, declared), (SERVICE, serving)]:
        for path in paths:
            roots = {module.split(".")[0] for module, _ in imports_of(path)}
            foreign = roots - sys.stdlib_module_names - {"charrnn"}
            problems += [
                f"{here(path)}: {root}"
                for root in sorted(foreign)
                if canonicalize_name(root) not in allowed
            ]
    assert not problems, "\n".join(problems)


def loaded_by(statements: str) -> set[str]:
    command = [sys.executable, "-c", f"{statements}; import sys; print(*sys.modules)"]
    environment = {**os.environ, "CHARRNN_WEIGHTS": str(ROOT / "weights")}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, check=True, text=True
    )
    return set(done.stdout.split())


def test_a_program_that_generates_loads_nothing_that_only_trains_or_serves():
    loaded = loaded_by('import charrnn; charrnn.load("dinosaurs").generate(random_seed=1)')
    assert "charrnn.decoding" in loaded
    assert loaded & NOT_TO_GENERATE == set()
    assert loaded & {f"charrnn.{name}" for name in TRAINERS | SELDOM} == set()
    assert all((ROOT / "charrnn" / f"{name}.py").is_file() for name in TRAINERS | SELDOM)


def test_a_service_loads_before_it_forks_what_few_ask_for():
    loaded = loaded_by("import api; api.create_app()")
    assert {f"charrnn.{name}" for name in SELDOM} <= loaded


def test_nothing_is_ever_unpickled():
    problems = []
    for path in [*LIBRARY, *SERVICE]:
        roots = {module.split(".")[0] for module, _ in imports_of(path)}
        problems += [f"{here(path)}: {root}" for root in sorted(roots & UNPICKLERS)]
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                problems.append(f"{here(path)}:{node.value.lineno}: allow_pickle")
    assert not problems, "\n".join(problems)


def test_no_random_number_comes_from_a_global_generator():
    problems = []
    for path in files_of_the_repository():
        if path.suffix != ".py":
            continue
        names = [f"{module}.{name}" for module, name in imports_of(path)]
        names += [dotted(n) for n in ast.walk(tree_of(path)) if isinstance(n, ast.Attribute)]
        used = {
            match[1] for name in names if (match := re.match(r"(?:np|numpy)\.random\.(\w+)", name))
        }
        problems += [f"{here(path)}: {name}" for name in sorted(used - RANDOM_WITHOUT_A_GLOBAL)]
    assert not problems, "\n".join(problems)


# --- Files ----------------------------------------------------------------------------------------


def test_the_top_level_holds_only_what_the_layout_allows():
    found = {path.relative_to(ROOT).parts[0] for path in files_of_the_repository()}
    assert found - TOP_LEVEL == set()


def test_no_file_names_a_machine_or_a_registry():
    problems = []
    for path in files_of_the_repository():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue  # not a text
        problems += [
            f"{here(path)}:{number}: {line.strip()[:80]}"
            for number, line in enumerate(lines, 1)
            if MACHINE_PATH.search(line) or REGISTRY.search(line)
        ]
    assert not problems, "\n".join(problems)


def test_the_weights_that_ship_stay_under_ten_megabytes():
    weights = [path for path in files_of_the_repository() if here(path).startswith("weights/")]
    assert sum(path.stat().st_size for path in weights) < 10_000_000


# --- Requirements ---------------------------------------------------------------------------------


def test_the_test_requirements_hold_the_runtime_ones_at_the_same_versions():
    runtime = locked(ROOT / "requirements.txt")
    tests = locked(ROOT / "tests/requirements.txt")
    assert {name: tests.get(name) for name in runtime} == runtime


def test_the_locks_hold_what_the_project_asks_for():
    extras = PROJECT["project"]["optional-dependencies"]
    runtime = [*PROJECT["project"]["dependencies"], *extras["serve"]]
    for file, lines in [
        ("requirements.txt", runtime),
        ("tests/requirements.txt", [*runtime, *PROJECT["dependency-groups"]["dev"]]),
    ]:
        pins = locked(ROOT / file)
        for requirement in map(Requirement, lines):
            version = pins[canonicalize_name(requirement.name)][0].split(" ;")[0]
            assert requirement.specifier.contains(version), f"{file}: run `make lock`"


def test_the_makefile_takes_the_pythons_that_the_project_supports():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = re.search(r"^versions := (.*)$", makefile, flags=re.MULTILINE)
    supported = SpecifierSet(PROJECT["project"]["requires-python"])
    candidates = [f"3.{minor}" for minor in range(30, 0, -1)]
    assert named
    assert named[1].split() == [version for version in candidates if version in supported]
