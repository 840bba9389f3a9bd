"""The engine under test, for the stories beside this file: its address comes from DOCKER_HOST, as for any client."""

import os
import time
import unittest

import docker

# Longer than anything takes on a loaded host; a story that gets here has failed.
DEADLINE_S = 600


def client() -> docker.DockerClient:
    return docker.from_env(timeout=DEADLINE_S)


def archive(image: str) -> str:
    """The path of an image's archive."""
    return os.path.join(os.environ["BERTH_TEST_IMAGES"], image + ".tar")


def eventually(what: str, holds) -> None:
    """Waits until `holds()` is true."""
    start = time.monotonic()
    while not holds():
        if time.monotonic() - start > DEADLINE_S:
            raise AssertionError(f"waited {DEADLINE_S} s for: {what}")
        time.sleep(0.05)


class Story(unittest.TestCase):
    """Tests of one engine, which they share; what they leave behind is removed."""

    maxDiff = None
    client: docker.DockerClient

    @classmethod
    def setUpClass(cls) -> None:
        cls.client = client()
        cls.addClassCleanup(cls.client.close)

    def run_detached(self, command, image="busybox", **options):
        """A container that runs until the test ends."""
        container = self.client.containers.run(image, command, detach=True, **options)
        self.addCleanup(self.remove, container)
        return container

    @staticmethod
    def remove(container) -> None:
        try:
            container.remove(force=True)
        except docker.errors.NotFound:
            pass
