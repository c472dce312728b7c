"""Records what clients and a server of Docker's API say to each other, and holds every answer
against the engine's own OpenAPI file. Arguments: that file, the socket to listen on, the server's socket.

Says "listening", carries conversations until its standard input ends, then prints a line per operation
that was answered and, after "WRONG", a line per answer that is not as the file says.
"""

import io
import json
import re
import socket
import sys
import threading
from http.client import HTTPMessage, HTTPResponse, IncompleteRead, parse_headers

import jsonschema
import yaml

# What docker's daemon says and the file does not, by the name of the definition: "always null", says a
# comment on progress, and means older clients; fields of older versions that clients still read.
DOCKERS = {
    "BuildInfo": {"progressDetail": {"type": "object"}, "aux": {"type": "object"}},
    "CreateImageInfo": {"progressDetail": {"type": "object"}, "aux": {"type": "object"}},
    "PushImageInfo": {"progressDetail": {"type": "object"}, "aux": {"type": "object"}, "id": {"type": "string"}},
    "EventMessage": {name: {"type": "string"} for name in ("status", "id", "from")},
    "ImageSummary": {"VirtualSize": {"type": "integer"}},
    "ImageConfig": {
        **{name: {"type": "string"} for name in ("Hostname", "Domainname", "Image")},
        **{name: {"type": "boolean"} for name in
           ("AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce")},
    },
}
# What only hull has to say, which docker's clients pass over.
HULLS = {
    "ContainerInspectResponse": {
        "Engine": {"type": "string"}, "SupervisorPid": {"type": "integer"}, "Warnings": {"type": "array"},
    },
    "ContainerConfig": {
        "NoJail": {"type": "boolean"},
        **{name: {"type": ["string", "null"]} for name in ("Emulation", "Isolation", "Platform")},
    },
    "HostConfig": {name: {"type": ["integer", "null"]} for name in ("NetworkReceiveBps", "NetworkSendBps")},
    "SystemInfo": {
        "DefaultEngine": {"type": "string"}, "RunDir": {"type": "string"}, "Kernels": {"type": "array"},
    },
}
# Answers of several values, one after another, and the type of each.
STREAMS = {
    ("get", "/events"): "EventMessage",
    ("get", "/containers/{id}/stats"): "ContainerStatsResponse",
    ("post", "/build"): "BuildInfo",
    ("post", "/images/create"): "CreateImageInfo",
    ("post", "/images/load"): "BuildInfo",
    ("post", "/images/{name}/push"): "PushImageInfo",
}


class Conversation:
    """A client's connection, carried to the server and back."""

    def __init__(self, client: socket.socket, upstream: str):
        self.asked, self.answered = bytearray(), bytearray()
        self.client = client
        self.server = socket.socket(socket.AF_UNIX)
        self.server.connect(upstream)
        ways = ((client, self.server, self.asked), (self.server, client, self.answered))
        self.threads = [threading.Thread(target=self.carry, args=way, daemon=True) for way in ways]
        for thread in self.threads:
            thread.start()

    @staticmethod
    def carry(source: socket.socket, target: socket.socket, record: bytearray) -> None:
        try:
            while piece := source.recv(65536):
                record += piece
                target.sendall(piece)
        except OSError:
            pass
        try:
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def end(self) -> None:
        for end in (self.client, self.server):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self.threads:
            thread.join()


class Buffered:
    """Bytes as the socket that http.client reads an answer from."""

    def __init__(self, stream: io.BytesIO):
        self.stream = stream

    def makefile(self, _mode: str) -> io.BytesIO:
        return Unclosed(self.stream)


class Unclosed(io.BufferedReader):
    """A stream that stays open after one answer has been read from it."""

    def __init__(self, stream):
        super().__init__(Pass(stream), 1)


class Pass(io.RawIOBase):
    def __init__(self, stream):
        self.stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        return self.stream.readinto(buffer)


def requests(text: bytes):
    """Method and target of each request in what a client sent."""
    stream = io.BytesIO(text)
    while line := stream.readline():
        if not line.endswith(b"\r\n"):
            return
        method, target, _ = line.decode().split(" ", 2)
        headers = parse_headers(stream)
        yield method.lower(), target
        skip_body(stream, headers)


def skip_body(stream: io.BytesIO, headers: HTTPMessage) -> None:
    if headers.get("Transfer-Encoding", "").lower() == "chunked":
        while size := int(stream.readline().split(b";")[0] or b"0", 16):
            stream.read(size + 2)
        stream.readline()
    else:
        stream.read(int(headers.get("Content-Length") or 0))


def answers(asked: bytes, answered: bytes):
    """Method, target, status, type and body of every exchange on a connection."""
    stream = io.BytesIO(answered)
    for method, target in requests(asked):
        if stream.tell() == len(answered):
            return
        response = HTTPResponse(Buffered(stream), method=method.upper())
        response.begin()
        if response.status == 101:
            yield method, target, 101, "", b""
            return
        try:
            body = response.read()
        except IncompleteRead as cut:
            # The client left in the middle: whole lines are whole.
            body = cut.partial[: cut.partial.rfind(b"\n") + 1]
        yield method, target, response.status, response.headers.get("Content-Type", ""), body


