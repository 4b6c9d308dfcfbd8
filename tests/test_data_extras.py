import sys
from pathlib import Path

import pytest

from star_actors.data.extras import load_extra
from star_actors.errors import ConfigurationError


def test_an_installed_module_is_returned() -> None:
    assert load_extra("json", "s3", "this") is sys.modules["json"]


def test_an_absent_module_names_the_extra_to_install() -> None:
    with pytest.raises(ConfigurationError, match=r"from_s3 needs no_such_library.*pip install 'star-actors\[s3\]'"):
        load_extra("no_such_library.part", "s3", "from_s3")


def test_a_module_that_fails_within_keeps_its_own_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_library.py").write_text("import what_it_lacks\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="what_it_lacks"):
        load_extra("broken_library", "s3", "from_s3")
