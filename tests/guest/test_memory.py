"""A daemon's last words in a guest's memory: the newest of each, whole, from any piece, and none of what only looks so."""

from pathlib import Path

import pytest

from harness.guest import memory
from harness.guest.memory import reason

OLD = rb'E1125 13:59:28.000001       1 run.go:72] "command failed" err="the old reason"'
NEW = rb'E1125 13:59:29.123456     312 run.go:72] "command failed" err="failed to load \"config.yaml\":\n no kind"'
CRIO = b'time="2026-11-25T13:59:29.5Z" level=fatal msg="validating runtime config: no conmon"'


def found(daemon: str, content: bytes, tmp_path: Path) -> str:
    def save(start: int, length: int, file: Path) -> None:
        file.write_bytes(content[start : start + length])

    words = reason(daemon, len(content), save, tmp_path / "scratch")
    assert not (tmp_path / "scratch").exists()
    return words


def test_the_newest_words_are_the_reason(tmp_path: Path) -> None:
    content = b"\0\xff" + NEW + b"\0" * 99 + CRIO + b"\0" + OLD + b"\0"
    assert found("kubelet", content, tmp_path) == 'failed to load "config.yaml":  no kind'
    assert found("crio", content, tmp_path) == "validating runtime config: no conmon"


@pytest.mark.parametrize("other", [b"\0" * 64, NEW[:-1] + b"\0\0", b'"command failed" err="without a time"', CRIO])
def test_what_is_no_whole_line_of_the_kubelets_is_none(tmp_path: Path, other: bytes) -> None:
    assert found("kubelet", other, tmp_path) == ""


def test_words_of_several_lines_are_whole(tmp_path: Path) -> None:
    lines = NEW.partition(b'err="')[0] + b"err=<\n\tunknown labels: [a]\n\t--node-labels must be: b\n >\n"
    assert found("kubelet", OLD + b"\0" + lines + b"\0", tmp_path) == "unknown labels: [a] --node-labels must be: b"
    assert found("kubelet", lines[:-3], tmp_path) == ""


def test_words_whose_line_lies_in_pages_apart_are_found_in_their_buffer(tmp_path: Path) -> None:
    words = b'"command failed" err=<\n\tunknown labels: [a]\n\t--node-labels must be: b\n >'
    header = NEW.partition(b'"command')[0]
    cut = (header + words[:40]).ljust(128, b"\0")
    assert found("kubelet", cut + words + b"\0", tmp_path) == "unknown labels: [a] --node-labels must be: b"
    # The newest line of all counts before what has no time.
    assert found("kubelet", cut + words.ljust(256, b"\0") + OLD, tmp_path) == "the old reason"
    for other in (words, words[:-1] + b"\0", b"\0" + words + b"\0", b'"command failed" err="a\0'):
        assert found("kubelet", cut + other, tmp_path) == ""


def test_memory_is_read_piece_by_piece_and_the_newest_of_all_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_PIECE", 256)
    assert found("kubelet", NEW.ljust(256, b"\0") + OLD.ljust(300, b"\0"), tmp_path).startswith("failed to load")


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (b"Failed to start ContainerManager", "system validation failed - Following Cgroup subsystem not mounted: [memory]"),
        (b"Failed to start cAdvisor", "inotify_init: too many open files"),
        (b"Failed to initialize internal modules", "mkdir /var/log/containers: read-only file system"),
        (b"Failed to listen and serve", "listen tcp 0.0.0.0:10250: bind: address already in use"),
        (b"Kubelet failed to get node info", 'node "kios-node" not found'),
    ],
)
def test_a_kubelet_may_give_up_after_its_start(tmp_path: Path, message: bytes, words: str) -> None:
    err = words.replace('"', '\\"').encode()
    line = b'E1126 10:00:00.000001     312 kubelet.go:1703] "' + message + b'" err="' + err + b'"'
    assert found("kubelet", b"\0" + line + b"\n\0" + OLD, tmp_path) == words
    assert found("crio", line, tmp_path) == ""


GO = b"panic: runtime error: invalid memory address or nil pointer dereference\n"
SIGNAL = b"[signal SIGSEGV: segmentation violation code=0x1 addr=0x8 pc=0x1e2b0a4]\n"
MAIN = b"\ngoroutine 1 [running]:\nmain.main()\n"


@pytest.mark.parametrize("daemon", ["kubelet", "crio"])
def test_what_gos_runtime_ends_a_daemon_with_is_its_reason(tmp_path: Path, daemon: str) -> None:
    words = GO.decode().strip()
    assert found(daemon, b"\0" + GO + SIGNAL + MAIN, tmp_path) == words
    assert found(daemon, b"\0" + GO + MAIN, tmp_path) == words
    assert found(daemon, b"fatal error: runtime: out of memory\n" + MAIN, tmp_path) == "fatal error: runtime: out of memory"
    assert found(daemon, GO + b"panic: \0goroutine 1", tmp_path) == "", "a program's own texts"


def test_a_daemons_own_words_count_before_what_may_be_another_programs(tmp_path: Path) -> None:
    assert found("crio", GO + MAIN + b"\0" + CRIO, tmp_path) == "validating runtime config: no conmon"
    assert found("kubelet", OLD + b"\0" + GO + MAIN, tmp_path) == "the old reason"


PANIC = (
    b'E1125 23:47:59.849645      51 panic.go:336] "Observed a panic" panic="runtime error: invalid memory address or nil '
    b'pointer dereference" panicGoValue="\\"invalid memory address or nil pointer dereference\\"" stacktrace=<\n'
    b"\tgoroutine 586 [running]:\n\tk8s.io/apimachinery/pkg/util/runtime.logPanic({0x3357858, 0x5fe}, {0x2b, 0x53})\n"
    b"\t\tk8s.io/apimachinery@v0.34.9/pkg/util/runtime/runtime.go:132 +0xbc\n\tpanic({0x2bec400?, 0x53ba300?})\n"
    b"\t\truntime/panic.go:860 +0x13a\n"
    b"\tk8s.io/kubernetes/pkg/kubelet/runtimeclass.(*Manager).LookupRuntimeHandler(0x5fe79bb5e08?, 0x48e7af?)\n"
    b"\t\tk8s.io/kubernetes@v1.34.9/pkg/kubelet/runtimeclass/runtimeclass_manager.go:69 +0x36\n >\n"
)


def test_a_panic_is_told_with_what_ran_into_it(tmp_path: Path) -> None:
    where = "k8s.io/kubernetes/pkg/kubelet/runtimeclass.(*Manager).LookupRuntimeHandler"
    words = "panic: runtime error: invalid memory address or nil pointer dereference"
    assert found("kubelet", OLD + b"\0" + PANIC + b"\0" + NEW, tmp_path) == f"{words}, in {where}"
    assert found("kubelet", PANIC[:200] + b"\0", tmp_path) == words