class Contract:
    """The engine's file as JSON schemas that forbid what they do not name."""

    def __init__(self, path: str):
        with open(path) as file:
            document = yaml.safe_load(file)
        self.paths = document["paths"]
        self.raw = document["definitions"]
        self.definitions = {name: self.strict(schema) for name, schema in self.raw.items()}
        for extra in (DOCKERS, HULLS):
            for name, properties in extra.items():
                self.properties(name).update(properties)
        self.routes = []
        for template in self.paths:
            whole = "".join(
                {"{name}": "(.+)"}.get(part, "([^/]+)") if part.startswith("{") else re.escape(part)
                for part in re.split(r"(\{[^}]*\})", template)
            )
            self.routes.append((template.count("{"), re.compile(whole), template))
        # Those without names in them first: /images/json is no image.
        self.routes.sort(key=lambda route: route[0])

    def properties(self, name: str) -> dict:
        return self.definitions[name]["properties"]

    def strict(self, schema: dict) -> dict:
        schema = dict(schema)
        # Lists and maps that have nothing in them are null where Go makes them, in docker's daemon
        # too, whatever the file says.
        nullable = schema.pop("x-nullable", False) or schema.get("type") in ("array", "object")
        for word in ("example", "examples", "description", "title", "default"):
            schema.pop(word, None)
        if "allOf" in schema:
            schema = self.merged(schema)
        if "$ref" in schema:
            schema = {"$ref": schema["$ref"]}
        if "properties" in schema:
            schema["properties"] = {name: self.strict(part) for name, part in schema["properties"].items()}
            schema.setdefault("additionalProperties", False)
        if isinstance(schema.get("additionalProperties"), dict):
            schema["additionalProperties"] = self.strict(schema["additionalProperties"])
        if isinstance(schema.get("items"), dict):
            schema["items"] = self.strict(schema["items"])
        if nullable and isinstance(schema.get("type"), str):
            schema["type"] = [schema["type"], "null"]
        elif nullable:
            schema = {"anyOf": [schema, {"type": "null"}]}
        return schema

    def merged(self, schema: dict) -> dict:
        """Several objects in one as one, or its strictness would forbid each what the others have."""
        whole = {"type": "object", "properties": dict(schema.get("properties", {}))}
        for part in schema["allOf"]:
            while "$ref" in part:
                part = self.raw[part["$ref"].rsplit("/", 1)[1]]
            if "allOf" in part:
                part = self.merged(part)
            whole["properties"].update(part.get("properties", {}))
        return whole

    def operation(self, method: str, target: str):
        path = re.sub(r"^/v\d+\.\d+(?=/)", "", target.partition("?")[0])
        for _, pattern, template in self.routes:
            if pattern.fullmatch(path) and method in self.paths[template]:
                return template
        return None

    def schema(self, method: str, template: str, status: int):
        """The schema of an answer's body, none where it has none; KeyError for a status that is not foreseen."""
        response = self.paths[template][method]["responses"]
        # The file names few of the errors; their form is one.
        found = response[status] if status < 400 or status in response else {"schema": {"$ref": "#/definitions/ErrorResponse"}}
        return self.strict(found["schema"]) if "schema" in found else None

    def wrong(self, schema: dict, value) -> list[str]:
        if value is None:
            return ["nothing at all"]
        validator = jsonschema.Draft4Validator({**schema, "definitions": self.definitions})
        return [f"{'.'.join(map(str, error.absolute_path))}: {error.message[:200]}" for error in validator.iter_errors(value)]


def values(body: bytes):
    """The JSON values that follow each other in a body."""
    decoder, text, place = json.JSONDecoder(), body.decode(), 0
    while text[place:].strip():
        place += len(text[place:]) - len(text[place:].lstrip())
        value, place = decoder.raw_decode(text, place)
        yield value


def judge(contract: Contract, method: str, target: str, status: int, kind: str, body: bytes):
    """The operation, and what is wrong with its answer."""
    template = contract.operation(method, target)
    if template is None:
        # BuildKit's second path is not in the file: an error has its form all the same.
        problems = contract.wrong({"$ref": "#/definitions/ErrorResponse"}, json.loads(body)) if status >= 400 else ["unknown"]
        return f"{method} {target}", problems
    name = f"{method} {template}"
    if status == 101:
        return name, []
    try:
        schema = contract.schema(method, template, status)
    except KeyError:
        return name, [f"status {status} is not foreseen"]
    if method == "head" or not kind.startswith("application/json"):
        wanted = schema is not None and schema.get("type") != "string" and "$ref" in schema and status < 400
        return name, [f"no JSON but {kind!r}"] if wanted and method != "head" else []
    if status < 400 and (method, template) in STREAMS:
        schema = {"$ref": f"#/definitions/{STREAMS[method, template]}"}
    elif schema is None:
        return name, ["a body that is not foreseen"] if body.strip() else []
    return name, [problem for value in values(body) for problem in contract.wrong(schema, value)]


def main() -> None:
    contract, listener = Contract(sys.argv[1]), socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[2])
    listener.listen(64)
    conversations = []

    def take() -> None:
        while True:
            client, _ = listener.accept()
            conversations.append(Conversation(client, sys.argv[3]))

    threading.Thread(target=take, daemon=True).start()
    print("listening", flush=True)
    sys.stdin.read()
    seen, wrong = {}, {}
    for conversation in conversations:
        conversation.end()
        for method, target, status, kind, body in answers(bytes(conversation.asked), bytes(conversation.answered)):
            name, problems = judge(contract, method, target, status, kind, body)
            seen.setdefault(name, set()).add(status)
            for problem in problems:
                wrong.setdefault(f"{name} {status}: {problem}", target)
    for name in sorted(seen):
        print(name, *sorted(seen[name]))
    print("WRONG")
    for problem, target in sorted(wrong.items()):
        print(f"{problem} ({target})")


main()
