// What a program does with dockerode; the test compares every line. Argument: a name for its things.
'use strict';

const assert = require('node:assert');
const { PassThrough } = require('node:stream');
const { finished } = require('node:stream/promises');
const Docker = require('dockerode');
const tar = require('tar-stream');

const name = process.argv[2];
const image = `${name}:1`;
const docker = new Docker();

const script = (text) => ['sh', '-c', text];

// Progress to its end; what went wrong is the last line.
const followed = (stream) =>
  new Promise((resolve, reject) => {
    docker.modem.followProgress(stream, (error, lines) => (error ? reject(error) : resolve(lines)));
  });

const text = async (stream) => {
  let all = '';
  for await (const piece of stream) all += piece;
  return all.trim();
};

// An archive of one file.
const archive = (file, content, uid = 0) => {
  const pack = tar.pack();
  pack.entry({ name: file, uid }, content);
  pack.finalize();
  return pack;
};

// Both streams of a connection that carries frames, to its end.
const demultiplexed = async (stream) => {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  docker.modem.demuxStream(stream, stdout, stderr);
  stream.on('end', () => [stdout, stderr].forEach((one) => one.end()));
  return Promise.all([text(stdout), text(stderr)]);
};

// The output of a container that is gone then.
const output = async (options) => {
  const container = await docker.createContainer({ ...options, Tty: false });
  const stream = await container.attach({ stream: true, stdout: true, stderr: true });
  const said = demultiplexed(stream);
  await container.start();
  await container.wait();
  const [stdout] = await said;
  await container.remove();
  return stdout;
};

const main = async () => {
  await followed(await docker.pull('busybox:latest'));
  const tags = (await docker.getImage('busybox').inspect()).RepoTags;
  console.log('pulled', ...tags);

  const dockerfile = 'FROM busybox\nRUN echo from a file > /x\nCMD cat /x\n';
  await followed(await docker.buildImage(archive('Dockerfile', dockerfile), { t: image }));
  console.log('built', await output({ Image: image }));

  const upper = await docker.createContainer({
    Image: 'busybox',
    Cmd: script('tr a-z A-Z; echo done >&2; exit 3'),
    OpenStdin: true,
    StdinOnce: true,
  });
  const attached = await upper.attach({ hijack: true, stream: true, stdin: true, stdout: true, stderr: true });
  const streams = demultiplexed(attached);
  await upper.start();
  attached.end('hello\n');
  const { StatusCode } = await upper.wait();
  console.log('streams', ...(await streams), StatusCode);
  await upper.remove();

  await docker.createVolume({ Name: name, Labels: { of: name } });
  await docker.createNetwork({ Name: name, Labels: { of: name } });
  const web = await docker.createContainer({
    name,
    Image: 'busybox',
    Cmd: script('for i in one two three; do echo $i; done; echo page > /index.html; exec httpd -f -h /'),
    Labels: { of: name },
    HostConfig: { NetworkMode: name, Binds: [`${name}:/data`] },
  });
  await web.start();
  const logs = await web.logs({ follow: true, stdout: true, stderr: true });
  const lines = new PassThrough();
  docker.modem.demuxStream(logs, lines, lines);
  let logged = '';
  for await (const piece of lines) {
    logged += piece;
    if (logged.includes('three')) break;
  }
  logs.destroy();
  console.log('logs', ...logged.trim().split('\n'));

  const run = async (command) => {
    const exec = await web.exec({ Cmd: script(command), AttachStdout: true, AttachStderr: true });
    const said = await demultiplexed(await exec.start({}));
    return [...said, (await exec.inspect()).ExitCode];
  };
  console.log('exec', ...(await run('echo out; echo err >&2; exit 4')));

  await web.putArchive(archive('file', 'abc', 7), { path: '/tmp' });
  const extract = tar.extract();
  extract.on('entry', (header, stream, next) => {
    text(stream).then((content) => {
      console.log('copied', header.name, content, header.uid);
      next();
    });
  });
  await finished((await web.getArchive({ path: '/tmp/file' })).pipe(extract));

  await run('echo kept > /data/x');
  const Mounts = [{ Type: 'volume', Source: name, Target: '/data', ReadOnly: true }];
  console.log('volume', await output({ Image: 'busybox', Cmd: ['cat', '/data/x'], HostConfig: { Mounts } }));
  const fetch = script(`until wget -qO- http://${name}/ 2>/dev/null; do sleep 0.1; done`);
  console.log('network', await output({ Image: 'busybox', Cmd: fetch, HostConfig: { NetworkMode: name } }));

  const listed = await docker.listContainers({ filters: { label: [`of=${name}`] } });
  assert.deepStrictEqual(listed.map((one) => one.Names[0]), [`/${name}`]);
  assert.strictEqual((await web.stats({ stream: false })).memory_stats.limit, 512 * 2 ** 20);
  assert((await web.top()).Processes.some((row) => row.join(' ').includes('httpd')));
  await web.stop({ t: 0 });
  console.log('ended', (await web.wait()).StatusCode);
  await web.remove();
  const events = await docker.getEvents({ filters: { container: [web.id] }, since: 0, until: 5000000000 });
  const seen = [];
  let rest = '';
  for await (const piece of events) {
    const whole = (rest + piece).split('\n');
    rest = whole.pop();
    const actions = whole.map((line) => JSON.parse(line).Action);
    seen.push(...actions.filter((action) => ['create', 'start', 'die', 'destroy'].includes(action)));
    if (seen.includes('destroy')) break;
  }
  console.log('events', ...seen);

  await docker.getNetwork(name).remove();
  await docker.getVolume(name).remove();
  await docker.getImage(image).remove();
  await assert.rejects(docker.getImage(image).inspect(), { statusCode: 404 });
  console.log('cleaned up');
};

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
