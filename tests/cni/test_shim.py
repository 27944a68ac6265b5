"""Both shims, run as a runtime runs them, against a real unix socket or none at all."""

import json
import os
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from homeport_cni.conf import ANNOTATIONS
from homeport_cni.errors import read
from homeport_cni.frames import MAX_PAYLOAD, MAX_STDIN, CniReply, encode, encode_reply
from homeport_cni.versions import SUPPORTED
from tests.cni.conftest import ENVIRON, Program, agent, listening

BLUE = b'{"cniVersion": "1.0.0", "name": "blue", "type": "homeport", "network": "blue"}'
# Odd on purpose: a byte-faithful copy keeps spaces, escapes, key order, long numbers and duplicates.
PREV = b'{ "ips":[ {"address":"10.0.0.2\\/24"} ],  "x":1.50e+3, "x": 12345678901234567890, "\\u00e4":"\xc3\xa4" }'
ANNOTATED = json.dumps({ANNOTATIONS: {"homeport.dev/interfaces": "[]"}}).encode()
GKE_ANNOTATED = json.dumps({ANNOTATIONS: {"networking.gke.io/interfaces": "[]"}}).encode()
ORDINARY = json.dumps({ANNOTATIONS: {"app": "homeport.dev/interfaces"}}).encode()


def chained(
    runtime: bytes = ORDINARY, prev: bytes | None = PREV, version: bytes = b"1.0.0", more: bytes = b""
) -> bytes:
    head = b'{"cniVersion":"' + version + b'","name":"pods","type":"homeport",' + more + b'"runtimeConfig":' + runtime
    return head + (b"" if prev is None else b',\n "prevResult" : ' + prev) + b"}\n"


def code_of(done: subprocess.CompletedProcess[bytes]) -> int:
    """The code of the error JSON, with all that must be right about one."""
    error = read(done.stdout)
    assert error is not None, done
    assert error.msg
    assert (done.returncode, done.stderr) == (1, b"")
    return error.code


# ---- with an agent


@pytest.mark.parametrize("executable", ["homeport", "homeport-ipam"])
def test_a_call_reaches_the_agent_whole(shim: Program, run_dir: Path, executable: str) -> None:
    with agent(run_dir, CniReply(0, b'{"ips": []}\n')) as seen:
        done = shim(BLUE, executable, CNI_ARGS="VM_NAME=web;X=\udcff", PATH="/bin", CNI_EMPTY="")
    assert (done.returncode, done.stdout, done.stderr) == (0, b'{"ips": []}\n', b"")
    (call,) = seen.calls
    assert (call.executable, call.stdin) == (executable, BLUE)
    assert call.environ == ENVIRON | {"CNI_ARGS": "VM_NAME=web;X=\udcff", "CNI_EMPTY": ""}
    assert seen.namespaces == [Path("/proc/self/ns/net").stat().st_ino]


@pytest.mark.parametrize("exit_code", [0, 1, 77])
def test_the_agents_exit_code_and_output_are_the_shims(shim: Program, run_dir: Path, exit_code: int) -> None:
    with agent(run_dir, CniReply(exit_code, b"")):
        done = shim(BLUE)
    assert (done.returncode, done.stdout) == (exit_code, b"")


def test_a_megabyte_goes_there_and_back(shim: Program, run_dir: Path) -> None:
    stdin = BLUE[:-1] + b',"x":"' + b"y" * (MAX_STDIN - len(BLUE) - 7) + b'"}'
    assert len(stdin) == MAX_STDIN
    with agent(run_dir):
        done = shim(stdin)
    assert (done.returncode, done.stdout) == (0, stdin)


