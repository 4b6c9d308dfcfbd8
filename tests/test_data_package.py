import subprocess
import sys

import pytest

import star_actors.data


def test_every_public_name_is_there() -> None:
    for name in star_actors.data.__all__:
        assert callable(getattr(star_actors.data, name))


def test_dir_lists_the_public_names() -> None:
    assert dir(star_actors.data) == sorted(star_actors.data.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="from_ftp"):
        _ = star_actors.data.from_ftp


def test_importing_every_module_loads_no_heavy_library() -> None:
    code = """
import sys
import star_actors.data, star_actors.data.shapes, star_actors.data.fhir_table
for name in star_actors.data.__all__:
    getattr(star_actors.data, name)
print(sorted({"numpy", "pandas", "polars", "boto3", "botocore", "httpx", "tenacity", "anyio"} & set(sys.modules)))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
