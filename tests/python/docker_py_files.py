"""docker-py: a container's files, looked at from outside, and the image that comes of them."""

import io
import tarfile
import unittest

from docker.errors import NotFound

from engine import Story


def tar_of(**files: bytes) -> bytes:
    """An archive of these files."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return archive.getvalue()


def contents(chunks) -> dict:
    """The regular files of an archive."""
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
        return {entry.name: tar.extractfile(entry).read() for entry in tar if entry.isfile()}


class Files(Story):
    def test_what_is_put_is_got_and_becomes_an_image(self):
        box = self.client.containers.create("busybox", ["sh", "-c", "cat /tmp/a; sleep 1000"])
        self.addCleanup(self.remove, box)
        self.assertTrue(box.put_archive("/tmp", tar_of(a=b"first", b=b"second")))
        self.look(box)
        self.assertEqual(
            sorted((change["Kind"], change["Path"]) for change in box.diff()),
            [(0, "/tmp"), (1, "/tmp/a"), (1, "/tmp/b")],
        )

        box.start()
        self.assertTrue(box.put_archive("/tmp", tar_of(c=b"third")))
        self.assertEqual(box.exec_run("cat /tmp/c").output, b"third")
        self.look(box)

        image = box.commit(repository="made", tag="v1", author="me", changes=["CMD cat /tmp/c"])
        self.addCleanup(self.client.images.remove, image.id, force=True)
        self.assertEqual((image.tags, image.attrs["Author"]), (["made:v1"], "me"))
        self.assertEqual(self.client.containers.run("made:v1", remove=True), b"third")
        exported = contents(box.export())
        self.assertEqual((exported["tmp/a"], exported["tmp/c"]), (b"first", b"third"))

    def look(self, box):
        chunks, stat = box.get_archive("/tmp/a")
        self.assertEqual((stat["name"], stat["size"], stat["linkTarget"]), ("a", 5, ""))
        self.assertEqual(contents(chunks), {"a": b"first"})
        with self.assertRaises(NotFound) as caught:
            box.get_archive("/nosuch")
        self.assertIn("Could not find the file /nosuch in container", caught.exception.explanation)
        with self.assertRaises(NotFound):
            box.put_archive("/nosuch", tar_of(a=b""))


if __name__ == "__main__":
    unittest.main()