def test_stdin_may_come_in_pieces(shim: Program, run_dir: Path) -> None:
    with agent(run_dir) as seen:
        process = subprocess.Popen(
            [shim.bin_dir / "homeport"], env=ENVIRON, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        assert process.stdin is not None
        for piece in (BLUE[:1], BLUE[1:40], BLUE[40:]):
            process.stdin.write(piece)
            time.sleep(0.01)
        stdout, _ = process.communicate()
    assert (stdout, seen.calls[0].stdin) == (BLUE, BLUE)


def test_a_delete_does_without_its_netns(shim: Program, run_dir: Path) -> None:
    with agent(run_dir, CniReply(0, b"")) as seen:
        assert shim(BLUE, CNI_COMMAND="DEL", CNI_NETNS="/run/netns/gone").returncode == 0
        assert shim(BLUE, CNI_COMMAND="DEL", CNI_NETNS=None).returncode == 0
        assert shim(BLUE, CNI_COMMAND="DEL", CNI_NETNS="").returncode == 0
    assert len(seen.calls) == 3
    assert seen.namespaces == []


@pytest.mark.parametrize("command", ["ADD", "CHECK"])
def test_a_netns_that_cannot_be_opened_is_refused(shim: Program, run_dir: Path, command: str) -> None:
    with agent(run_dir) as seen:
        done = shim(BLUE, CNI_COMMAND=command, CNI_NETNS='/run/netns/"go\ne"')
    assert code_of(done) == 4
    assert json.loads(done.stdout)["msg"] == 'CNI_NETNS: /run/netns/"go\ne": No such file or directory'
    assert json.loads(done.stdout)["cniVersion"] == "1.0.0"
    assert seen.calls == []


def test_a_netns_that_is_a_fifo_holds_nobody(shim: Program, run_dir: Path) -> None:
    fifo = run_dir / "fifo"
    os.mkfifo(fifo)
    with agent(run_dir) as seen:
        assert shim(BLUE, CNI_NETNS=str(fifo)).returncode == 0
    assert seen.namespaces == [fifo.stat().st_ino], "judging it is left to the agent"


def test_what_is_no_json_is_the_agents_to_judge(shim: Program, run_dir: Path) -> None:
    with agent(run_dir, CniReply(1, b"{}")) as seen:
        shim(b"{")
        shim(b"")
    assert [call.stdin for call in seen.calls] == [b"{", b""]


def test_closed_standard_streams_are_not_taken_for_the_socket(shim: Program, run_dir: Path) -> None:
    close_both = "import os, sys; os.close(0); os.close(1); os.execve(sys.argv[1], [sys.argv[1]], os.environ)"
    with agent(run_dir, CniReply(9, b"answer")) as seen:
        done = subprocess.run(
            ["/usr/bin/env", "python3", "-c", close_both, shim.bin_dir / "homeport"],
            env=ENVIRON | {"PATH": os.environ["PATH"]},
            timeout=30,
        )
    assert done.returncode == 9
    assert [call.stdin for call in seen.calls] == [b""]


def test_a_result_that_cannot_be_printed_is_no_success(shim: Program, run_dir: Path) -> None:
    with agent(run_dir, CniReply(0, b"{}")), Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [shim.bin_dir / "homeport"], env=ENVIRON, input=BLUE, stdout=full, stderr=subprocess.PIPE, timeout=30
        )
    assert done.returncode == 1
    assert b"No space left" in done.stderr


# ---- runDir


@pytest.mark.parametrize(
    ("executable", "document"),
    [
        ("homeport", {"network": "blue", "runDir": "RUN"}),
        ("homeport-ipam", {"ipam": {"network": "blue", "runDir": "RUN"}, "runDir": "/nowhere"}),
    ],
)
def test_the_configurations_run_dir_wins(
    shim: Program, tmp_path: Path, run_dir: Path, executable: str, document: dict[str, Any]
) -> None:
    other = run_dir / 'o"ther-ä'
    other.mkdir()
    for ascii_only in (True, False):
        text = json.dumps(document, ensure_ascii=ascii_only).replace(
            '"RUN"', json.dumps(str(other), ensure_ascii=ascii_only)
        )
        with agent(other, CniReply(5, b"other")):
            assert shim(text.encode(), executable).stdout == b"other"
        (other / "agent.sock").unlink()


@pytest.mark.parametrize("value", ["null", '""', "5", "{}", '["/x"]'])
def test_a_run_dir_that_says_nothing_leaves_the_installed_one(shim: Program, run_dir: Path, value: str) -> None:
    with agent(run_dir, CniReply(0, b"here")):
        assert shim(BLUE[:-1] + f', "runDir": {value}}}'.encode()).stdout == b"here"


@pytest.mark.parametrize("value", ["/" + "x" * 96, "/a\0b", "/a\ud800"], ids=["too long", "zero", "half a pair"])
def test_a_run_dir_that_cannot_be_is_7(shim: Program, value: str) -> None:
    done = shim(BLUE[:-1] + b', "runDir": ' + json.dumps(value).encode() + b"}")
    assert code_of(done) == 7
    assert b"at most 96 bytes" in done.stdout


def test_the_longest_run_dir_fits(shim: Program) -> None:
    done = shim(BLUE[:-1] + b', "runDir": ' + json.dumps("/" + "x" * 95).encode() + b"}")
    assert code_of(done) == 11


# ---- VERSION


