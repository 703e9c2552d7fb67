"""The QEMU that is named: programs that stand in for it, some of which are none."""

from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.vm.qemu import Qemu, find

_NEW = "#!/bin/sh\necho 'QEMU emulator version 11.1.2 (Debian 1:11.1.2)'\n"


def program(folder: Path, content: bytes) -> str:
    file = folder / "qemu"
    file.write_bytes(content)
    file.chmod(0o755)
    return str(file)


@pytest.mark.parametrize("before", ["", "echo warning: no KVM >&2\n", "echo warning: no KVM\n"], ids=["", "stderr", "stdout"])
def test_its_version_is_found_beside_warnings(tmp_path: Path, before: str) -> None:
    named = program(tmp_path, _NEW.replace("echo", f"{before}echo", 1).encode())
    assert find(named, tmp_path) == Qemu(Path(named), (11, 1))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x7fELF" + bytes(100), "cannot be run: .*Exec format error"),
        (b"#!/nonexistent\n", "cannot be run: .*No such file"),
        (b"#!/bin/sh\nprintf '\\377\\376'\n", "is no QEMU: asked for its version, it says '\ufffd\ufffd'"),
        (b"#!/bin/sh\nkill -9 $$\n", "was killed by signal 9"),
        (_NEW.replace("11.1.2", "7.2.0", 1).encode(), r"QEMU emulator version 7\.2\.0 .* is too old: below 10"),
    ],
    ids=["another system's", "no interpreter", "no text", "killed", "old"],
)
def test_what_is_no_fit_qemu_is_refused_in_words(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(HarnessError, match=words):
        find(program(tmp_path, content), tmp_path)


def test_one_that_does_not_answer_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.vm.qemu._WITHIN", 0.2)
    with pytest.raises(HarnessError, match=r"did not end in 0\.2 s"):
        find(program(tmp_path, b"#!/bin/sh\nexec sleep 60\n"), tmp_path)
