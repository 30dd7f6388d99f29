// tests/e2e/hub.mjs: a whole hub for a test: orthant-control and data nodes as processes of their own, on free
// ports and in a directory of its own, with tenants and keys made over the admin API.
//
// ORT_BIN_DIR says where the programs are (default build/check/bin).
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, statfs, writeFile } from 'node:fs/promises';
import { createWriteStream } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const top = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const bin = process.env.ORT_BIN_DIR ?? path.join(top, 'build/check/bin');

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/**
 * Ports that were free a moment ago. All are held at once, so that they differ; and none is of those that the kernel
 * gives to connections (32768 and up), or another test could have it before, or between, its uses.
 */
export async function freePorts(count) {
    const servers = [];
    while (servers.length < count) {
        const server = createServer();
        const port = 10240 + Math.floor(Math.random() * (32768 - 10240));
        const open = await new Promise((done) => {
            server.once('error', () => done(false)).listen(port, '127.0.0.1', () => done(true));
        });
        if (open) {
            servers.push(server);
        }
    }
    const ports = servers.map((server) => server.address().port);
    await Promise.all(servers.map((server) => new Promise((done) => server.close(done))));
    return ports;
}

/** As tests/support/scratch.h: memory if there is enough, for a busy disk makes a sync a matter of seconds. */
async function scratchRoot() {
    const room = await statfs('/dev/shm').catch(() => null);
    const roomy = room !== null && room.bavail * room.bsize >= 2 ** 31;
    return process.env.ORT_SCRATCH ?? (roomy ? '/dev/shm' : tmpdir());
}

/** Tries until it returns something true; tells the last error when the time is up. */
export async function until(what, attempt, timeoutMs = 60000) {
    const end = Date.now() + timeoutMs;
    let last;
    for (;;) {
        try {
            const value = await attempt();
            if (value) {
                return value;
            }
            last = undefined;
        } catch (error) {
            last = error;
        }
        if (Date.now() > end) {
            throw new Error(`${what}: not within ${timeoutMs} ms`, { cause: last });
        }
        await sleep(25);
    }
}

class Process {
    constructor(name, program, config, dir, env = {}) {
        Object.assign(this, { name, program, config, dir, env, child: null, out: '' });
    }

    start() {
        const log = createWriteStream(path.join(this.dir, `${this.name}.log`), { flags: 'a' });
        this.out = '';
        this.child = spawn(path.join(bin, this.program), [`--config=${this.config}`], {
            stdio: ['ignore', 'pipe', 'pipe'],
            env: { ...process.env, ...this.env, ASAN_OPTIONS: `detect_leaks=0:abort_on_error=0${process.env.ORT_ASAN_MORE ?? ''}` },
        });
        this.child.stdout.on('data', (bytes) => (this.out += bytes));
        this.child.stderr.pipe(log);
        this.ended = new Promise((done) => {
            this.child.once('error', (error) => done({ error }));
            this.child.once('exit', (code, signal) => done({ code, signal }));
        });
        this.ended.then((how) => (this.how = how));
        this.how = null;
    }

    /** Ends it, by this signal; resolves to {code, signal}. */
    async stop(signal = 'SIGTERM') {
        if (this.child === null) {
            return null;
        }
        if (this.how === null) {
            this.child.kill(signal);
        }
        const timer = setTimeout(() => this.child.kill('SIGKILL'), 60000);
        const how = await this.ended;
        clearTimeout(timer);
        this.child = null;
        return how;
    }

    async log() {
        return readFile(path.join(this.dir, `${this.name}.log`), 'utf8').catch(() => '');
    }
}

export class Hub {
    /** nodes: [{name, region, extra, env}] where extra is more YAML, env more of the environment. */
    static async start({ nodes = [{ name: 'eu', region: 'eu-central' }], controlExtra = '' } = {}) {
        const hub = new Hub();
        hub.dir = await mkdtemp(path.join(await scratchRoot(), 'orthant-e2e-'));
        try {
            await hub.#startControl(controlExtra);
            hub.nodes = {};
            for (const node of nodes) {
                await hub.addNode(node);
            }
        } catch (error) {
            const log = (await hub.control?.log()) ?? '';
            await hub.stop();
            throw new Error(`hub did not start: ${error.message}\n${log.slice(-4000)}`, { cause: error });
        }
        return hub;
    }

