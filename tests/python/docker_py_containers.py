"""docker-py: containers from their creation to their end, and what is said when something is wrong."""

import contextlib
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

from docker.errors import APIError, ContainerError, ImageNotFound, NotFound

from engine import Story, client, eventually

# Ends with 3 when it is asked to with TERM, which a first process ignores otherwise.
OBEDIENT = ["sh", "-c", "trap 'exit 3' TERM; echo ready; while true; do sleep 0.1; done"]


class Lives(Story):
    def test_a_container_that_ends_gives_its_output(self):
        out = self.client.containers.run("busybox", ["sh", "-c", "echo out; echo err >&2"], remove=True)
        self.assertEqual(out, b"out\n")
        self.assertEqual(self.client.containers.list(all=True), [])

    def test_stderr_comes_on_demand_and_line_by_line(self):
        script = "echo one; sleep 0.3; echo two >&2; sleep 0.3; echo three"
        lines = self.client.containers.run(
            "busybox", ["sh", "-c", script], stdout=True, stderr=True, stream=True, remove=True
        )
        self.assertEqual(b"".join(lines), b"one\ntwo\nthree\n")

    def test_a_code_other_than_0_is_an_error_that_says_what_was_run(self):
        with self.assertRaises(ContainerError) as caught:
            self.client.containers.run("busybox", ["sh", "-c", "echo why >&2; exit 7"], name="failing")
        self.assertEqual((caught.exception.exit_status, caught.exception.stderr), (7, b"why\n"))
        failed = self.client.containers.get("failing")
        self.assertEqual((failed.status, failed.attrs["State"]["ExitCode"]), ("exited", 7))
        failed.remove()

    def test_a_life_from_creation_to_removal(self):
        box = self.client.containers.create("busybox", OBEDIENT, name="life", labels={"tier": "web"})
        self.addCleanup(self.remove, box)
        self.assertEqual((box.status, box.name, box.labels), ("created", "life", {"tier": "web"}))
        self.assertEqual(box.short_id, box.id[:12])
        self.assertEqual(box.image.tags, ["busybox:latest"])
        self.assertEqual(box.ports, {})
        box.start()
        eventually("the trap is set", lambda: b"ready" in box.logs())
        box.reload()
        self.assertEqual(box.status, "running")
        box.pause()
        box.reload()
        self.assertEqual(box.status, "paused")
        box.unpause()
        box.rename("renamed")
        self.assertEqual(self.client.containers.get("renamed").id, box.id)
        box.update(mem_limit="48m", cpu_shares=512)
        box.reload()
        self.assertEqual(box.attrs["HostConfig"]["Memory"], 48 << 20)
        box.restart(timeout=60)
        eventually("it is ready again", lambda: box.logs().count(b"ready") == 2)
        box.stop(timeout=60)
        self.assertEqual(box.wait(), {"StatusCode": 3})
        box.start()
        box.kill(signal="SIGKILL")
        self.assertEqual(box.wait()["StatusCode"], 137)
        box.remove()
        with self.assertRaises(NotFound):
            box.reload()

    def test_who_waits_hears_of_the_condition_asked_for(self):
        box = self.client.containers.create("busybox", ["sh", "-c", "exit 8"], name="awaited", auto_remove=True)
        self.addCleanup(self.remove, box)
        # It does not run, and never did.
        self.assertEqual(box.wait(condition="not-running")["StatusCode"], 0)
        with ThreadPoolExecutor() as others:
            waits = [others.submit(box.wait, condition=word) for word in ("next-exit", "removed")]
            time.sleep(0.5)
            self.assertFalse(any(wait.done() for wait in waits))
            box.start()
            self.assertEqual([wait.result()["StatusCode"] for wait in waits], [8, 8])
        self.assertEqual(self.client.containers.list(all=True, filters={"name": "awaited"}), [])


