"""docker-py: a container that runs, and what flows out of it and into it."""

import socket as sockets
import struct
import unittest

from docker.utils.socket import frames_iter, demux_adaptor, consume_socket_output

from engine import Story, eventually

SPEAKER = "echo first; echo second >&2; trap 'exit 0' TERM; while true; do sleep 0.1; done"


def raw(stream):
    """The socket behind what docker-py hands out, which differs from transport to transport."""
    return getattr(stream, "_sock", stream)


class Running(Story):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.box = cls.client.containers.run(
            "busybox", ["sh", "-c", SPEAKER], detach=True, name="speaker", mem_limit="64m",
            environment={"COLOR": "blue"},
        )
        cls.addClassCleanup(cls.remove, cls.box)
        eventually("it spoke", lambda: cls.box.logs() in (b"first\nsecond\n", b"second\nfirst\n"))

    def test_logs_by_stream_by_number_and_by_time(self):
        self.assertEqual(self.box.logs(stderr=False), b"first\n")
        self.assertEqual(self.box.logs(stdout=False), b"second\n")
        self.assertEqual(len(self.box.logs(tail=1).splitlines()), 1)
        stamp, text = self.box.logs(stderr=False, timestamps=True).split(b" ", 1)
        self.assertRegex(stamp.decode(), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$")
        self.assertEqual(text, b"first\n")
        self.assertEqual(self.box.logs(until=1), b"")
        self.assertEqual(self.box.logs(since=4_000_000_000), b"")

    def test_logs_that_are_followed_end_with_the_container(self):
        counter = self.run_detached(["sh", "-c", "for n in 1 2 3; do echo $n; sleep 0.2; done"])
        self.assertEqual(b"".join(counter.logs(stream=True, follow=True)), b"1\n2\n3\n")

    def test_a_command_gives_its_code_and_its_output(self):
        self.assertEqual(tuple(self.box.exec_run(["echo", "hi"])), (0, b"hi\n"))
        code, (out, err) = self.box.exec_run(["sh", "-c", "echo o; echo e >&2; exit 9"], demux=True)
        self.assertEqual((code, out, err), (9, b"o\n", b"e\n"))
        script = "pwd; id -u; echo $COLOR$EXTRA"
        told = self.box.exec_run(["sh", "-c", script], workdir="/tmp", user="1000", environment={"EXTRA": "!"})
        self.assertEqual(told.output, b"/tmp\n1000\nblue!\n")

    def test_a_command_that_is_not_there_says_so(self):
        told = self.box.exec_run("nosuch")
        self.assertEqual(told.exit_code, 127)
        self.assertIn(b'exec: "nosuch": executable file not found in $PATH', told.output)

    def test_the_output_of_a_command_streams(self):
        told = self.box.exec_run(["sh", "-c", "echo a; sleep 0.3; echo b >&2"], stream=True, demux=True)
        self.assertEqual(list(told.output), [(b"a\n", None), (None, b"b\n")])

    def test_a_commands_socket_takes_input_to_its_end(self):
        api = self.client.api
        command = api.exec_create(self.box.id, ["sh", "-c", "cat; echo done >&2; exit 5"], stdin=True)
        stream = api.exec_start(command["Id"], socket=True)
        raw(stream).sendall(b"typed\n")
        raw(stream).shutdown(sockets.SHUT_WR)
        frames = (demux_adaptor(*frame) for frame in frames_iter(stream, tty=False))
        self.assertEqual(consume_socket_output(frames, demux=True), (b"typed\n", b"done\n"))
        stream.close()
        inspected = api.exec_inspect(command["Id"])
        self.assertEqual((inspected["Running"], inspected["ExitCode"]), (False, 5))
        self.assertEqual(inspected["ContainerID"], self.box.id)

    def test_a_command_on_a_terminal_is_not_framed(self):
        told = self.box.exec_run(["sh", "-c", "test -t 1 && tty"], stdin=True, tty=True)
        self.assertEqual(told.exit_code, 0)
        self.assertRegex(told.output, rb"^/dev/pts/\d+\r\n$")

    def test_it_is_counted_once_and_again_and_again(self):
        once = self.box.stats(stream=False)
        self.assertEqual((once["name"], once["id"]), ("/speaker", self.box.id))
        self.assertEqual(once["memory_stats"]["limit"], 64 << 20)
        self.assertGreater(once["memory_stats"]["usage"], 0)
        self.assertGreater(once["cpu_stats"]["cpu_usage"]["total_usage"], 0)
        stream = self.box.stats(decode=True)
        first, second = next(stream), next(stream)
        stream.close()
        self.assertLess(first["read"], second["read"])
        self.assertEqual(second["precpu_stats"], first["cpu_stats"])

    def test_its_processes_are_listed(self):
        top = self.box.top()
        self.assertEqual(top["Titles"], ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"])
        self.assertTrue(any(SPEAKER in row[-1] for row in top["Processes"]), top)
        self.assertEqual(self.box.top(ps_args="-o pid,comm")["Titles"], ["PID", "COMMAND"])


class Attached(Story):
    def test_a_container_hears_what_is_sent_and_answers(self):
        box = self.client.containers.create(
            "busybox", ["sh", "-c", "read line; echo heard $line; echo over >&2; exit 4"], stdin_open=True
        )
        self.addCleanup(self.remove, box)
        params = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
        stream = box.attach_socket(params=params)
        box.start()
        raw(stream).sendall(b"you\n")
        frames = (demux_adaptor(*frame) for frame in frames_iter(stream, tty=False))
        self.assertEqual(consume_socket_output(frames, demux=True), (b"heard you\n", b"over\n"))
        stream.close()
        self.assertEqual(box.wait()["StatusCode"], 4)
        self.assertEqual(box.attach(logs=True, stream=False, stderr=False), b"heard you\n")

    def test_a_terminal_has_a_size_that_changes(self):
        box = self.client.containers.create("busybox", "sh", tty=True, stdin_open=True)
        self.addCleanup(self.remove, box)
        stream = raw(box.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1}))
        stream.settimeout(600)
        box.start()
        box.resize(height=33, width=77)
        stream.sendall(b"stty size; exit 6\n")
        said = b""
        while block := stream.recv(4096):
            said += block
        stream.close()
        self.assertIn(b"33 77", said)
        self.assertEqual(box.wait()["StatusCode"], 6)


if __name__ == "__main__":
    unittest.main()
