"""What is shipped: the wheel and the source distribution, what modules say they export, what an import costs."""

import ast
import importlib
import pkgutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import flame
import star_actors

ROOT = Path(__file__).parent.parent
GUIDES_NAMES = [
    *(("flame.star", f"Star{name}") for name in ("Aggregator", "Analyzer", "LocalDPModel", "Model", "ModelTester")),
    ("flame.star.star_model", "StarModel"),
    ("flame.star.star_localdp", "StarLocalDPModel"),
]


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    ran = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=110)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def modules() -> list[str]:
    """Every module that users may import, by its full name."""
    found = [star_actors.__name__]
    for package in (star_actors, flame):
        found += [module.name for module in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
    return [name for name in found if not any(part.startswith("_") for part in name.split("."))]


# Distributions


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (path,) = dist.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel is installed."""
    folder = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", folder, wheel)
    return folder


def in_installed(installed: Path, code: str) -> str:
    """What `code` prints where the installed wheel comes before anything else."""
    return run(sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(installed)!r})\n{code}", cwd=installed)


def test_the_wheel_holds_the_two_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert tops == {"flame", "star_actors", f"star_actors-{star_actors.__version__}.dist-info"}


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    package = ROOT / "star_actors"
    files = {path.relative_to(ROOT) for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    shipped = {path.as_posix().removeprefix("star_actors/_compat/") for path in files}
    with zipfile.ZipFile(wheel) as archive:
        assert shipped <= set(archive.namelist())


def test_the_wheel_says_that_it_is_typed_and_under_which_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "star_actors/py.typed" in names
    assert f"star_actors-{star_actors.__version__}.dist-info/licenses/LICENSE" in names


def test_the_source_distribution_holds_what_its_tests_need(dist: Path) -> None:
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= {"LICENSE", "README.md", "docs/guide.txt", "examples/quickstart.py", "tests/test_guide.py"}


@pytest.mark.parametrize(("module", "name"), GUIDES_NAMES)
def test_an_installed_name_of_the_guide_is_the_packages_own_object(installed: Path, module: str, name: str) -> None:
    code = f"import {module}, star_actors\nprint({module}.{name} is star_actors.{name}, star_actors.__file__)"
    assert in_installed(installed, code).split() == ["True", str(installed / "star_actors" / "__init__.py")]


def test_the_quickstart_runs_on_the_installed_wheel(installed: Path) -> None:
    quickstart = str(ROOT / "examples" / "quickstart.py")
    code = f"import runpy, flame\nrunpy.run_path({quickstart!r}, run_name='__main__')\nprint(flame.__file__)"
    *_, result, file = in_installed(installed, code).splitlines()
    assert (result, file) == ("Final result: 5.46875", str(installed / "flame" / "__init__.py"))


# What modules export


@pytest.mark.parametrize("name", modules())
def test_a_public_module_says_what_it_exports(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__file__ is not None
    body = ast.parse(Path(module.__file__).read_text(encoding="utf-8")).body
    if all(isinstance(node, ast.Expr) for node in body):
        return  # a package with nothing in it but a docstring
    exported = module.__all__
    assert [one for one in exported if not hasattr(module, one)] == []
    assert len(set(exported)) == len(exported)


# What an import costs


def imported_by(code: str) -> set[str]:
    """The modules that are there after `code` and were not before, in a fresh interpreter."""
    script = f"import sys\nbefore = set(sys.modules)\n{code}\nprint(*(set(sys.modules) - before))"
    return set(run(sys.executable, "-c", script).split())


def test_importing_the_package_imports_next_to_nothing() -> None:
    own = {name for name in imported_by("import star_actors") if name.split(".")[0] == "star_actors"}
    assert own == {"star_actors", "star_actors._version"}


@pytest.mark.parametrize("code", ["import star_actors", "import flame.star"])
def test_an_import_brings_nothing_that_is_installed_beside_the_package(code: str) -> None:
    tops = {name.split(".")[0] for name in imported_by(code)} - {"flame", "star_actors"}
    assert tops - set(sys.stdlib_module_names) - set(sys.builtin_module_names) == set()
    assert not tops & {"asyncio", "concurrent", "logging", "multiprocessing", "socket", "ssl"}


def test_the_guides_names_bring_nothing_heavy() -> None:
    tops = {name.split(".")[0] for name in imported_by("from star_actors import StarAnalyzer, StarModelTester")}
    assert not tops & {"httpx", "lifelines", "matplotlib", "numpy", "opendp", "pandas", "rich", "scipy", "sklearn"}