class Lists(Story):
    def test_filters_choose(self):
        made = {
            name: self.client.containers.create("busybox", "true", name=name, labels=labels)
            for name, labels in [("one", {"tier": "web"}), ("two", {"tier": "db"}), ("three", ["only"])]
        }
        for box in made.values():
            self.addCleanup(self.remove, box)

        def names(**options):
            return [box.name for box in self.client.containers.list(all=True, **options)]

        self.assertEqual(names(), ["three", "two", "one"])
        self.assertEqual(self.client.containers.list(), [])
        self.assertEqual(names(limit=1), ["three"])
        self.assertEqual(names(filters={"since": made["one"].id}), ["three", "two"])
        self.assertEqual(names(filters={"before": "two"}), ["one"])
        self.assertEqual(names(filters={"label": "tier=web"}), ["one"])
        self.assertEqual(names(filters={"label": ["tier"]}), ["two", "one"])
        self.assertEqual(names(filters={"status": "created", "name": "t"}), ["three", "two"])
        self.assertEqual(names(filters={"ancestor": "hello-world"}), [])
        sparse = self.client.containers.list(all=True, sparse=True)
        told = [(box.attrs["Names"], box.status, box.image.tags) for box in sparse]
        self.assertEqual(told, [([f"/{n}"], "created", ["busybox:latest"]) for n in ("three", "two", "one")])
        pruned = self.client.containers.prune(filters={"label": ["tier"]})
        self.assertEqual(sorted(pruned["ContainersDeleted"]), sorted(made[n].id for n in ("one", "two")))
        self.assertEqual(names(), ["three"])


class Errors(Story):
    def test_what_is_not_there_is_a_not_found_of_its_kind(self):
        with self.assertRaises(NotFound) as caught:
            self.client.containers.get("nosuch")
        self.assertEqual(caught.exception.status_code, 404)
        self.assertEqual(caught.exception.explanation, "No such container: nosuch")
        with self.assertRaises(ImageNotFound) as caught:
            self.client.images.get("nosuch")
        self.assertIn("No such image: nosuch", caught.exception.explanation)
        with self.assertRaises(ImageNotFound):
            self.client.containers.create("nosuch", "true")
        with self.assertRaises(NotFound):
            self.client.api.exec_inspect("nosuch")

    def test_a_conflict_is_one(self):
        box = self.client.containers.create("busybox", "true", name="taken")
        self.addCleanup(self.remove, box)
        with self.assertRaises(APIError) as caught:
            self.client.containers.create("busybox", "true", name="taken")
        self.assertEqual((caught.exception.status_code, caught.exception.is_client_error()), (409, True))
        self.assertIn('The container name "/taken" is already in use', caught.exception.explanation)
        with self.assertRaises(APIError) as caught:
            box.exec_run("true")
        self.assertEqual(caught.exception.status_code, 409)

    def test_a_program_that_is_not_there_is_named(self):
        with self.assertRaises(APIError) as caught:
            self.run_detached("nosuch", name="wrong")
        self.assertEqual(caught.exception.status_code, 400)
        self.assertIn('exec: "nosuch": executable file not found in $PATH', caught.exception.explanation)
        self.client.containers.get("wrong").remove()


class Daemon(Story):
    def test_it_tells_who_it_is(self):
        self.assertTrue(self.client.ping())
        version = self.client.version()
        self.assertEqual((version["Os"], version["Arch"]), ("linux", "amd64"))
        self.assertEqual(version["ApiVersion"], self.client.api.api_version)
        info = self.client.info()
        self.assertEqual((info["OSType"], info["Images"]), ("linux", 2))
        self.assertEqual(info["Containers"], info["ContainersRunning"] + info["ContainersStopped"])

    def test_it_tells_what_its_disk_holds(self):
        usage = self.client.df()
        tags = sorted(tag for image in usage["Images"] for tag in image["RepoTags"])
        self.assertEqual(tags, ["busybox:latest", "hello-world:latest"])
        self.assertGreater(usage["LayersSize"], 0)

    def test_it_tells_what_happens(self):
        with contextlib.closing(client()) as listener:
            events = listener.events(decode=True, filters={"type": "container"})
            box = self.client.containers.create("busybox", "true", name="heard", labels={"a": "b"})
            box.remove()
            seen = [next(events) for _ in range(2)]
            events.close()
        self.assertEqual([event["Action"] for event in seen], ["create", "destroy"])
        for event in seen:
            self.assertEqual(event["Actor"]["ID"], box.id)
            self.assertEqual(event["Actor"]["Attributes"], {"a": "b", "image": "busybox", "name": "heard"})
        since, until = seen[0]["time"], seen[1]["time"] + 1
        again = list(self.client.events(decode=True, since=since, until=until, filters={"container": box.id}))
        self.assertEqual(again, seen)


if __name__ == "__main__":
    unittest.main()