@pytest.mark.parametrize(
    ("stdin", "version"),
    [
        (b"", "1.1.0"),
        (b" \n", "1.1.0"),
        (b"{}", "1.1.0"),
        (b'{"cniVersion":"0.4.0"}', "0.4.0"),
        (b'{"x": [{"cniVersion": "0.1.0"}], "cniVersion": "9.\\u0039.9"}', "9.9.9"),
        (b'{"cniVersion": 1}', "1.1.0"),
    ],
)
def test_version_needs_no_agent(shim: Program, stdin: bytes, version: str) -> None:
    done = shim(stdin, environ={"CNI_COMMAND": "VERSION"})
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout) == {"cniVersion": version, "supportedVersions": list(SUPPORTED)}


def test_version_of_what_is_no_json_is_6(shim: Program) -> None:
    assert code_of(shim(b"{", environ={"CNI_COMMAND": "VERSION"})) == 6


# ---- misuse that the shim must answer itself


def test_no_command_is_4_and_reads_nothing(shim: Program) -> None:
    silent, _ = os.pipe()
    for environ in ({}, {"CNI_COMMAND": ""}):
        done = subprocess.run([shim.bin_dir / "homeport"], env=environ, stdin=silent, capture_output=True, timeout=30)
        assert code_of(done) == 4
        assert b"CNI_COMMAND" in done.stdout
    os.close(silent)
    os.close(_)


@pytest.mark.parametrize("size", [MAX_STDIN + 1, 10_000_000])
def test_an_oversized_stdin_is_6(shim: Program, run_dir: Path, size: int) -> None:
    with agent(run_dir) as seen:
        done = shim(b"{" + b" " * (size - 2) + b"}")
    assert code_of(done) == 6
    assert b"1048576 bytes" in done.stdout
    assert seen.calls == []


def test_an_oversized_environment_is_4(shim: Program, run_dir: Path) -> None:
    with agent(run_dir) as seen:
        assert code_of(shim(BLUE, CNI_ARGS="x" * 65_536)) == 4
        assert shim(BLUE, CNI_ARGS="x" * 65_000, OTHER="y" * 65_536).returncode == 0
    assert len(seen.calls) == 1


def test_a_stdin_that_cannot_be_read_is_5(shim: Program) -> None:
    with Path(os.devnull).open("wb") as writable_only:
        done = subprocess.run(
            [shim.bin_dir / "homeport"], env=ENVIRON, stdin=writable_only, capture_output=True, timeout=30
        )
    assert code_of(done) == 5


# ---- without an agent


@pytest.mark.parametrize(
    ("command", "code"), [("ADD", 11), ("CHECK", 11), ("DEL", 11), ("GC", 11), ("STATUS", 50), ("NONSENSE", 11)]
)
@pytest.mark.parametrize("executable", ["homeport", "homeport-ipam"])
def test_no_agent(shim: Program, run_dir: Path, executable: str, command: str, code: int) -> None:
    done = shim(BLUE, executable, CNI_COMMAND=command)
    assert code_of(done) == code
    document = json.loads(done.stdout)
    assert document["cniVersion"] == "1.0.0"
    assert f"{run_dir}/agent.sock: No such file" in document["msg"]


def test_a_stale_socket_is_no_agent(shim: Program, run_dir: Path) -> None:
    with agent(run_dir):
        pass
    done = shim(BLUE)
    assert code_of(done) == 11
    assert b"Connection refused" in done.stdout


@pytest.mark.parametrize("stdin", [b"", b"{", b"[]", b"\xff"])
def test_no_agent_and_no_json_is_6(shim: Program, stdin: bytes) -> None:
    assert code_of(shim(stdin)) == 6


@pytest.mark.parametrize(
    "runtime",
    [ORDINARY, b"{}", b"null", b'""', b'{"%s": null}' % ANNOTATIONS.encode(), b'{"%s": {}}' % ANNOTATIONS.encode()],
)
def test_an_ordinary_pod_starts_and_stops_without_agent(shim: Program, runtime: bytes) -> None:
    stdin = chained(runtime)
    added = shim(stdin)
    assert (added.returncode, added.stdout, added.stderr) == (0, PREV, b"")
    for command in ("DEL", "CHECK", "STATUS"):
        done = shim(stdin, CNI_COMMAND=command)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("said", [b'"network":null,', b'"network":"","interface":"",', b'"netw\\u006frk":"",'])
def test_a_network_that_says_nothing_is_chained_too(shim: Program, said: bytes) -> None:
    assert shim(chained(more=said)).stdout == PREV


def test_an_ordinary_pod_asks_nobody_even_when_the_agent_is_there(shim: Program, run_dir: Path) -> None:
    with agent(run_dir, CniReply(1, b"{}")) as seen:
        assert shim(chained()).stdout == PREV
        assert shim(chained(), CNI_COMMAND="STATUS").returncode == 0
        assert seen.calls == []
        assert shim(chained(), CNI_COMMAND="DEL").returncode == 1, "a runtime may have lost the annotations"
    assert len(seen.calls) == 1


