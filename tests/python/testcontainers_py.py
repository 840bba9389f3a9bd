"""testcontainers-python: what it does without networks and published ports. Its reaper is off here
(TESTCONTAINERS_RYUK_DISABLED); it has a story of its own, testcontainers_reaped.
"""

import contextlib
import unittest

from testcontainers.core.container import DockerContainer
from testcontainers.core.waiting_utils import wait_for_logs

import engine


class Containers(unittest.TestCase):
    def test_a_container_lives_as_long_as_its_block(self):
        script = "echo starting; sleep 0.2; echo ready for $WHO >&2; sleep 1000"
        container = (
            DockerContainer("busybox")
            .with_command(["sh", "-c", script])
            .with_env("WHO", "you")
            .with_name("guest")
            .with_kwargs(mem_limit="64m", labels={"tier": "test"})
        )
        with container as guest:
            wait_for_logs(guest, "ready for you", timeout=engine.DEADLINE_S)
            self.assertEqual(guest.get_logs(), (b"starting\n", b"ready for you\n"))
            told = guest.exec(["sh", "-c", "echo $WHO; exit 3"])
            self.assertEqual((told.exit_code, told.output), (3, b"you\n"))
            wrapped = guest.get_wrapped_container()
            self.assertEqual(wrapped.name, "guest")
            self.assertEqual(wrapped.attrs["HostConfig"]["Memory"], 64 << 20)
            self.assertEqual(wrapped.labels["tier"], "test")
            self.assertEqual(wrapped.labels["org.testcontainers"], "true")
        with contextlib.closing(engine.client()) as client:
            self.assertEqual(client.containers.list(all=True), [])


if __name__ == "__main__":
    unittest.main()