    async #startControl(extra) {
        const [admin, listen, publish, control] = await freePorts(4);
        this.adminUrl = `http://127.0.0.1:${admin}`;
        this.hubPorts = { listen, publish };
        const config = path.join(this.dir, 'control.yaml');
        await writeFile(
            config,
            `data_dir: ${this.dir}/control
admin:
  listen: 127.0.0.1:${admin}
hub:
  listen: tls+tcp://127.0.0.1:${listen}
  publish: tls+tcp://127.0.0.1:${publish}
  control: tls+tcp://127.0.0.1:${control}
${extra}`,
        );
        this.control = new Process('control', 'orthant-control', config, this.dir);
        this.control.start();
        this.adminToken = await until('bootstrap token', () => {
            if (this.control.how !== null) {
                throw new Error(`orthant-control ended: ${JSON.stringify(this.control.how)}`);
            }
            return this.control.out.match(/orth[a-z]*_[a-z0-9_]{20,}/)?.[0];
        });
        await until('admin API', async () => (await fetch(`${this.adminUrl}/readyz`)).ok);
    }

    /** One call of the admin API; throws on anything but a 2xx. */
    async admin(method, target, body, headers = {}) {
        const answer = await fetch(`${this.adminUrl}${target}`, {
            method,
            headers: { authorization: `Bearer ${this.adminToken}`, 'content-type': 'application/json', ...headers },
            body: body === undefined ? undefined : JSON.stringify(body),
        });
        const text = await answer.text();
        if (!answer.ok) {
            throw new Error(`${method} ${target}: ${answer.status} ${text}`);
        }
        return text === '' ? null : JSON.parse(text);
    }

    /** Deletes a tenant as it is now. */
    async deleteTenant(name) {
        const target = `${this.adminUrl}/v1/tenants/${name}`;
        const seen = await fetch(target, { headers: { authorization: `Bearer ${this.adminToken}` } });
        return this.admin('DELETE', `/v1/tenants/${name}`, undefined, { 'if-match': seen.headers.get('etag') });
    }

    async addNode({ name, region, extra = '', env = {} }) {
        const [data, forward] = await freePorts(2);
        const config = path.join(this.dir, `${name}.yaml`);
        const token = path.join(this.dir, `${name}.join`);
        await this.admin('POST', '/v1/regions', { name: region }).catch((error) => {
            if (!/409/.test(error.message)) {
                throw error;
            }
        });
        await writeFile(token, (await this.admin('POST', '/v1/join-tokens', { region })).token, { mode: 0o600 });
        await writeFile(
            config,
            `data_dir: ${this.dir}/${name}
name: ${name}
region: ${region}
http:
  listen: 127.0.0.1:${data}
  drain_grace_ms: 0
hub:
  urls: ["tls+tcp://127.0.0.1:${this.hubPorts.listen}"]
  publish: ["tls+tcp://127.0.0.1:${this.hubPorts.publish}"]
  join_token_file: ${token}
forward:
  listen: tls+tcp://127.0.0.1:${forward}
${extra}`,
        );
        const node = new Process(name, 'orthant-node', config, this.dir, env);
        node.url = `http://127.0.0.1:${data}`;
        this.nodes[name] = node;
        node.start();
        await this.ready(name);
        return node;
    }

    /** Waits until the node answers readyz with 200. */
    async ready(name) {
        const node = this.nodes[name];
        try {
            await until(`node ${name}`, async () => {
                if (node.how !== null) {
                    throw new Error(`it ended: ${JSON.stringify(node.how)}`);
                }
                return (await fetch(`${node.url}/readyz`)).status === 200;
            });
        } catch (error) {
            throw new Error(`${error.message}: ${error.cause}\n${(await node.log()).slice(-4000)}`, { cause: error });
        }
    }

    /** A tenant and a key of it; resolves to {tenant, key} once the key is answered at `at`. */
    async tenant(name, { regions = [], overrides = {}, scopes, at = 'eu' } = {}) {
        const limits = { max_requests_per_minute: null, max_requests_per_minute_per_key: null, ...overrides };
        const tenant = await this.admin('POST', '/v1/tenants', { name, regions, overrides: limits });
        const key = await this.key(name, { scopes });
        const url = this.nodes[at].url;
        await until(`key of ${name} at ${at}`, async () => {
            const answer = await fetch(`${url}/collections`, { headers: { 'api-key': key } });
            return answer.status === 200;
        });
        return { tenant, key, url };
    }

    async key(tenant, { scopes, ...rest } = {}) {
        const body = { name: 'test', env: 'test', ...rest };
        if (scopes !== undefined) {
            body.scopes = scopes;
        }
        return (await this.admin('POST', `/v1/tenants/${tenant}/keys`, body)).token;
    }

    async stop() {
        const ends = Object.values(this.nodes ?? {}).map((node) => node.stop());
        ends.push(this.control?.stop());
        await Promise.all(ends);
        if (process.env.ORT_KEEP === undefined) {
            await rm(this.dir, { recursive: true, force: true });
        } else {
            console.error(`kept ${this.dir}`);
        }
    }
}