@pytest.mark.parametrize(
    "stdin",
    [
        pytest.param(chained(ANNOTATED), id="annotated"),
        pytest.param(chained(GKE_ANNOTATED), id="annotated by the other name"),
        pytest.param(chained(b'{"%s": {"homeport.dev\\/interf\\u0061ces": 1}}' % ANNOTATIONS.encode()), id="escaped"),
        pytest.param(chained(b'{"%s": []}' % ANNOTATIONS.encode()), id="annotations not understood"),
        pytest.param(chained(b"5"), id="runtimeConfig not understood"),
        pytest.param(chained(more=b'"network":"blue",'), id="a Network"),
        pytest.param(chained(more=b'"interface":"web-eth0",'), id="an Interface"),
        pytest.param(chained(more=b'"network":5,'), id="not understood"),
        pytest.param(chained(version=b"0.2.0"), id="a version not spoken"),
        pytest.param(chained(more=b'"network":"",')[:-2] + b',"network":"blue"}', id="the last of two counts"),
    ],
)
@pytest.mark.parametrize("command", ["ADD", "DEL", "CHECK"])
def test_whoever_asks_for_something_waits_for_the_agent(shim: Program, stdin: bytes, command: str) -> None:
    assert code_of(shim(stdin, CNI_COMMAND=command)) == 11


def test_status_of_an_annotated_pods_configuration_succeeds_too(shim: Program) -> None:
    assert shim(chained(ANNOTATED, None), CNI_COMMAND="STATUS").returncode == 0


@pytest.mark.parametrize("prev", [None, b"null", b"[]", b"5"])
def test_an_ordinary_pod_without_prev_result_is_the_agents(shim: Program, prev: bytes | None) -> None:
    assert code_of(shim(chained(prev=prev))) == 11


def test_garbage_collection_is_never_left_out(shim: Program) -> None:
    assert code_of(shim(chained(version=b"1.1.0"), CNI_COMMAND="GC")) == 11


def test_an_ipam_plugin_is_never_chained(shim: Program) -> None:
    assert code_of(shim(chained(), "homeport-ipam")) == 11


# ---- an agent that fails


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="closes"),
        pytest.param(b"\0\0\0", id="closes in the header"),
        pytest.param(encode(encode_reply(CniReply(0, b"{}")))[:-1], id="closes in the answer"),
        pytest.param(b"\0\0\0\x02J\0", id="another kind"),
        pytest.param(b"\0\0\0\x01R\0", id="no exit code"),
        pytest.param((MAX_PAYLOAD + 2).to_bytes(4, "big") + b"R\0", id="too long"),
        pytest.param(b"HTTP/1.1 400", id="somebody else's socket"),
    ],
)
def test_an_answer_cut_short_prints_nothing_of_it(shim: Program, run_dir: Path, answer: bytes) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(10_000)
        connection.sendall(answer)

    with listening(run_dir, serve):
        assert code_of(shim(BLUE)) == 11
        assert shim(chained(), CNI_COMMAND="DEL").returncode == 0


def test_an_agent_that_refuses_before_reading_is_heard(shim: Program, run_dir: Path) -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(encode(encode_reply(CniReply(1, b'{"code": 11}'))))

    with listening(run_dir, serve):
        done = shim(BLUE[:-1] + b',"x":"' + b"y" * 900_000 + b'"}')
    assert done.stdout == b'{"code": 11}'


def test_a_hung_agent_is_given_up(impatient: Program, run_dir: Path) -> None:
    done = threading.Event()

    def serve(connection: socket.socket) -> None:
        done.wait(10)

    with listening(run_dir, serve):
        begun = time.monotonic()
        assert code_of(impatient(BLUE)) == 11
        done.set()
    assert 0.15 < time.monotonic() - begun < 10


def test_a_hung_agent_with_a_full_queue_holds_neither_status_nor_ordinary_pods(
    impatient: Program, run_dir: Path
) -> None:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(run_dir / "agent.sock"))
    server.listen(0)
    waiting = socket.socket(socket.AF_UNIX)
    waiting.connect(str(run_dir / "agent.sock"))
    with server, waiting:
        assert code_of(impatient(BLUE, CNI_COMMAND="STATUS")) == 50
        assert impatient(chained(), CNI_COMMAND="DEL").returncode == 0


def test_a_stdin_that_never_ends_is_given_up(impatient: Program) -> None:
    silent, writer = os.pipe()
    done = subprocess.run([impatient.bin_dir / "homeport"], env=ENVIRON, stdin=silent, capture_output=True, timeout=30)
    os.close(silent)
    os.close(writer)
    assert code_of(done) == 6
