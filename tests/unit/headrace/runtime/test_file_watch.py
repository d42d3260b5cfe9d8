"""FileWatch tells of every way in which a file becomes another one."""

from pathlib import Path

import pytest

from headrace.runtime.file_watch import FileWatch


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with some content."""
    path = tmp_path / "key.pem"
    path.write_text("one")
    return path


def test_untouched_files_have_not_changed(file: Path) -> None:
    """Nothing is reported while nothing happens, however often one asks."""
    watch = FileWatch([file])
    assert [watch.has_changed() for _ in range(3)] == [False, False, False]


def test_a_written_file_is_reported_once(file: Path) -> None:
    """A change is told once, not at every later question."""
    watch = FileWatch([file])
    file.write_text("two, longer")
    assert [watch.has_changed(), watch.has_changed()] == [True, False]


def test_a_replaced_link_is_a_change(tmp_path: Path) -> None:
    """A mounted secret is replaced by moving a link to its folder, with files of equal size."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "key").write_text(name)
    (tmp_path / "data").symlink_to("a")
    watch = FileWatch([tmp_path / "data" / "key"])
    (tmp_path / "new").symlink_to("b")
    (tmp_path / "new").replace(tmp_path / "data")
    assert watch.has_changed()


def test_a_file_that_goes_and_comes_back_is_reported_both_times(file: Path) -> None:
    """A missing file is a state, not an error."""
    watch = FileWatch([file])
    file.unlink()
    assert watch.has_changed()
    file.write_text("again")
    assert watch.has_changed()
