// The story of story.py, told to the official JS SDK. Prints the names of the steps that went well,
// with "lacking: …" for what this SDK cannot say. V2=1 asks for the second generation by name.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import http from "node:https";
import net from "node:net";
import { ModalClient, NotFoundError, Probe, SandboxTimeoutError } from "modal";

const v2 = process.env.MODAL_SANDBOX_V2 !== "0";
const story = `story-js-${process.env.MODAL_SANDBOX_V2}`;
const client = new ModalClient();
const sandboxes = client.sandboxes;
const name = `story-${randomBytes(4).toString("hex")}`;
const app = await client.apps.fromName(story, { createIfMissing: true });
const image = client.images.fromRegistry("python:3.11-slim").dockerfileCommands([
  "RUN python -m pip install numpy", "ENV OF_THE_IMAGE=1"]);
let sandbox;

const create = (params) => sandboxes.create(app, image, params);

async function run(command, params = {}) {
  const process = await sandbox.exec(command, params);
  const [out, err] = await Promise.all([process.stdout.readText(), process.stderr.readText()]);
  return [await process.wait(), out, err];
}

const steps = {
  async create() {
    const secret = await client.secrets.fromObject({ OF_A_SECRET: "2" });
    sandbox = await create({ name, timeoutMs: 120000, secrets: [secret], tags: { who: "story" },
      encryptedPorts: [8888], workdir: "/workspace" });
    assert.equal(/^sb-[0-9A-Za-z]{22}$/.test(sandbox.sandboxId), !v2);
    assert.equal(await sandbox.poll(), null);
  },

  async execute() {
    const code = "import os, numpy; print(os.environ['OF_THE_IMAGE'] + os.environ['OF_A_SECRET'])";
    assert.deepEqual(await run(["python", "-c", code]), [0, "12\n", ""]);
    assert.deepEqual(await run(["sh", "-c", "echo out; echo err >&2; exit 3"]), [3, "out\n", "err\n"]);
    assert.equal((await run(["sh", "-c", "kill -9 $$"]))[0], 137);
    const more = await run(["sh", "-c", "pwd; echo $MORE"], { workdir: "/tmp", env: { MORE: "x" } });
    assert.equal(more[1], "/tmp\nx\n");
    assert.equal((await run(["no-such-program"]))[0], 127);
  },

  async stdin_and_streams() {
    const process = await sandbox.exec(["cat"], { mode: "binary" });
    const data = Buffer.from(Array.from({ length: 1 << 20 }, (_, i) => i & 255));
    const read = process.stdout.readBytes();
    for (let at = 0; at < data.length; at += 1 << 17)
      await process.stdin.writeBytes(data.subarray(at, at + (1 << 17)));
    await process.closeStdin();
    assert.ok(data.equals(Buffer.from(await read)));
    assert.equal(await process.wait(), 0);
  },

  async files() {
    const files = sandbox.filesystem;
    await files.writeText("hello\n", "/workspace/deep/file.txt");
    assert.equal(await files.readText("/workspace/deep/file.txt"), "hello\n");
    assert.deepEqual((await files.listFiles("/workspace")).map((one) => one.name), ["deep"]);
    assert.equal((await files.stat("/workspace/deep/file.txt")).size, 6);
    await files.makeDirectory("/workspace/one/two");
    await files.remove("/workspace/one", { recursive: true });
    await assert.rejects(files.readText("/nowhere"), { name: "SandboxFilesystemNotFoundError" });
    await assert.rejects(files.remove("/workspace/deep"),
      { name: "SandboxFilesystemDirectoryNotEmptyError" });
  },

  async tags() {
    assert.deepEqual(await sandbox.getTags(), { who: "story" });
    await sandbox.setTags({ who: "story", more: "yes" });
    const found = [];
    for await (const one of sandboxes.list({ appId: app.appId, tags: { more: "yes" } }))
      found.push(one.sandboxId);
    assert.deepEqual(found, [sandbox.sandboxId]);
  },

  async lookup() {
    const again = await sandboxes.fromName(story, name);
    assert.equal(again.sandboxId, sandbox.sandboxId);
    const process = await again.exec(["echo", "again"]);
    assert.equal(await process.stdout.readText(), "again\n");
    await assert.rejects(sandboxes.fromName(story, "nobody"), NotFoundError);
    await assert.rejects(create({ name }), /runs already/);
  },

  async tunnel() {
    const server = await sandbox.exec(["python", "-u", "-m", "http.server", "8888", "--bind",
      "127.0.0.1"], { workdir: "/workspace/deep" });
    for await (const text of server.stdout) if (text.includes("Serving")) break;
    const { host, port } = (await sandbox.tunnels())[8888];
    const ca = readFileSync(process.env.CA);
    const answer = await new Promise((resolve, reject) => {
      http.get({ host, port, ca, path: "/file.txt" }, (reply) => {
        let text = "";
        reply.on("data", (data) => { text += data; }).on("end", () => resolve(text));
      }).on("error", reject);
    });
    assert.equal(answer, "hello\n");
  },

  async snapshot() {
    const copied = await sandbox.snapshotFilesystem();
    const copy = await sandboxes.create(app, copied, { command: ["cat", "/workspace/deep/file.txt"] });
    assert.equal(await copy.wait(), 0);
    assert.equal(await copy.stdout.readText(), "hello\n");
    await client.images.delete(copied.imageId);
    await assert.rejects(sandboxes.create(app, copied), /NOT_FOUND/);
  },

  async terminate() {
    await sandbox.terminate();
    assert.equal(await sandbox.wait(), 137);
    assert.equal(await sandbox.poll(), 137);
    await assert.rejects(async () => (await sandboxes.fromId(sandbox.sandboxId)).exec(["true"]));
  },

  async entrypoint() {
    const one = await create({ command: ["sh", "-c", "read x; cat; echo got $x; echo bad >&2; exit 5"],
      blockNetwork: true });
    await one.stdin.writeText("this\n");
    await one.stdin.close();
    assert.equal(await one.wait(), 5);
    assert.equal(await one.stdout.readText(), "got this\n");
    assert.equal(await one.stderr.readText(), "bad\n");
  },

  async network() {
    const listener = net.createServer((socket) => socket.destroy());
    await new Promise((resolve) => { listener.listen(0, "127.0.0.1", resolve); });
    const code = `import socket; socket.create_connection(('127.0.0.1', ${listener.address().port}), 3)`;
    for (const blockNetwork of [false, true]) {
      const one = await create({ command: ["python", "-c", code], blockNetwork });
      assert.equal(await one.wait() === 0, !blockNetwork);
    }
    listener.close();
  },

  async volumes() {
    const volume = await client.volumes.ephemeral();
    let text = "";
    for (const word of ["written", "again"]) {
      const one = await create({ volumes: { "/data": volume },
        command: ["sh", "-c", `echo ${word} >> /data/file; cat /data/file`] });
      await one.wait();
      text = await one.stdout.readText();
    }
    assert.equal(text, "written\nagain\n");
    volume.closeEphemeral();
    const named = await client.volumes.fromName("story-volume", { createIfMissing: true });
    const one = await create({ volumes: { "/data": named.withMountOptions({ readOnly: true }) },
      command: ["sh", "-c", "touch /data/x"] });
    assert.equal(await one.wait(), 1);
  },

  async ways_in_and_out() {
    const one = await create({
      command: ["python", "-m", "http.server", "8000"], unencryptedPorts: [8000], h2Ports: [8002],
      inboundCidrAllowlist: ["127.0.0.0/8"], readinessProbe: Probe.withTcp(8000), cloud: "aws",
      proxy: await client.proxies.fromName("a-proxy"), includeOidcIdentityToken: true,
    });
    await one.waitUntilReady(30_000);
    const found = await one.tunnels();
    assert.deepEqual(Object.keys(found).sort(), ["8000", "8002"]);
    const token = await one.exec(["printenv", "MODAL_IDENTITY_TOKEN"]);
    assert.equal(await token.wait(), 0);
    await one.terminate();
  },

  async a_private_registry() {
    const secret = await client.secrets.fromObject({ REGISTRY_USERNAME: "u", REGISTRY_PASSWORD: "p" });
    const open = client.images.fromRegistry(`private.example/it:${story}`, secret);
    const one = await sandboxes.create(app, open, { command: ["true"] });
    assert.equal(await one.wait(), 0);
  },

  async an_image_that_fails() {
    const bad = client.images.fromRegistry("python:3.11-slim").dockerfileCommands([
      "RUN pip install no-such-package-at-all"]);
    await assert.rejects(sandboxes.create(app, bad), /failed/);
  },

  async time_outs() {
    const one = await create({ command: ["sleep", "60"], timeoutMs: 1000 });
    assert.equal(await one.wait().catch((problem) => {
      assert.ok(problem instanceof SandboxTimeoutError);
      return 124;
    }), 124);
    const idle = await create({ command: ["sleep", "60"], idleTimeoutMs: 1000 });
    await idle.wait();
  },
};

// What the other story has and this SDK does not.
const LACKING = ["local_files"];

for (const [step, tell] of Object.entries(steps)) {
  await tell();
  console.log(step);
}
for (const step of LACKING) {
  assert.equal(image.addLocalFile, undefined, `${step}: the SDK has it by now`);
  console.log(`lacking: ${step}`);
}
client.close();
