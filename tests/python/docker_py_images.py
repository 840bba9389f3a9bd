"""docker-py: images, by file and by registry. BERTH_TEST_REGISTRY names an empty registry."""

import os
import unittest

from docker.errors import APIError, ImageNotFound, NotFound

from engine import Story, archive


class Images(Story):
    def test_what_was_loaded_is_listed_named_and_removed(self):
        with open(archive("hello-world"), "rb") as file:
            loaded = self.client.images.load(file)
        self.assertEqual([image.tags for image in loaded], [["hello-world:latest"]])
        image = self.client.images.get("hello-world")
        self.assertEqual(image.id, loaded[0].id)
        self.assertEqual(image.short_id, image.id[:19])
        self.assertEqual((image.attrs["Os"], image.attrs["Architecture"]), ("linux", "amd64"))
        self.assertIsInstance(image.history(), list)

        self.assertTrue(image.tag("greeting", tag="v1"))
        image.reload()
        self.assertEqual(sorted(image.tags), ["greeting:v1", "hello-world:latest"])
        listed = self.client.images.list(name="greeting")
        self.assertEqual([one.id for one in listed], [image.id])
        self.assertEqual(self.client.images.list(filters={"dangling": True}), [])
        with self.assertRaises(APIError) as caught:
            self.client.images.remove(image.id)
        self.assertEqual(caught.exception.status_code, 409)
        self.client.images.remove("greeting:v1")
        with self.assertRaises(ImageNotFound):
            self.client.images.get("greeting:v1")

    def test_what_is_saved_can_be_loaded_again(self):
        image = self.client.images.get("busybox")
        saved = b"".join(image.save(named=True))
        [again] = self.client.images.load(saved)
        self.assertEqual((again.id, again.tags), (image.id, ["busybox:latest"]))

    def test_what_was_pushed_can_be_pulled(self):
        name = os.environ["BERTH_TEST_REGISTRY"] + "/team/box"
        image = self.client.images.get("busybox")
        image.tag(name, tag="v1")
        steps = list(self.client.images.push(name, tag="v1", stream=True, decode=True))
        self.assertFalse([step for step in steps if "error" in step], steps)
        [digest] = [step["aux"]["Digest"] for step in steps if "aux" in step]
        self.client.images.remove(name + ":v1")

        pulled = self.client.images.pull(name, tag="v1")
        self.assertEqual(pulled.id, image.id)
        self.assertIn(name + ":v1", pulled.tags)
        data = self.client.images.get_registry_data(name + ":v1")
        self.assertEqual(data.id, digest)
        self.assertTrue(data.has_platform("linux/amd64"))
        with self.assertRaises(NotFound):
            self.client.images.pull(name, tag="nosuch")
        self.client.images.remove(name + ":v1")

    def test_prune_takes_what_has_no_name(self):
        pruned = self.client.images.prune()
        self.assertEqual(pruned, {"ImagesDeleted": None, "SpaceReclaimed": 0})


if __name__ == "__main__":
    unittest.main()
