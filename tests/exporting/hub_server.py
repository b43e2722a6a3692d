"""A stand-in for the Hugging Face hub on this machine: the part of its HTTP interface that
huggingface_hub calls to make a repository, upload a folder as a commit and download files. It keeps
what it is sent in memory, and refuses what the hub refuses: no token, a wrong checksum, a commit of
a file that was not uploaded.
"""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_of_the_tests"
LFS = 10_000  # bytes from which a file is stored by its checksum, apart from the commit


class Hub:
    """The repositories: files and commits of each, and what was asked."""

    def __init__(self):
        self.repositories: dict[str, dict] = {}
        self.objects: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.address = ""

    def answer(self, method: str, path: str, body: bytes, token: str) -> tuple[int, dict, bytes]:
        """Status, headers and body."""
        for known, pattern, call in ROUTES:
            found = re.fullmatch(pattern, path)
            if method in known and found:
                if method not in ("GET", "HEAD") and token != f"Bearer {TOKEN}":
                    return 401, {"X-Error-Message": "Invalid username or password."}, b"{}"
                return call(self, body, *found.groups())
        return 404, {"X-Error-Message": f"no such address {path}"}, b"{}"

    def create(self, body):
        asked = json.loads(body)
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        if name in self.repositories:
            return told({"url": f"{self.address}/{name}"}, 409)
        hidden = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.repositories[name] = {"private": hidden, "files": {}, "commits": []}
        return told({"url": f"{self.address}/{name}"})

    def validate(self, body):
        content = json.loads(body)["content"]
        header = content.startswith("---\n") and content.count("\n---\n") >= 1
        return told({"errors": [] if header else [{"message": "no header"}], "warnings": []})

    def preupload(self, body, name):
        modes = [
            {
                "path": one["path"],
                "uploadMode": "lfs" if one["size"] > LFS else "regular",
                "shouldIgnore": False,
            }
            for one in json.loads(body)["files"]
        ]
        return told({"files": modes})

    def batch(self, body, name):
        return told(
            {
                "transfer": "basic",
                "objects": [
                    {
                        **one,
                        "actions": {
                            "upload": {"href": f"{self.address}/objects/{one['oid']}"},
                            "verify": {"href": f"{self.address}/verify"},
                        },
                    }
                    for one in json.loads(body)["objects"]
                ],
            }
        )

    def store(self, body, oid):
        if hashlib.sha256(body).hexdigest() != oid:
            return told({"error": "another checksum"}, 400)
        self.objects[oid] = body
        return told({})

    def verify(self, body):
        asked = json.loads(body)
        there = len(self.objects.get(asked["oid"], b"")) == asked["size"]
        return told({}, 200 if there else 404)

    def commit(self, body, name):
        files, summary = {}, ""
        for line in body.splitlines():
            said = json.loads(line)
            value = said["value"]
            if said["key"] == "header":
                summary = value["summary"]
            elif said["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif said["key"] == "lfsFile":
                files[value["path"]] = self.objects[value["oid"]]  # KeyError: never uploaded
        repository = self.repositories[name]
        repository["files"].update(files)
        repository["commits"].append(summary)
        oid = hashlib.sha1(body).hexdigest()
        return told({"commitOid": oid, "commitUrl": f"{self.address}/{name}/commit/{oid}"})

    def resolve(self, body, name, file):
        found = self.repositories.get(name, {}).get("files", {}).get(file)
        if found is None:
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        tag = hashlib.sha256(found).hexdigest()
        return 200, {"X-Repo-Commit": "a" * 40, "ETag": f'"{tag}"'}, found


ROUTES = (
    (("POST",), "/api/repos/create", Hub.create),
    (("POST",), "/api/validate-yaml", Hub.validate),
    (("POST",), "/api/models/([^/]+/[^/]+)/preupload/main", Hub.preupload),
    (("POST",), r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", Hub.batch),
    (("PUT",), "/objects/([0-9a-f]{64})", Hub.store),
    (("POST",), "/verify", Hub.verify),
    (("POST",), "/api/models/([^/]+/[^/]+)/commit/main", Hub.commit),
    (("GET", "HEAD"), "/([^/]+/[^/]+)/resolve/main/(.+)", Hub.resolve),
)


def told(answer: dict, status: int = 200) -> tuple[int, dict, bytes]:
    return status, {"Content-Type": "application/json"}, json.dumps(answer).encode()


@contextmanager
def serving():
    """A hub that answers at its `address` while this lasts."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def reply(self):
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = self.chunks()
            path = self.path.partition("?")[0]
            hub.asked.append(f"{self.command} {path}")
            token = self.headers.get("Authorization") or ""
            if path.startswith("/objects/"):  # the address itself is the permission
                token = f"Bearer {TOKEN}"
            status, headers, answer = hub.answer(self.command, path, body, token)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer)

        def chunks(self) -> bytes:
            found = b""
            while size := int(self.rfile.readline().strip() or b"0", 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return found

        do_GET = do_HEAD = do_POST = do_PUT = reply

        def log_message(self, *_):
            """Nothing is printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
