"""testcontainers-python with its reaper: the library starts it with the engine's socket in it, and talks to it by a
published port. The image is ours (`images/reaper`), named as the library lets everybody name one of their own
(RYUK_CONTAINER_IMAGE); everything else is the library's.

Run with an argument, this file is the program that is killed in the middle of its tests.
"""

import os
import signal
import subprocess
import sys
import unittest
import urllib.request

import docker
from testcontainers.core.container import DockerContainer, Reaper
from testcontainers.core.waiting_utils import wait_for_logs

import engine

SERVER = "mkdir /w; echo ahoy > /w/index.html; echo ready; exec httpd -f -p 80 -h /w"


def server() -> DockerContainer:
    return DockerContainer("busybox").with_command(["sh", "-c", SERVER]).with_exposed_ports(80)


def first_page(guest: DockerContainer) -> bytes:
    """What the server says by the port that was published for it, once it answers."""
    address = f"http://{guest.get_container_host_ip()}:{guest.get_exposed_port(80)}/"
    page = b""

    def answers() -> bool:
        nonlocal page
        try:
            with urllib.request.urlopen(address, timeout=20) as answer:
                page = answer.read()
        except OSError:
            return False
        return True

    engine.eventually(f"{address} answers", answers)
    return page


def be_killed() -> None:
    """Starts a container, says so, and is gone without a chance to clean up."""
    guest = server().start()
    wait_for_logs(guest, "ready", timeout=engine.DEADLINE_S)
    print(guest.get_container_id(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


class Reaped(unittest.TestCase):
    def setUp(self) -> None:
        self.client = engine.client()
        self.addCleanup(self.client.close)

    def names(self) -> list[str]:
        return sorted(container.name for container in self.client.containers.list(all=True, ignore_removed=True))

    def test_what_a_killed_program_leaves_is_removed_and_nothing_else(self):
        bystander = self.client.containers.run("busybox", ["sleep", "1000"], name="bystander", detach=True)
        self.addCleanup(bystander.remove, force=True)
        killed = subprocess.run([sys.executable, __file__, "be killed"], stdout=subprocess.PIPE, text=True)
        self.assertEqual(killed.returncode, -signal.SIGKILL)
        left = killed.stdout.strip()
        self.assertEqual(len(left), 64, left)
        engine.eventually("the reaper has done its work, and is gone", lambda: self.names() == ["bystander"])
        with self.assertRaises(docker.errors.NotFound):
            self.client.containers.get(left)

    def test_a_server_is_asked_by_its_published_port(self):
        # It lives as long as this process otherwise.
        self.addCleanup(Reaper.delete_instance)
        with server() as guest:
            wait_for_logs(guest, "ready", timeout=engine.DEADLINE_S)
            self.assertEqual(first_page(guest), b"ahoy\n")
            self.assertEqual(guest.exec(["cat", "/w/index.html"]), (0, b"ahoy\n"))
            reapers = [name for name in self.names() if name.startswith("testcontainers-ryuk-")]
            self.assertEqual(len(reapers), 1, self.names())
            told = guest.get_container_id()
        with self.assertRaises(docker.errors.NotFound):
            self.client.containers.get(told)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        be_killed()
    unittest.main()
