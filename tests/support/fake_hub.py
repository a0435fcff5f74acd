"""A Hub of our own: the endpoints that downloads use, large files behind signed addresses on another origin, and every kind
of misbehaviour that is known of them, on demand.

    with FakeHub() as hub:
        commit = hub.add("org", "model", {"m.gguf": content})
        hub.misbehave("cut", "cut", None, "expired")   # of the next requests for bytes, in this order
        ... HF_ENDPOINT=hub.endpoint ...
        hub.requests                                   # what was asked, by whom with what
"""
import collections
import functools
import gzip
import hashlib
import http.server
import json
import threading
import time
import urllib.parse

LARGE = 4096  # bytes from which a file lies elsewhere, by the name of its SHA-256

Request = collections.namedtuple("Request", "origin method path headers status")


@functools.lru_cache(maxsize=256)
def sha256_name(content):
    """Remembered: contents may be large, and each question asks for it again."""
    return hashlib.sha256(content).hexdigest()


def git_name(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, origin, hub):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.origin, self.hub = origin, hub
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def handle_error(self, request, client_address):
        pass  # clients that are killed go away in the middle of everything


class FakeHub:
    def __init__(self):
        self.repositories = {}  # "org/repo" -> {"refs": {name: commit}, "commits": {commit: {path: content}}}
        self.requests = []
        self.token = None      # when set, only who has it is answered
        self.gated = False
        self.renamed = {}      # "org/repo" -> "org/other", answered by a redirect
        self.delay_s = 0       # before each piece of bytes
        self.piece = 1 << 16
        self.is_single = False  # ranges are ignored
        self.gate = threading.Event()  # what "stall" waits for; opened at the end
        self.started = threading.Event()  # some bytes were sent
        self._script = collections.deque()
        self._api_script = collections.deque()
        self._lock = threading.Lock()
        self._epoch = 0        # of signed addresses
        self.corrupt = {}      # offset -> how often it is still sent wrong; -1: always
        self.hub = _Server("hub", self)
        self.store = _Server("store", self)
        self.stranger = _Server("stranger", self)
        self.endpoint = self.hub.url

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.gate.set()
        for server in (self.hub, self.store, self.stranger):
            server.shutdown()
            server.server_close()

    def add(self, org, repo, files, revision="main"):
        """Adds a commit with these files and lets the revision name it."""
        seed = json.dumps([org, repo, revision, sorted((p, hashlib.sha256(c).hexdigest()) for p, c in files.items())])
        commit = hashlib.sha1(seed.encode()).hexdigest()
        repository = self.repositories.setdefault(f"{org}/{repo}", {"refs": {}, "commits": {}})
        repository["commits"][commit] = dict(files)
        repository["refs"][revision] = commit
        return commit

    def misbehave(self, *kinds):
        """How the next requests for bytes are answered; None: well."""
        with self._lock:
            self._script.extend(kinds)

    def misbehave_api(self, *kinds):
        """The same for what is asked of the Hub itself."""
        with self._lock:
            self._api_script.extend(kinds)

    def next_kind(self):
        with self._lock:
            return self._script.popleft() if self._script else None

    def next_api_kind(self):
        with self._lock:
            return self._api_script.popleft() if self._api_script else None

    def asked(self, origin=None, method=None):
        return [r for r in list(self.requests) if origin in (None, r.origin) and method in (None, r.method)]

    def expire(self):
        """Signed addresses given so far are not honoured any more."""
        self._epoch += 1

    def environment(self, cache):
        return {"HF_ENDPOINT": self.endpoint, "HF_HOME": str(cache), "HF_HUB_DOWNLOAD_TIMEOUT": "60",
                "no_proxy": "*", "NO_PROXY": "*"}


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    # --- answers ---

    def note(self, status):
        self.server.hub.requests.append(
            Request(self.server.origin, self.command, self.path, dict(self.headers), status))

    def answer(self, status, body=b"", **headers):
        self.note(status)
        self.send_response(status)
        headers.setdefault("Content_Length", str(len(body)))
        for name, value in headers.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status, code, text=""):
        self.answer(status, b"", X_Error_Code=code, X_Error_Message=text or code)

    # --- the Hub ---

    def do_HEAD(self):
        self.serve()

    def do_GET(self):
        self.serve()

    def serve(self):
        try:
            if self.server.origin == "hub":
                self.serve_hub()
            elif self.server.origin == "store":
                self.serve_store()
            else:
                self.answer(200, b"who are you?")
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def serve_hub(self):
        hub = self.server.hub
        kind = hub.next_api_kind()
        if kind == "limited":
            self.answer(429, RateLimit='"resolvers";r=0;t=0', Retry_After="7")
        elif kind == "retry-after":
            self.answer(429, Retry_After="1")
        elif kind == "limited-long":
            self.answer(429, Retry_After="7200")
        elif kind == "503":
            self.answer(503, Retry_After="0")
        elif kind == "reset":
            self.close_connection = True
        elif kind == "portal":
            self.answer(200, b"<html>please log in</html>", ETag='"x"')
        elif kind == "not-json":
            self.answer(200, b"[1, 2")
        elif hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            if self.headers.get("Authorization"):
                self.refuse(401, "", "Invalid credentials in Authorization header")
            else:
                self.refuse(401, "RepoNotFound")
        elif hub.gated:
            self.refuse(403, "GatedRepo")
        else:
            self.route_hub()

    def route_hub(self):
        words = [urllib.parse.unquote(w) for w in self.path.split("?")[0].split("/")[1:]]
        if words[:2] == ["api", "models"] and len(words) == 6 and words[4] == "revision":
            self.serve_info("/".join(words[2:4]), words[5])
        elif words[:2] == ["api", "resolve-cache"] and len(words) >= 6:
            self.serve_small("/".join(words[2:4]), words[4], "/".join(words[5:]))
        elif len(words) >= 5 and words[2] == "resolve":
            self.serve_resolve("/".join(words[:2]), words[3], "/".join(words[4:]))
        else:
            self.refuse(404, "", "no such route")

    def find(self, name, revision):
        hub = self.server.hub
        if name in hub.renamed:
            self.answer(307, Location=self.path.replace(name, hub.renamed[name]))
            return None
        repository = hub.repositories.get(name)
        if not repository:
            self.refuse(401 if "Authorization" not in self.headers else 404, "RepoNotFound")
            return None
        commit = repository["refs"].get(revision, revision)
        if commit not in repository["commits"]:
            self.refuse(404, "RevisionNotFound")
            return None
        return commit, repository["commits"][commit]

    def serve_info(self, name, revision):
        found = self.find(name, revision)
        if found:
            body = json.dumps({"id": name, "sha": found[0], "siblings": [{"rfilename": p} for p in found[1]]})
            self.answer(200, body.encode(), Content_Type="application/json")

    def serve_resolve(self, name, revision, path):
        found = self.find(name, revision)
        if not found:
            return
        commit, files = found
        if path not in files:
            self.refuse(404, "EntryNotFound")
            return
        content = files[path]
        if len(content) < LARGE:
            target = f"/api/resolve-cache/{name}/{commit}/{urllib.parse.quote(path)}"
            self.answer(307, Location=target, X_Repo_Commit=commit)
            return
        sha256 = sha256_name(content)
        target = f"{self.server.hub.store.url}/{sha256}?signature={self.server.hub._epoch}&size={len(content)}"
        self.answer(302, Location=target, X_Repo_Commit=commit, X_Linked_Etag=f'"{sha256}"',
                    X_Linked_Size=str(len(content)), ETag='"something-else"')

    def serve_small(self, name, commit, path):
        content = self.server.hub.repositories[name]["commits"][commit][path]
        body = content
        headers = {"X_Repo_Commit": commit, "ETag": f'"{git_name(content)}"'}
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            body = gzip.compress(content)
            headers["Content_Encoding"] = "gzip"
        self.answer(200, body, **headers)

    # --- where the bytes are ---

    def content(self):
        name = self.path.split("?")[0].strip("/")
        for repository in self.server.hub.repositories.values():
            for files in repository["commits"].values():
                for content in files.values():
                    if len(content) >= LARGE and sha256_name(content) == name:
                        return content
        return None

    _by_name = {}

    def serve_store(self):
        hub = self.server.hub
        name = self.path.split("?")[0].strip("/")
        content = self._by_name.get(name)
        if content is None:
            content = self.content()
            if content is None:
                self.answer(404)
                return
            self._by_name[name] = content
        query = urllib.parse.parse_qs(self.path.partition("?")[2])
        if query.get("signature") != [str(hub._epoch)]:
            self.answer(403, b"<Error><Code>AccessDenied</Code></Error>")
            return
        self.serve_bytes(content, hub.next_kind())

    def asked_range(self, total):
        text = self.headers.get("Range")
        if not text or not text.startswith("bytes="):
            return None
        first, _, last = text[6:].partition("-")
        return int(first), min(int(last) if last else total - 1, total - 1)

    def serve_bytes(self, content, kind):
        hub = self.server.hub
        plain = {"expired": 403, "gone": 404, "503": 503, "500": 500, "416": 416, "408": 408}
        if kind in plain:
            self.answer(plain[kind])
        elif kind == "limited":
            self.answer(429, Retry_After="0")
        elif kind == "redirect":
            self.answer(302, Location=f"{hub.stranger.url}/somewhere")
        elif kind == "redirect-home":
            self.answer(302, Location=f"{self.server.url}{self.path}")
        elif kind == "redirect-file":
            self.answer(302, Location="file:///etc/passwd")
        elif kind == "reset":
            self.note(0)
            self.close_connection = True
        else:
            self.send_bytes(content, kind)

    def send_bytes(self, content, kind):
        hub = self.server.hub
        total = len(content)
        wanted = None if hub.is_single or kind == "whole" else self.asked_range(total)
        first, last = wanted or (0, total - 1)
        body = memoryview(content)[first:last + 1]
        self.note(206 if wanted else 200)
        self.send_response(206 if wanted else 200)
        shown_first = first + 1 if kind == "wrong-range" else first
        shown_total = total + 1 if kind == "wrong-length" else total
        if wanted:
            self.send_header("Content-Range", f"bytes {shown_first}-{last}/{shown_total}")
        if kind == "gzip":
            self.send_header("Content-Encoding", "gzip")
            body = gzip.compress(bytes(body))
        length = len(body) + (1 if kind == "wrong-length" and not wanted else 0)
        if kind == "too-much":
            body = bytes(body) + b"x" * 100
        if kind in ("too-much", "no-length"):
            self.send_header("Connection", "close")
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(length))
        self.send_header("ETag", f'"{first}-{total}"')  # says nothing of the content, as in real life
        self.end_headers()
        self.write_body(body, first, kind)

    def write_body(self, body, first, kind):
        hub = self.server.hub
        limit = len(body)
        if kind == "cut":
            limit = len(body) // 2
        if kind in ("cut-at-once", "stall-at-once"):
            limit = 0
        if kind == "stall":
            limit = len(body) // 3
        body = self.spoil(body, first, kind)
        for at in range(0, limit, hub.piece):
            if hub.delay_s:
                time.sleep(hub.delay_s)
            self.wfile.write(body[at:min(at + hub.piece, limit)])
            hub.started.set()
        if kind and kind.startswith("stall"):
            self.wfile.flush()
            hub.gate.wait(60)
        if limit < len(body):
            self.close_connection = True

    def spoil(self, body, first, kind):
        """Wrong bytes at the right length."""
        hub = self.server.hub
        spoiled = bytearray(body) if kind == "wrong-bytes" or hub.corrupt else body
        if kind == "wrong-bytes" and spoiled:
            spoiled[len(spoiled) // 2] ^= 0xFF
        with hub._lock:
            for offset, n_left in list(hub.corrupt.items()):
                if first <= offset < first + len(body) and n_left != 0:
                    spoiled[offset - first] ^= n_left & 0xFF  # another byte each time, unless it is for ever
                    hub.corrupt[offset] = n_left - 1 if n_left > 0 else n_left
        return spoiled
