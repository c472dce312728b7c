"""What a Python program does with docker-py; every line that it prints is checked."""
import io
import tarfile

import docker

client = docker.from_env(timeout=120)
assert client.ping()
client.images.pull("busybox", tag="latest")
dockerfile = io.BytesIO(b"FROM busybox\nRUN echo built > /x\nCMD cat /x\n")
client.images.build(fileobj=dockerfile, tag="serve-py:1", rm=True)
print(client.containers.run("serve-py:1", remove=True).decode().strip())
try:
    client.containers.run("busybox", ["sh", "-c", "echo bad >&2; exit 3"], remove=True)
except docker.errors.ContainerError as error:
    print("exit", error.exit_status, error.stderr.decode().strip())

script = "echo up; exec sleep 1000"
box = client.containers.run(
    "busybox", ["sh", "-c", script], detach=True, name="serve-py", labels={"serve-py": "1"}
)
for line in box.logs(stream=True, follow=True):
    print("log", line.decode().strip())
    break
done = box.exec_run(["sh", "-c", "echo out; echo err >&2; exit 4"], demux=True)
print("exec", done.exit_code, done.output)

archive = io.BytesIO()
with tarfile.open(fileobj=archive, mode="w") as tar:
    entry = tarfile.TarInfo("file")
    entry.size, entry.uid = 3, 7
    tar.addfile(entry, io.BytesIO(b"abc"))
assert box.put_archive("/tmp", archive.getvalue())
pieces, stat = box.get_archive("/tmp/file")
with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
    print("file", stat["name"], stat["size"], tar.extractfile("file").read(), tar.getmember("file").uid)

print("list", [one.name for one in client.containers.list(filters={"label": "serve-py=1"})])
print("limit", box.stats(stream=False)["memory_stats"]["limit"])
volume, network = client.volumes.create("serve-py"), client.networks.create("serve-py")
print("made", volume.name, network.name)
box.stop(timeout=0)
print("ended", box.wait()["StatusCode"])
box.remove()
volume.remove()
network.remove()
events = client.events(filters={"container": "serve-py"}, since=0, until=5000000000, decode=True)
for event in events:
    if event["Action"] == "destroy":
        print("event", event["Action"])
        break
events.close()
client.images.remove("serve-py:1")
try:
    client.images.get("serve-py:none")
except docker.errors.ImageNotFound:
    print("no such image")

cat = client.api.create_container("busybox", ["cat"], stdin_open=True)
socket = client.api.attach_socket(cat, {"stdin": 1, "stdout": 1, "stream": 1})
client.api.start(cat)
socket._sock.sendall(b"through\n")
print("socket", socket._sock.recv(100)[8:].decode().strip())
socket.close()
client.api.remove_container(cat, force=True)
