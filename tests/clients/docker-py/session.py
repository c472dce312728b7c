"""What a program does with docker-py; the test compares every line. Argument: a name for its things."""

import io
import sys
import tarfile

import docker

name = sys.argv[1]
image = f"{name}:1"
client = docker.from_env(timeout=120)
assert client.ping()


def script(text: str) -> list[str]:
    return ["sh", "-c", text]


print("pulled", *client.images.pull("busybox", tag="latest").tags)

dockerfile = io.BytesIO(b"FROM busybox\nRUN echo from a file > /x\nCMD cat /x\n")
client.images.build(fileobj=dockerfile, tag=image, rm=True)
print("built", client.containers.run(image, remove=True).decode().strip())

upper = script("tr a-z A-Z; echo done >&2; exit 3")
box = client.api.create_container("busybox", upper, stdin_open=True, host_config={})
socket = client.api.attach_socket(box, {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
client.api.start(box)
socket._sock.sendall(b"hello\n")
socket._sock.shutdown(1)
streams = {1: b"", 2: b""}
for stream, data in docker.utils.socket.frames_iter(socket, tty=False):
    streams[stream] += data
socket.close()
code = client.api.wait(box)["StatusCode"]
client.api.remove_container(box)
print("streams", streams[1].decode().strip(), streams[2].decode().strip(), code)

volume = client.volumes.create(name, labels={"of": name})
network = client.networks.create(name, labels={"of": name})
server = script("for i in one two three; do echo $i; done; echo page > /index.html; exec httpd -f -h /")
web = client.containers.run(
    "busybox", server, detach=True, name=name, network=name, volumes=[f"{name}:/data"], labels={"of": name}
)
text = b""
for piece in web.logs(stream=True, follow=True):
    text += piece
    if b"three" in text:
        break
print("logs", *text.decode().split())

done = web.exec_run(script("echo out; echo err >&2; exit 4"), demux=True)
print("exec", *(stream.decode().strip() for stream in done.output), done.exit_code)

archive = io.BytesIO()
with tarfile.open(fileobj=archive, mode="w") as tar:
    entry = tarfile.TarInfo("file")
    entry.size, entry.uid = 3, 7
    tar.addfile(entry, io.BytesIO(b"abc"))
assert web.put_archive("/tmp", archive.getvalue())
pieces, stat = web.get_archive("/tmp/file")
with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
    entry = tar.getmember("file")
    print("copied", stat["name"], tar.extractfile(entry).read().decode(), entry.uid)

web.exec_run(script("echo kept > /data/x"))
mount = docker.types.Mount("/data", name, read_only=True)
print("volume", client.containers.run("busybox", "cat /data/x", mounts=[mount], remove=True).decode().strip())
fetch = script(f"until wget -qO- http://{name}/ 2>/dev/null; do sleep 0.1; done")
print("network", client.containers.run("busybox", fetch, network=name, remove=True).decode().strip())

assert [one.name for one in client.containers.list(filters={"label": f"of={name}"})] == [name]
assert web.stats(stream=False)["memory_stats"]["limit"] == 512 << 20
assert any("httpd" in " ".join(row) for row in web.top()["Processes"])
web.stop(timeout=0)
print("ended", web.wait()["StatusCode"])
web.remove()
seen = []
for event in client.events(filters={"container": web.id}, since=0, until=5000000000, decode=True):
    if event["Action"] in ("create", "start", "die", "destroy"):
        seen.append(event["Action"])
    if seen[-1:] == ["destroy"]:
        break
print("events", *seen)

network.remove()
volume.remove()
client.images.remove(image)
try:
    client.images.get(image)
except docker.errors.ImageNotFound:
    print("cleaned up")
